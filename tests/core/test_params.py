"""Format parameters: a client that lacks a feature names it in its error."""

import pytest

from lazyfs.core.errors import FormatError, UnsupportedFormat
from lazyfs.core.params import Params


def test_the_defaults_are_accepted() -> None:
    assert Params().check() == Params()


@pytest.mark.parametrize("params", [Params(version=2), Params(features=("holographic",))])
def test_a_newer_format_is_named_with_what_to_do(params: Params) -> None:
    with pytest.raises(UnsupportedFormat, match="upgrade lazyfs"):
        params.check()


@pytest.mark.parametrize("params", [Params(chunk_shift=5), Params(chunk_shift=40), Params(catalog_entries=1)])
def test_senseless_numbers_are_refused(params: Params) -> None:
    with pytest.raises(FormatError):
        params.check()
