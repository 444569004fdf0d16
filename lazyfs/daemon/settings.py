"""The settings of one mount. Each is defined here once: the command line, the TOML file, `mount -o` and the
table in docs/mounting.md are derived from these fields (`mount_options`)."""

from typing import Annotated, Literal

import msgspec


def _option(
    help_text: str,
    *,
    metavar: str = "",
    default: str = "",
    also: str = "",
    page: str = "",
    environment: str = "",
) -> msgspec.Meta:
    """Describes a field that is an option of `lazyfs mount`.

    `default`: the text for --help if the field's own default says too little. `also`: a second sentence, for
    the documents only. `page`: the chapter of docs/ that says more. `environment`: the environment variable
    that gives the value if the command line does not.
    """
    return msgspec.Meta(
        description=help_text,
        extra={
            "metavar": metavar,
            "default": default,
            "also": also,
            "page": page,
            "environment": environment,
        },
    )


class RepositorySource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address of one repository of a site, and its root of trust.

    `revision`, `proxy` and the three files for TLS default to the mount's own."""

    url: str
    trust: str | None = None
    revision: str | None = None
    proxy: str | None = None
    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    """The three TLS files belong together: if one of them is given, none of the mount's is used."""


class ProfileReporting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section [profile]: the collector to which the mount reports starts, and the credential for it."""

    report: str
    """URL of a collector (`lazyfs collect`)."""
    token_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    ca: str | None = None
    seconds: float = 60.0
    """Length of a start, from its first read. An application of some 2,000 files, read over a WAN without a
    profile, takes 40 seconds."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one mount, named as in the TOML file; the command line has `-` in place of `_`."""

    mountpoint: str = ""
    source: str = ""
    """URL or store directory; empty if `repositories` are shown below the mount point."""
    repositories: dict[str, RepositorySource] = {}
    profile: ProfileReporting | None = None
    """The collector of reports; None if starts are not reported."""
    trust: Annotated[
        str | None,
        _option(
            "Root of trust, for the first mount of a repository.",
            metavar="ROOT.json|FINGERPRINT",
            default="a store directory of this machine is believed",
            also="Needed once: the trusted root is kept under the cache directory.",
            page="trust.md",
        ),
    ] = None
    revision: Annotated[
        str | None,
        _option(
            "Show this revision, and stay with it.",
            metavar="N|DATE|NAME",
            default="the newest one, always",
            also="A name is looked up once, at the mount.",
            page="history.md#mounting-an-older-revision",
        ),
    ] = None
    proxy: Annotated[
        str | None,
        _option(
            "Proxies, e.g. 'http://p1:3128|http://p2:3128;DIRECT', or @FILE that holds them.",
            metavar="CHAIN",
            default="LAZYFS_PROXY, or DIRECT",
            also="A password belongs into the file or the variable.",
            page="chain.md",
            environment="LAZYFS_PROXY",
        ),
    ] = None
    ca: Annotated[
        str | None,
        _option(
            "CA certificates (PEM) for https, instead of the system's.",
            metavar="FILE",
            default="SSL_CERT_FILE, SSL_CERT_DIR, the system's store",
            page="chain.md#https",
        ),
    ] = None
    client_cert: Annotated[
        str | None,
        _option("Client certificate (PEM) for https.", metavar="FILE", default="none"),
    ] = None
    client_key: Annotated[
        str | None,
        _option(
            "The key of --client-cert, without a passphrase.",
            metavar="FILE",
            default="in the same file",
        ),
    ] = None
    http: Annotated[
        Literal["auto", "requests", "pycurl"],
        _option("Which library makes the requests.", default="auto: pycurl where it is installed"),
    ] = "auto"
    cache: Annotated[
        str,
        _option(
            "The cache directory. All mounts of a user may share it.",
            metavar="DIR",
            default="/var/cache/lazyfs for root, ~/.cache/lazyfs for others",
            also="Objects lie in `DIR/objects`; `DIR/state` holds the trusted metadata and the inode "
            "numbers in use.",
            page="cache.md",
        ),
    ] = ""
    cache_limit: Annotated[
        str, _option("Most bytes the cache takes, e.g. 20G; 0 for none.", metavar="SIZE", page="cache.md")
    ] = "4G"
    lower: Annotated[
        str | None,
        _option(
            "A site's pre-filled store, read before the network is asked.",
            metavar="DIR",
            default="none",
            page="cache.md",
        ),
    ] = None
    cache_policy: Annotated[
        Literal["lru", "sieve"] | None,
        _option(
            "Order of eviction.",
            default="the cache's present one; lru in a new cache",
            also="The first mount on a cache directory decides for all, as with the limit.",
            page="cache.md#which-value-goes-lru-and-sieve",
        ),
    ] = None
    cache_keep_free: Annotated[
        str,
        _option("Bytes of the cache's disk to leave free under any limit.", metavar="SIZE"),
    ] = "0"
    memory_limit: Annotated[
        str,
        _option(
            "Most memory of the daemon. A lower limit of its control group counts instead.",
            metavar="SIZE",
            also="At least 100M.",
            page="node.md#memory",
        ),
    ] = "300M"
    fuse: Annotated[
        Literal["auto", "direct", "pyfuse3"],
        _option(
            "How to talk to the kernel.",
            default="auto: direct where it works",
            page="mounting.md#sessions-and-upcalls",
        ),
    ] = "auto"
    suid: Annotated[
        bool, _option("Let setuid programs of images work on this host.", default="off: nosuid")
    ] = False
    dev: Annotated[bool, _option("Let device files of images work on this host.", default="off: nodev")] = (
        False
    )
    inode32: Annotated[
        bool,
        _option(
            "Show inode numbers below 2^32, for 32-bit programs without large file support.",
            default="off: 64 bits",
            also="For the direct session only.",
            page="mounting.md#32-bit-programs",
        ),
    ] = False
    no_keeper: Annotated[
        bool,
        _option(
            "Let the mount die with its daemon.",
            default="off: a keeper holds it and starts another daemon",
            also="For the direct session in the background; systemd has a store of descriptors instead.",
            page="node.md#a-daemon-that-is-killed",
        ),
    ] = False
    permissions: Annotated[
        Literal["image", "open"] | None,
        _option(
            "Have the kernel check the image's modes, or show them and let everybody read.",
            default="image for root, open for others",
            also="Other users see a user's mount of a private repository only if `open` is given.",
        ),
    ] = None
    user: Annotated[
        str | None,
        _option(
            "As root: become this user for good after mounting.",
            metavar="NAME",
            default="stays",
            also="The cache directory is made this user's.",
        ),
    ] = None
    log: Annotated[
        str | None, _option("Where the daemon writes its log.", metavar="FILE", default="nowhere")
    ] = None
    trace: Annotated[
        str | None,
        _option("Write one line for each file opened and object fetched.", metavar="FILE", default="off"),
    ] = None
    metrics: Annotated[
        str | None,
        _option("Serve Prometheus metrics there, at /metrics.", metavar="HOST:PORT", default="off"),
    ] = None
    refresh: Annotated[
        float, _option("How often to look for a new revision, give or take a fifth.", metavar="SECONDS")
    ] = 240.0
    patience: Annotated[
        float, _option("How long a read waits for its bytes.", metavar="SECONDS", page="chain.md")
    ] = 30.0
    max_stale: Annotated[
        float | None,
        _option(
            "Stop serving a revision so long after its expiry.",
            metavar="SECONDS",
            default="never",
            also="The mount is taken away then; of several repositories that one.",
        ),
    ] = None
    prefetch_share: Annotated[
        int,
        _option(
            "How much of the line fetching ahead may take at most.",
            metavar="PERCENT",
            also="Of the requests and bytes under way, 1 to 90; the rest stays free for readers. Images that "
            "start together get equal parts.",
        ),
    ] = 75
    on_outage: Annotated[
        Literal["fail", "wait"],
        _option("With every server dead, reads fail or wait until one lives.", page="chain.md"),
    ] = "fail"
    uid: Annotated[
        int | None,
        _option(
            "Show every file as this user's, for runtimes without privileges.",
            metavar="UID",
            default="the image's",
        ),
    ] = None
    gid: Annotated[
        int | None,
        _option(
            "Show every file as this group's, for runtimes without privileges.",
            metavar="GID",
            default="the image's",
        ),
    ] = None

    def is_site(self) -> bool:
        """Returns True if many repositories are shown below the mount point."""
        return bool(self.repositories)

    def sources(self) -> dict[str, RepositorySource]:
        """Returns the site's repositories by name, with the mount's settings for those not given."""
        return {name: self._completed(given) for name, given in self.repositories.items()}

    def single_source(self) -> RepositorySource:
        """Returns the only repository of a mount that is not a site."""
        return self._completed(RepositorySource(url=self.source, trust=self.trust))

    def _completed(self, given: RepositorySource) -> RepositorySource:
        changes: dict[str, str | None] = {}
        if given.revision is None:
            changes["revision"] = self.revision
        if given.proxy is None and "://" in given.url:  # a directory needs no proxy
            changes["proxy"] = self.proxy
        if not (given.ca or given.client_cert or given.client_key):
            changes |= {"ca": self.ca, "client_cert": self.client_cert, "client_key": self.client_key}
        return msgspec.structs.replace(given, **changes)
