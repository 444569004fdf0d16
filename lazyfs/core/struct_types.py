"""The analysis that msgspec makes of a structure when it first converts to one, made ahead of threads."""

import msgspec


def analyse(*kinds: type[msgspec.Struct]) -> None:
    """Has msgspec analyse structures now, and those inside them. Call it before several threads convert to
    one of them: a thread that finds a structure not analysed analyses it, and if two threads do so at once,
    msgspec 0.22 ends the process with SIGSEGV."""
    for kind in kinds:
        msgspec.json.Decoder(kind)
