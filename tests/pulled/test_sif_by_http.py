"""SIF files that a server sends with a wrong head."""

from pathlib import Path

import pytest

from lazyfs.core.errors import FormatError
from lazyfs.core.oci.manifest import Platform
from lazyfs.images.sources.open import ImageOptions
from lazyfs.pulled.image_store import ImageStore
from lazyfs.pulled.pull import Pull
from tests.support.dripping_server import dripping


@pytest.mark.parametrize("stated", [b"abc", b"5, 5", b"-5", b"", b"\xb2"])
def test_a_length_that_is_no_number_is_no_traceback(stated: bytes, tmp_path: Path) -> None:
    """The file's own header states where its parts lie, so a cut file is found without the field."""
    said: list[str] = []
    pull = Pull(
        ImageStore(str(tmp_path / "images"), 1 << 30), ImageOptions(Platform("linux", "amd64")), said.append
    )
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\nhello" % stated
    with dripping([answer], b"", seconds=0) as host, pytest.raises(FormatError, match="not a SIF file"):
        pull(f"http://{host}/image.sif")
