"""What a profile fetches ahead of a start's reader, on the simulated clock. The schedule and the window of
unused bytes are the client's own."""

from collections.abc import Callable

from benchmarks.site.clock import Clock, Signal, Task
from benchmarks.site.images import Program, Unit
from lazyfs.client.unused_window import UnusedWindow
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.prefetch.profile_schedule import ProfileSchedule, Start
from lazyfs.prefetch.profiles import AT_ONCE


class Ahead:
    """The objects of one start, on their way in the order of the profile."""

    def __init__(
        self, clock: Clock, program: Program, is_here: Callable[[Unit], bool], bring: Callable[[Unit], Task]
    ) -> None:
        self._clock = clock
        self._units = program.units
        self._is_here = is_here
        self._bring = bring
        self._window = UnusedWindow()
        self._refs = {unit.number: _ref(unit) for unit in program.units}
        self._under_way = 0
        self._changed = Signal()

    @property
    def listed(self) -> list[ObjectRef]:
        """Returns what the profile lists."""
        return list(self._refs.values())

    def begin(self, schedule: ProfileSchedule) -> None:
        """Begins to fetch, unless the schedule says that it has been done, or that too many others are."""
        start = Digest(b"".join(ref.digest[-4:] for ref in self.listed[:8]).ljust(32, b"\0")), ""
        if schedule.begin(start, self._clock.now):
            self._clock.start(self._run(schedule, start))

    def used(self, unit: Unit) -> None:
        """Notes that the reader has used a unit."""
        self._window.use(self._refs[unit.number].digest)
        self._change()

    def _change(self) -> None:
        changed, self._changed = self._changed, Signal()
        self._clock.fire(changed)

    def _run(self, schedule: ProfileSchedule, start: Start) -> Task:
        for unit in self._units:
            if self._is_here(unit):
                continue
            while self._under_way >= AT_ONCE or not self._window.has_room(unit.plain):
                if not self._under_way:
                    schedule.ended(start)
                yield self._changed
            self._window.begin(self._refs[unit.number])
            self._under_way += 1
            self._clock.start(self._one(unit))
        schedule.ended(start)

    def _one(self, unit: Unit) -> Task:
        yield from self._bring(unit)
        self._under_way -= 1
        self._change()


def _ref(unit: Unit) -> ObjectRef:
    return ObjectRef(Digest(unit.number.to_bytes(32, "big")), unit.plain)
