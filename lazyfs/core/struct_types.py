"""The analysis of structures by msgspec, ahead of their use in threads."""

import msgspec


def analyse(*kinds: type[msgspec.Struct]) -> None:
    """Has msgspec analyse these structures now, with those inside them. To be called before several threads
    convert to one: msgspec 0.22 ends the process with SIGSEGV if two threads analyse a structure at the same
    time, which each does that finds it not analysed."""
    for kind in kinds:
        msgspec.json.Decoder(kind)
