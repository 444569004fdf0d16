"""Starts of programs that wishes ask for. When an image is new, its starts are recorded as a profile, so that
workers fetch the objects of a start in a few requests. The image is published first, and stays even if its
start cannot be recorded."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from lazyfs.core.digest import sha256
from lazyfs.core.errors import LazyfsError
from lazyfs.images.profiles import Trace, publish_profile, read_traces
from lazyfs.repository.keys import Keys
from lazyfs.store import Store
from lazyfs.store.protocol import StoreConflict, StoreError
from lazyfs.sync.failures import failure_of
from lazyfs.sync.ledger import Ledger
from lazyfs.sync.targets import Target


class NoRecorder(LazyfsError):
    """No start can be recorded on this machine: there is no FUSE, or no runtime."""


class Recorder(Protocol):
    """Starts programs from images, and records the objects that they read."""

    def record(self, place: str, commands: Sequence[Sequence[str]]) -> list[str]:
        """Starts each command in the image at a place of the newest revision; returns the paths of the
        traces. Raises NoRecorder; LazyfsError if a command fails or exceeds its limits."""
        ...


class StartSettings(NamedTuple):
    """The settings of a run for recorded starts and for profiles."""

    recorder: Recorder | None
    """The recorder; None if the configuration does not allow starts."""
    images: int
    """The largest number of images whose starts one run records. The remaining images are left to later
    runs."""
    inherit: bool = True
    """True to use, for a new image, the profile of the last image in the same repository of its registry, as
    far as it applies."""
    guess: bool = False
    """True to guess a profile for a new image that inherits none."""


NOT_ALLOWED = StartSettings(None, 0)


def record_starts(
    targets: Iterable[Target], settings: StartSettings, store: Store, keys: Keys, ledger: Ledger
) -> list[str]:
    """Records the starts that are due and publishes them as profiles; returns notices for the operator.

    A start is due once for each combination of an image's digest and set of commands, and not again if it
    fails. Raises StoreError or StoreConflict.
    """
    due = [(one, key) for one in targets if (key := _due(one, ledger))]
    if due and settings.recorder is None:
        return [
            "wishes ask for starts to be recorded (profile), which the configuration does not allow "
            f"([profiles] in docs/service.md): published without one: {len(due)} images"
        ]
    said: list[str] = []
    for target, key in due[: settings.images]:
        assert settings.recorder is not None
        try:
            publish_profile(store, keys, target.place, _recorded(target, settings.recorder), ledger.now)
        except NoRecorder as error:
            return [
                *said,
                f"no start can be recorded here: {error}: published without one: {len(due)} images",
            ]
        except (StoreError, StoreConflict):
            raise
        except Exception as error:  # noqa: BLE001 - fails alone
            reason = failure_of(error).reason
            said.append(f"{target.place}: its start was not recorded: {reason}: it is published without")
        image = ledger.image(target.place)
        assert image is not None
        image.profiled = key
    return said


def _recorded(target: Target, recorder: Recorder) -> dict[str, Trace]:
    """Records the starts of a target's commands. Returns, for each program, the objects and small files that
    its starts touched."""
    touched: dict[str, Trace] = {}
    for command in target.profiles:
        touched.setdefault(command[0], {}).update(read_traces(recorder.record(target.place, [command])))
    return touched


def _due(target: Target, ledger: Ledger) -> str:
    """Returns a key made of the image's digest and commands, if their start has to be recorded; otherwise an
    empty text."""
    image = ledger.image(target.place)
    if not target.profiles or image is None or not image.digest:
        return ""
    text = "\0".join([image.digest, *("\1".join(command) for command in target.profiles)])
    key = sha256(text.encode()).hex()[:16]
    return "" if image.profiled == key else key
