"""Shows addresses and names of images without the secrets that people put into them.

Secrets are the account before an `@`, and the query, which is a signature in many addresses of object stores.
"""

import re

from lazyfs.core.printable import printable

_FILES = ("/", "./", "../", "oci:", "oci-archive:", "docker-archive:", "sif:", "tar:", "dir:")
"""Beginnings of texts that name files of this machine."""
_LONGEST_PATH = 4096
_ACCOUNT = r"(?:(?<=://)[^\s?#]*|[^\s/:@]+:(?!//)[^\s?#]*)@(?!sha256:)"
"""An account in an address or in the name of an image: up to the last `@` that no digest follows. Compiled
only for messages, since every start imports this module."""
_PLACE = r"(?:[^:\[\]]*|\[[^\[\]]*\])(?::[0-9]*)?"
"""Host and port."""


def shown_source(text: str) -> str:
    """Returns an image or tree that somebody has named in a command, as messages show it: the path of a file
    whole, everything else as `shown_address` returns it."""
    is_file = "://" not in text and text.startswith(_FILES)
    return printable(text, _LONGEST_PATH) if is_file else shown_address(text)


def shown_address(text: str) -> str:
    """Returns an address, or the name of an image, as messages show it: on one line, without account and
    query, and an address without fragment."""
    scheme, mark, rest = text.partition("://") if "://" in text else ("", "", text)
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    if mark and "@" not in place and not re.fullmatch(_PLACE, place):
        # The password has one of these characters, so its end is the last `@` of all.
        rest = rest.rpartition("@")[2]
    path = re.split("[?#]" if mark else "[?]", rest, maxsplit=1)[0]
    return printable(scheme + without_account(mark + path))


def without_account(text: str) -> str:
    """Returns a text without the account of each address and image's name in it."""
    return re.sub(_ACCOUNT, "", text)
