"""`lazyfs podman-store`: offers images of a mount to podman as if it had pulled them."""

import os
import shlex

import click

from lazyfs.cli.say import say
from lazyfs.core.errors import UsageError
from lazyfs.runtimes.find_image import find, node_mounts
from lazyfs.runtimes.image_reference import looked_up
from lazyfs.runtimes.podman_store import add_image


@click.command("podman-store")
@click.argument("directory")
@click.argument("images", nargs=-1, required=True)
def command(directory: str, images: tuple[str, ...]) -> int:
    """Put IMAGES into DIRECTORY, a store of images whose files lie in a mount: podman unpacks nothing.

    DIRECTORY is an additional image store of podman, buildah, skopeo and CRI-O (storage.conf:
    additionalimagestores). Run it again for more images, or when a tag has moved.

    \b
    Example:
      lazyfs podman-store /var/lib/lazyfs/podman library/alpine:3.10.2
      podman --storage-opt additionalimagestore=/var/lib/lazyfs/podman run --pull=never alpine:3.10.2
    """
    store = os.path.abspath(directory)
    mounts = node_mounts()
    for image in images:
        name = looked_up(image)
        if name is None:
            raise UsageError(
                f"image {image}: only images of mounts are put into a store; give the name of one"
            )
        stored = add_image(store, find(name, mounts))
        option = shlex.quote(f"additionalimagestore={store}")
        say(f"podman --storage-opt {option} run --pull=never {stored.name}")
    return 0
