"""`lazyfs mount`: a repository, or a folder of them, as a directory."""

import gc
import os
import socket
import sys
from typing import Any

import click

from lazyfs.cli.tls_options import tls_options
from lazyfs.core.errors import UsageError


@click.command("mount")
@click.argument("places", nargs=-1, metavar="[URL|STORE] MOUNTPOINT")
@click.option(
    "--trust", metavar="ROOT.json|FINGERPRINT", help="Root of trust, for the first mount of a repository."
)
@click.option("--proxy", metavar="CHAIN", help="Proxies, e.g. 'http://p1:3128|http://p2:3128;DIRECT'.")
@tls_options
@click.option(
    "--http",
    type=click.Choice(["auto", "requests", "pycurl"]),
    help="What makes the requests [auto: pycurl where it is installed].",
)
@click.option("--cache", metavar="DIR", help="Where bytes are kept [/var/cache/lazyfs or ~/.cache/lazyfs].")
@click.option("--cache-limit", metavar="SIZE", help="Most bytes the cache takes, e.g. 20G; 0 for none [4G].")
@click.option(
    "--cache-keep-free",
    metavar="SIZE",
    help="Bytes of the cache's disk to leave free, whatever the limit [0].",
)
@click.option(
    "--cache-policy",
    type=click.Choice(["lru", "sieve"]),
    help="What the cache evicts first [what it was last told; lru].",
)
@click.option("--lower", metavar="DIR", help="A site's pre-filled store, read before the network is asked.")
@click.option(
    "--fuse", type=click.Choice(["auto", "direct", "pyfuse3"]), help="How to talk to the kernel [auto]."
)
@click.option(
    "--permissions",
    type=click.Choice(["image", "open"]),
    help="Check the image's modes, or show them and let everybody read [image for root, open for others].",
)
@click.option("--suid", is_flag=True, default=None, help="Let setuid programs of images work on this host.")
@click.option("--dev", is_flag=True, default=None, help="Let device files of images work on this host.")
@click.option("--user", metavar="NAME", help="As root: become this user after mounting.")
@click.option("--foreground", is_flag=True, help="Stay in the terminal; ctrl-C unmounts.")
@click.option("--log", metavar="FILE", help="Where the daemon writes what happens.")
@click.option("--trace", metavar="FILE", help="Write one line for each file opened and object fetched.")
@click.option("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics there.")
@click.option("--refresh", type=float, metavar="SECONDS", help="How often to look for a new revision [240].")
@click.option("--patience", type=float, metavar="SECONDS", help="How long a read waits for its bytes [30].")
@click.option("--on-outage", type=click.Choice(["fail", "wait"]), help="Reads with every server dead [fail].")
@click.option(
    "--max-stale", type=float, metavar="SECONDS", help="Stop serving a revision so long after its expiry."
)
@click.option("--uid", type=int, help="Show every file as this user's.")
@click.option("--gid", type=int, help="Show every file as this group's.")
@click.option("--config", metavar="FILE", help="TOML file with these options and [repositories].")
def command(places: tuple[str, ...], foreground: bool, config: str | None, **options: Any) -> None:
    """Mount a repository. Returns when the mount answers; unmount with `lazyfs umount`.

    \b
    Examples:
      lazyfs mount http://origin.example/unpacked /cvmfs/unpacked.example.org --trust root.json
      lazyfs mount --config /etc/lazyfs/site.toml /cvmfs
    """
    gc.disable()  # 46,000 objects of modules, no garbage among them: looking for it takes 18 ms
    from lazyfs.daemon import detach, process
    from lazyfs.daemon.settings import from_here, load, settings
    from lazyfs.system.mountpoint import absolute

    gc.enable()
    if len(places) > 2:
        raise UsageError(f"{len(places)} places given: write lazyfs mount URL MOUNTPOINT")
    fields = load(config) if config else {}
    fields |= {name: value for name, value in options.items() if value is not None}
    if len(places) == 2:
        fields["source"] = places[0]
        fields.pop("repositories", None)
    if places:
        fields["mountpoint"] = places[-1]
    if not fields.get("mountpoint"):
        raise UsageError("no mount point: write lazyfs mount URL MOUNTPOINT, or mountpoint = ... in --config")
    fields["mountpoint"] = absolute(str(fields["mountpoint"]))
    wanted = from_here(settings(fields, f"--config {config}" if config else "mount"))
    if foreground:
        process.run(wanted, lambda: _say_mounted(wanted.mountpoint))
    else:
        detach.run(lambda ready: process.run(wanted, ready), wanted.log)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # taking 500 modules down one by one would add 50 to 80 ms to every mount


def _say_mounted(mountpoint: str) -> None:
    click.echo(f"lazyfs: {mountpoint} is mounted", err=True)
    notify = os.environ.get("NOTIFY_SOCKET")
    if notify:  # systemd, Type=notify; sd_notify(3)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendto(b"READY=1", "\0" + notify[1:] if notify.startswith("@") else notify)
