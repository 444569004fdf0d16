"""`lazyfs convert`: one shard of a plan. Shards communicate only by files that they leave in the store.

A layer that images of several shards share is read by one of these shards. If an image needs another shard's
layer that is not there yet, the image is deferred, and a file says so. The shard that ends last finds all
layers, and converts the deferred images. So shards may run side by side, one after the other, or again.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import msgspec

from lazyfs.core.digest import Digest
from lazyfs.core.errors import FormatError
from lazyfs.core.tree_paths import layer_path
from lazyfs.images.snapshot_form import SnapshotForm, form_of, inode_of
from lazyfs.repository.conversion_files import conversion_file, lease_of
from lazyfs.store import Store, StoreConflict
from lazyfs.store.protocol import StoreError
from lazyfs.sync.conversion import Converted, Surroundings, convert, open_tools
from lazyfs.sync.failures import failure_of
from lazyfs.sync.plan import Plan, shard_of
from lazyfs.sync.preparation import Job

T = TypeVar("T")
_layers = msgspec.json.Decoder(dict[str, SnapshotForm])
_image = msgspec.json.Decoder(Converted)


class ShardReport(NamedTuple):
    """The outcome of one shard."""

    converted: list[str]
    """Places of the images that this shard has converted."""
    failed: dict[str, str]
    waiting: list[str]
    """Places of this shard's images that still need layers of other shards."""


