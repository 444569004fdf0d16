"""Format parameters: if a client lacks a required feature, its error names the feature."""

import pytest

from lazyfs.core import bounds
from lazyfs.core.errors import FormatError, UnsupportedFormat
from lazyfs.core.params import Params


def test_the_defaults_are_accepted() -> None:
    assert Params().check() == Params()


@pytest.mark.parametrize("params", [Params(version=3), Params(features=("holographic",))])
def test_a_newer_format_is_named_with_what_to_do(params: Params) -> None:
    with pytest.raises(UnsupportedFormat, match="upgrade lazyfs"):
        params.check()


def test_a_repository_of_the_version_before_is_read() -> None:
    assert Params(version=1).check().is_older
    assert not Params().check().is_older


@pytest.mark.parametrize(
    "params",
    [
        Params(chunk_shift=5),
        Params(chunk_shift=40),
        Params(catalog_entries=1),
        Params(pack_files=-1),
        Params(pack_files=Params().pack_most + 1),
        Params(pack_least=0),
        Params(pack_least=Params().pack_target + 1),
        Params(pack_target=Params().pack_most + 1),
        Params(pack_most=bounds.PACK + 1),
    ],
)
def test_senseless_numbers_are_refused(params: Params) -> None:
    with pytest.raises(FormatError):
        params.check()
