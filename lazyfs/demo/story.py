"""The demo's steps in order, and their results."""

import importlib.resources
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, cast

import urllib3

from lazyfs.demo.commands import (
    Mount,
    Origin,
    StepFailed,
    Timed,
    Traffic,
    Way,
    lazyfs,
    serving,
    timed,
    workplace,
)
from lazyfs.demo.files import PACKAGES, interpreter, layers, path_in_image
from lazyfs.demo.layout import Layout, unpack
from lazyfs.system.own_python import LAZYFS

_NAME = "lazyfs.example/demo/python:host"
_GIVEN = "lazyfs.example/demo/image:given"
_PROGRAM = "/opt/demo/program.py"
_LAYERS = "data/layers"
"""The folder, in the store's directory, from which the compressed layers are served for the comparison with a
pull. It is no part of the store's format."""


@dataclass(frozen=True, slots=True)
class DemoImage:
    """The published image."""

    name: str
    layers: int
    files: int
    plain_bytes: int
    compressed_bytes: int


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the program, and so one line of the report's table."""

    how: str
    timed: Timed
    traffic: Traffic | None
    """The origin's answers during the start; None for a start that needs nothing from the origin."""


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of the whole demo, for the report."""

    image: DemoImage | None
    """The image's sizes; None for an image of another publisher, who alone knows them."""
    publish_seconds: float
    starts: tuple[Start, ...]


def python_image(directory: str) -> tuple[Layout, DemoImage]:
    """Makes an OCI layout of this machine's Python: interpreter, standard library, packages, program."""
    layout = Layout(directory)
    found = layers()
    for _, paths in found:
        layout.add_layer(paths, path_in_image=path_in_image)
    program = importlib.resources.files("lazyfs.demo").joinpath("program.py").read_bytes()
    layout.add_layer([], {_PROGRAM: program})
    environment = [f"{name}={value}" for name, value in _environment().items()]
    layout.finish("host", {"Env": environment, "Entrypoint": [interpreter()], "Cmd": [_PROGRAM]})
    image = DemoImage(_NAME, len(layout.layers), layout.files, layout.plain_bytes, layout.compressed_bytes)
    return layout, image


def tell(source: str | None, command: tuple[str, ...], say: Callable[[str], None], way: Way) -> Result:
    """Publishes an image, serves the store, mounts it, and runs the command several times. `source`: the
    image to publish; None for this machine's Python.

    `say`: called with a line before each step. Everything is removed at the end. Raises LazyfsError.
    """
    with ExitStack() as stack:
        work = stack.enter_context(workplace())
        layout, image = None, None
        name = _NAME
        arguments: tuple[str, ...] = ("--", interpreter(), _PROGRAM)
        if source is None:
            say("making an OCI image of this machine's Python")
            layout, image = python_image(os.path.join(work, "layout"))
            source = f"oci:{layout.directory}:host"
        else:
            name, arguments = _GIVEN, ("--", *command) if command else ()
        say(f"publishing it as {name}")
        seconds, store = _publish(source, name, work)
        origin = stack.enter_context(serving(store, os.path.join(work, "access.log"), way))
        mount = Mount(origin.url, work)
        stack.callback(mount.umount)
        say(f"serving it at {origin.url}, mounting it, running a program from the mount")
        in_mount = [*LAZYFS, "run", os.path.join(mount.point, name), *arguments]
        starts = [
            Start("lazily, nothing here yet", timed(in_mount, mount.mount), origin.traffic()),
            Start("lazily, again", timed(in_mount), origin.traffic()),
        ]
        mount.umount()
        starts.append(
            Start("lazily, mounted anew, node cache warm", timed(in_mount, mount.mount), origin.traffic())
        )
        mount.umount()
        if layout is not None:
            say("fetching the layers from the same server and unpacking them, for comparison")
            lay_out(layout, store)
            starts += _unpacked(layout, origin, os.path.join(work, "unpacked"), arguments)
        return Result(image, seconds, tuple(starts))


def _publish(source: str, name: str, work: str) -> tuple[float, str]:
    """Publishes a source under `name`, in a new store in the directory `work`; returns (seconds that
    publishing took, path of the store)."""
    store, keys = os.path.join(work, "store"), os.path.join(work, "keys")
    lazyfs("repo", "init", store, "--name", "demo.lazyfs.example", "--keys", keys)
    shutil.copy(os.path.join(store, "metadata/1.root.json"), os.path.join(work, "root.json"))
    begun = time.perf_counter()
    lazyfs("publish", source, store, "--as", name, "--keys", keys)
    return time.perf_counter() - begun, store


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": PACKAGES,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def lay_out(layout: Layout, store: str) -> None:
    """Puts the compressed layers where the origin serves them, beside the store's objects."""
    os.mkdir(os.path.join(store, _LAYERS))
    for path in layout.layer_files():
        os.rename(path, os.path.join(store, _LAYERS, os.path.basename(path)))


def fetched(layout: Layout, origin: Origin) -> Iterator[BinaryIO]:
    """Yields the compressed layers as the origin sends them, the lowest first. Raises StepFailed."""
    for path in layout.layer_files():
        yield _file(f"{origin.url}/{_LAYERS}/{os.path.basename(path)}")


def _file(url: str) -> BinaryIO:
    try:
        answer = urllib3.request("GET", url, preload_content=False, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise StepFailed(f"fetching the layers: {error}") from None
    if answer.status != 200:
        raise StepFailed(f"fetching the layers: {url}: HTTP {answer.status}")
    return cast(BinaryIO, answer)


def _unpacked(layout: Layout, origin: Origin, directory: str, arguments: tuple[str, ...]) -> list[Start]:
    environment = [f"--env={name}={value}" for name, value in _environment().items()]
    argv = [*LAZYFS, "run", directory, *environment, *arguments]
    origin.traffic()
    first = timed(argv, lambda: unpack(fetched(layout, origin), directory))
    return [
        Start("fetch and unpack everything first", first, origin.traffic()),
        Start("unpacked, again", timed(argv), None),
    ]