class LeftFiles:
    """The files that the shards of a plan have left in the store. In its methods, `number` is an image's
    index in the plan."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store = store
        self._plan = plan
        self._token = plan.lease

    def names(self) -> set[str]:
        """Returns the names of the files."""
        return {name for name in self._store.metadata_names() if lease_of(name) == self._token}

    def image(self, number: int) -> Converted | None:
        """Returns the result of converting an image; None if it is not converted. Raises FormatError."""
        data = self._store.read_metadata(conversion_file(self._token, number, "image"))
        return None if data is None else self._decoded(_image, number, data)

    def failure(self, number: int) -> str | None:
        """Returns the reason why an image failed the last time; None if it did not fail."""
        data = self._store.read_metadata(conversion_file(self._token, number, "failed"))
        return None if data is None else self._decoded(_image, number, data).failed

    def layers(self, number: int) -> dict[str, SnapshotForm] | None:
        """Returns the snapshots, by path, of the layers that were read for a deferred image; None if the
        image is not deferred."""
        data = self._store.read_metadata(conversion_file(self._token, number, "layers"))
        return None if data is None else self._decoded(_layers, number, data)

    def leave(self, number: int, kind: str, content: Converted | dict[str, SnapshotForm]) -> None:
        """Leaves a file about an image. `kind`: `image` for the result, `layers` for the layers of a deferred
        image, `failed` for a failure. If another shard has already left a file of this kind, that file stays,
        since its content is the same; only a file about a failure is replaced."""
        name = conversion_file(self._token, number, kind)
        if kind == "failed":
            self._store.delete_metadata(name)
        try:
            self._store.write_metadata(name, msgspec.json.encode(content), expected=None)
        except StoreConflict:
            pass

    def forget(self, names: Iterable[str]) -> None:
        """Deletes the files with these names."""
        for name in names:
            self._store.delete_metadata(name)

    def _decoded(self, decoder: "msgspec.json.Decoder[T]", number: int, data: bytes) -> T:
        try:
            return decoder.decode(data)
        except msgspec.MsgspecError as error:
            place = self._plan.images[number].job.target().place
            raise FormatError(f"what a shard has left of {place} is damaged: {error}") from None


class Shard:
    """The work of one shard."""

    def __init__(
        self,
        plan: Plan,
        surroundings: Surroundings,
        number: int,
        shards: int,
        *,
        at_once: int,
        tell: Callable[[str], None],
    ) -> None:
        """`number`: the number of this shard, from 0. `shards`: the number of shards. `at_once`: the largest
        number of images that are read at the same time. Raises LeaseLost if the plan's lease has expired, and
        the errors of reading the store."""
        self._plan = plan
        self._surroundings = surroundings
        self._tools = open_tools(surroundings)
        self._files = LeftFiles(self._tools.preparer.store, plan)
        self._image_shards, self._layer_shards = shard_of(plan, shards)
        self._number = number
        self._at_once = at_once
        self._tell = tell
        self._taken: set[str] = set()
        self._report = ShardReport([], {}, [])

    def run(self) -> ShardReport:
        """Converts this shard's images, and then, of the images that any shard has deferred, those that lack
        no layer any more. Raises StoreError."""
        self._take()
        mine = [number for number, shard in enumerate(self._image_shards) if shard == self._number]
        self._each(self._convert, mine)
        while True:
            self._take()
            ready = [number for number in self._put_off() if not self._missing(number)]
            if not ready:
                break
            self._each(self._convert, ready)
        self._report.waiting.extend(
            self._place(number) for number in self._put_off() if self._image_shards[number] == self._number
        )
        return self._report

    def _each(self, work: Callable[[int], None], numbers: list[int]) -> None:
        with ThreadPoolExecutor(self._at_once, "image") as pool:
            for future in [pool.submit(work, number) for number in numbers]:
                future.result()

    def _convert(self, number: int) -> None:
        if self._has(number, "image"):
            return
        image = self._plan.images[number]
        if self._missing(number, others=True):
            self._convert_layers(number)
            return
        answer = convert(self._surroundings, image.job, {})
        if answer.store_failed:
            raise StoreError(answer.failed)
        if answer.failed:
            self._fails(number, answer)
            return
        self._files.leave(number, "image", answer)
        self._files.forget([conversion_file(self._plan.lease, number, "failed")])
        self._report.failed.pop(self._place(number), None)
        self._report.converted.append(self._place(number))
        self._tell(f"converted {self._place(number)}")

    def _convert_layers(self, number: int) -> None:
        """Reads those layers of an image that belong to this shard and that no shard has read yet, and defers
        the image."""
        job = self._plan.images[number].job
        wanted = [diff_id for diff_id in self._missing(number) if self._layer_shards[diff_id] == self._number]
        try:
            digests = [Digest(bytes.fromhex(diff_id)) for diff_id in wanted]
            made = (
                self._tools.preparer.prepare_layers(Job(job.target(), job.digest), digests) if wanted else {}
            )
        except (StoreError, StoreConflict):
            raise
        except Exception as error:  # noqa: BLE001 - fails alone
            self._fails(number, Converted(failed=failure_of(error).reason))
            return
        self._tools.preparer.store.sync()
        self._files.leave(number, "layers", {path: form_of(inode) for path, inode in made.items()})

    def _fails(self, number: int, answer: Converted) -> None:
        self._files.leave(number, "failed", answer)
        self._report.failed[self._place(number)] = answer.failed
        self._tell(f"failed {self._place(number)}: {answer.failed}")

    def _take(self) -> None:
        """Reads the files that all shards have left since the last call, and makes their layers known to this
        shard."""
        there = self._files.names()
        for number in range(len(self._plan.images)):
            for kind in ("image", "layers"):
                name = conversion_file(self._plan.lease, number, kind)
                if name in there and name not in self._taken:
                    self._taken.add(name)
                    found = self._files.image(number) if kind == "image" else None
                    shared = found.shared if found else self._files.layers(number) or {}
                    self._tools.pending.add({path: inode_of(form) for path, form in shared.items()})

    def _put_off(self) -> list[int]:
        return [
            number
            for number in range(len(self._plan.images))
            if self._has(number, "layers")
            and not self._has(number, "image")
            and self._place(number) not in self._report.failed
        ]

    def _has(self, number: int, kind: str) -> bool:
        return conversion_file(self._plan.lease, number, kind) in self._taken

    def _missing(self, number: int, *, others: bool = False) -> list[str]:
        """Returns the diff_ids, in hex, of the layers that an image needs and that neither the tree has nor
        any shard has read yet. `others`: True to return only the layers that belong to other shards."""
        wanted = [
            diff_id
            for diff_id in self._plan.images[number].layers
            if not (others and self._layer_shards[diff_id] == self._number)
        ]
        tree = self._tools.preparer.tree()
        return [one for one in wanted if tree.find(layer_path(Digest(bytes.fromhex(one)))) is None]

    def _place(self, number: int) -> str:
        return self._plan.images[number].job.target().place
