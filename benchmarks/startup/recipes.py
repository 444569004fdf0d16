"""Images as people have them. Each is made of Debian packages, of wheels, and of a program that ends with its
first result.

A further image is a further Recipe, and a directory `programs/NAME`, which becomes /opt/NAME of the image.
Its file `run` is the program; its file `wheels.txt`, if there is one, pins wheels.
"""

from pathlib import Path
from typing import Final

import msgspec

PROGRAMS: Final = Path(__file__).parent / "programs"


class Recipe(msgspec.Struct, frozen=True):
    """An image, and the program that is started from it."""

    name: str
    packages: tuple[str, ...]
    """Debian packages, without what they merely recommend."""
    answer: bytes
    """What the program's output must contain. The rest of the output must be the same on every side."""
    large: bool = False
    """True if each pull is made only once, because it takes minutes."""

    @property
    def program(self) -> Path:
        """Returns the directory of the program."""
        return PROGRAMS / self.name

    @property
    def files(self) -> list[Path]:
        """Returns the files of the program."""
        return sorted(path for path in self.program.iterdir() if path.is_file())

    @property
    def wheels(self) -> Path | None:
        """Returns the file with the pinned wheels; None if the image has none."""
        file = self.program / "wheels.txt"
        return file if file.is_file() else None


RECIPES: Final = (
    Recipe("statistics", ("r-cran-tidyverse",), answer=b"result 2.0\n"),
    Recipe(
        "java",
        ("openjdk-17-jdk-headless", "libh2-java", "libcommons-math3-java"),
        answer=b"result 600.0\n",
    ),
    Recipe(
        "compiler",
        ("g++", "cmake", "make", "libboost-dev", "libeigen3-dev"),
        answer=b"result 60 3\n",
    ),
    Recipe(
        "tex",
        (
            *("texlive-latex-extra", "texlive-pictures", "texlive-science"),
            *("texlive-fonts-recommended", "lmodern"),
        ),
        answer=b"Output written on document.pdf (2 pages",
    ),
    Recipe("web", ("nginx-light", "gunicorn", "python3-django", "curl"), answer=b"result 5\n"),
    Recipe("cuda", ("python3", "python3-distutils", "libgomp1"), answer=b"result 3\n", large=True),
)
