"""The files of an image that a program reads when it sets its locale and its time zone."""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Final

from lazyfs.core.library_search import DEFAULT_64
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles

FILES: Final = 32
"""The largest number of files of a locale; glibc has 13 categories."""
_FOLDER: Final = b"usr/lib/locale"
_VARIABLES: Final = ("LC_ALL", "LC_CTYPE", "LANG")
_USUAL: Final = "C.UTF-8"
"""The locale that Python chooses if the environment names none, and that many sites set."""
_ZONE: Final = b"etc/localtime"
_CONVERSIONS: Final = b"gconv/gconv-modules.cache"


def locale_files(files: ImageFiles, environment: Mapping[str, str], *, whole: bool) -> Iterator[ImageFile]:
    """Yields the files of the locale that the image's environment names, the table of character sets, and the
    time zone. `whole`: True for all categories, False for that of characters only."""
    name = next((environment[one] for one in _VARIABLES if environment.get(one)), _USUAL)
    language, _, characters = name.partition(".")
    folder = posixpath.join(
        _FOLDER, f"{language}.{characters.lower().replace('-', '')}".encode(errors="surrogateescape")
    )
    names = sorted(files.names(folder))[:FILES] if whole else [b"LC_CTYPE"]
    messages = [b"LC_MESSAGES/SYS_LC_MESSAGES"] if whole else []
    tables = [posixpath.join(directory, _CONVERSIONS) for directory in DEFAULT_64]
    for path in (*(posixpath.join(folder, one) for one in (*names, *messages)), *tables, _ZONE):
        found = files.file(path)
        if found is not None:
            yield found
