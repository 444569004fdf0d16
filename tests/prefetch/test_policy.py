"""The prefetches that a sequence of reads triggers: all rules together, without files, clocks or an event
loop."""

import stat

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import sha256
from lazyfs.prefetch.policy import PrefetchPolicy
from lazyfs.prefetch.readahead import FIRST, PROOF
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.siblings import Siblings

SHIFT = 20
COUNT = 64
DIGESTS = [sha256(bytes([index])) for index in range(COUNT)]
LISTED = ChunkList(ChunkList.encode(DIGESTS, COUNT << SHIFT, SHIFT), COUNT << SHIFT, SHIFT)


def plan(offset: int, name: bytes = b"data", mode: int = 0o644, length: int = 1 << SHIFT) -> ReadPlan:
    entry = Entry(name, stat.S_IFREG | mode, 0, 0, 0, COUNT << SHIFT, sha256(b"list"), SHIFT)
    return ReadPlan(7, "test", entry, offset, length, LISTED.slices(offset, length), LISTED)


def no_head() -> None:
    return None


def test_a_sequential_reader_is_read_ahead_of_after_the_proof() -> None:
    policy = PrefetchPolicy()
    found = [policy.on_read(plan(at << SHIFT)) for at in range(PROOF)]
    assert found[:-1] == [[]] * (PROOF - 1)
    assert [ref.digest for ref in found[-1]] == DIGESTS[PROOF : PROOF + (FIRST >> SHIFT)]


def test_a_read_that_has_to_wait_counts_twice() -> None:
    policy = PrefetchPolicy()
    found = []
    for at in range(PROOF - 1):
        found = policy.on_read(plan(at << SHIFT)) + policy.on_miss(plan(at << SHIFT), None, no_head)
    digests = dict.fromkeys(ref.digest for ref in found)
    assert list(digests) == DIGESTS[PROOF - 1 : PROOF - 1 + (FIRST >> SHIFT)]


def test_a_jump_to_a_chunk_near_one_that_was_read_brings_another_one() -> None:
    policy = PrefetchPolicy()
    found = [policy.on_miss(plan(at << SHIFT), None, no_head) for at in (40, 9, 42)]
    assert [[ref.digest for ref in refs] for refs in found] == [[], [], [DIGESTS[43]]]
    library = [policy.on_miss(plan(at << SHIFT, b"lib.so"), None, no_head) for at in (40, 9, 42)]
    assert [len(refs) for refs in library] == [COUNT - 1, 0, 0]


def test_a_miss_brings_the_neighbours_and_the_rest_of_a_library() -> None:
    small = Entry(b"small", stat.S_IFREG | 0o644, 0, 0, 0, 5, sha256(b"small"))
    library = plan(3 << SHIFT, b"lib.so")
    around = Siblings((1, 0), [library.entry, small], 0)
    found = [ref.digest for ref in PrefetchPolicy().on_miss(library, around, no_head)]
    assert found[0] == sha256(b"small")
    assert found[1:] == [*DIGESTS[4:], *DIGESTS[:3]]


def test_an_executable_is_looked_at_again_when_its_bytes_have_come() -> None:
    policy, program = PrefetchPolicy(), plan(0, b"run", 0o755)
    assert policy.on_miss(program, None, no_head) == []
    assert [ref.digest for ref in policy.on_arrival(program, lambda: b"\x7fELF")] == DIGESTS[1:]


def test_a_file_of_one_object_has_nothing_ahead() -> None:
    entry = Entry(b"a", stat.S_IFREG | 0o755, 0, 0, 0, 5, sha256(b"small"))
    read = ReadPlan(7, "test", entry, 0, 5, [], None)
    policy = PrefetchPolicy()
    for _ in range(2 * PROOF):
        assert policy.on_read(read) == policy.on_miss(read, None, no_head) == []
