"""Digits in foreign input: any text is either a number or None, and raises no exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.digits import MOST, hexadecimal, natural


@given(st.integers(0, MOST), st.integers(0, 50))
def test_a_number_is_what_its_digits_say(number: int, zeros: int) -> None:
    text = "0" * zeros + str(number)
    assert natural(text) == natural(text.encode()) == number
    text = "0" * zeros + f"{number:x}"
    assert hexadecimal(text) == hexadecimal(text.upper()) == hexadecimal(text.encode()) == number


@pytest.mark.parametrize("text", ["9" * 5000, "1" + "0" * 19, "0" * 9999 + "9" * 30])
def test_what_is_larger_than_any_number_is_the_largest(text: str) -> None:
    assert natural(text) == natural(text.encode()) == hexadecimal(text) == MOST


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1 ", "1_0", "1.0", "1e3", "0x1", "\u0661", "\u00b2", "1\0", "nan", "inf"]
)
def test_what_int_takes_and_no_protocol_writes_is_no_number(text: str) -> None:
    assert natural(text) is None
    assert natural(text.encode()) is None
    if text != "1e3":
        assert hexadecimal(text) is None


@given(st.text() | st.binary())
def test_no_text_is_an_exception(text: str | bytes) -> None:
    for found in (natural(text), hexadecimal(text)):
        assert found is None or 0 <= found <= MOST
