"""`lazyfs export`: writes a published image as files that other tools read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from lazyfs.cli.history_source import open_history
from lazyfs.cli.progress_bar import ProgressBar
from lazyfs.cli.say import say, say_json
from lazyfs.cli.setting_options import setting_options
from lazyfs.cli.store_options import json_option
from lazyfs.core.byte_size import shown_size
from lazyfs.core.errors import UsageError
from lazyfs.images.exports.export import (
    STDOUT,
    ExportOptions,
    ExportReport,
    Target,
    export,
    parse_target,
)
from lazyfs.images.exports.image import ExportedImage
from lazyfs.images.exports.published_image import PublishedImage
from lazyfs.system.mountpoint import FSTYPE, absolute, find


@click.command()
@click.argument("image")
@click.argument("source", metavar="STORE|URL|MOUNTPOINT")
@click.argument("target", metavar="TARGET")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
@setting_options("trust", "proxy", "ca", "client_cert", "client_key", "cache")
def command(image: str, source: str, target: str, force: bool, as_json: bool, **settings: Any) -> None:
    """Write IMAGE of a repository as TARGET, for tools and machines that have no lazyfs.

    TARGET is oci:DIR, oci-archive:FILE, docker-archive:FILE, tar:FILE or sif:FILE; tar:- is the standard
    output. From a store or URL the OCI and docker forms have the image's own layers; from a mount, and for
    published trees, they have one with everything. tar: and sif: hold the merged tree as a mount shows it.
    sif: needs Debian's package squashfs-tools-ng.

    \b
    Examples:
      lazyfs export registry.example/app:1 /srv/unpacked oci-archive:app.tar
      lazyfs export registry.example/app:1 /srv/unpacked sif:app.sif
      lazyfs export registry.example/app:1 /mnt/unpacked tar:app-1.tar
      lazyfs export registry.example/app:1 http://origin.example/unpacked oci:./app --trust root.json
    """
    to = parse_target(target)
    with (
        _opened(image, source, settings) as found,
        ProgressBar(found.place, enabled=not as_json) as bar,
    ):
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.show(done, found.size, shown_size(done))

        def warn(message: str) -> None:
            say(f"lazyfs: warning: {message}", err=True)

        report = export(found, to, ExportOptions(replace=force, warn=warn, advance=advance))
    if as_json:
        say_json(_fields(found, to, report), err=to.path == STDOUT)
    else:
        say(*_lines(found, to, report), err=to.path == STDOUT)


@contextmanager
def _opened(image: str, source: str, settings: dict[str, Any]) -> Iterator[ExportedImage]:
    """Opens an image of a store, of a URL or of a mount. Raises UsageError if there is none of this name."""
    if "://" not in source:
        path = absolute(source)
        mount = find(path)
        if mount is not None and mount.fstype == FSTYPE:
            yield _mounted(image, path)
            return
    with open_history(source, settings) as history:
        yield PublishedImage(history.read, history.newest.root, image)


def _mounted(image: str, mountpoint: str) -> ExportedImage:
    from lazyfs.images.exports.directory_image import DirectoryImage
    from lazyfs.runtimes.find_image import NodeMounts, is_path, node_mounts
    from lazyfs.runtimes.find_image import find as find_image

    if is_path(image):
        raise UsageError(f"image {image}: give its name in {mountpoint}")
    sites = node_mounts().sites & {mountpoint}
    found = find_image(image, NodeMounts((mountpoint,), sites=frozenset(sites)))
    if not os.path.isdir(found.root):
        raise UsageError(f"image {image}: {found.root} is no directory: copy the file")
    return DirectoryImage(found.root, found.metadata, os.path.relpath(found.path, mountpoint))


def _fields(image: ExportedImage, target: Target, report: ExportReport) -> dict[str, Any]:
    fields: dict[str, Any] = {"image": image.place, "target": str(target), "bytes_read": report.bytes_read}
    if report.image:
        fields["id"] = f"sha256:{report.image.config.hex()}"
        fields["layers"] = [
            {"diff_id": f"sha256:{layer.diff_id.hex()}", "original": layer.original}
            for layer in report.image.layers
        ]
    return fields


def _lines(image: ExportedImage, target: Target, report: ExportReport) -> list[str]:
    lines = [f"{image.place} -> {target}: {shown_size(report.bytes_read)} of files read"]
    if report.image:
        kept = sum(layer.original for layer in report.image.layers)
        lines.append(f"{len(report.image.layers)} layers, {kept} of them with the diff_id of their source")
    return lines
