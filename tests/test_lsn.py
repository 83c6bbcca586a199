"""LSN: text, numbers, order."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sessions
from pgstream.lsn import LSN

POSITIONS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0/0", 0),
        ("0/16C752F8", 0x16C752F8),
        ("16/B374D848", 0x16_B374_D848),
        ("1/0", 2**32),
        ("FFFFFFFF/FFFFFFFF", 2**64 - 1),
    ],
)
def test_text_and_number(text: str, number: int) -> None:
    assert LSN(text) == number
    assert str(LSN(number)) == text
    assert repr(LSN(number)) == f"LSN('{text}')"
    assert f"{LSN(number)}" == text


def test_halves_may_be_padded_or_in_lower_case() -> None:
    assert LSN("0/00000000") == LSN(0)
    assert LSN("00000001/0000000a") == LSN(2**32 + 10)
    assert str(LSN("0/0000000a")) == "0/A"


@sessions.examples(100)
@given(POSITIONS)
def test_text_and_number_are_inverse(number: int) -> None:
    lsn = LSN(number)
    assert type(lsn) is LSN
    assert LSN(str(lsn)) == lsn == number
    assert eval(repr(lsn), {"LSN": LSN}) == lsn


@sessions.examples(100)
@given(POSITIONS, POSITIONS)
def test_orders_and_hashes_as_its_number(a: int, b: int) -> None:
    assert (LSN(a) < LSN(b)) is (a < b)
    assert (LSN(a) == LSN(b)) is (a == b)
    assert LSN(b) - LSN(a) == b - a
    assert hash(LSN(a)) == hash(a)
    assert {LSN(a): "here"}[LSN(str(LSN(a)))] == "here"


def test_default_is_zero() -> None:
    assert LSN() == 0
    assert not LSN()
    assert str(LSN()) == "0/0"


def test_format_spec_is_that_of_a_string() -> None:
    assert f"{LSN(10):>6}|" == "   0/A|"
    with pytest.raises(ValueError, match="x"):
        format(LSN(10), "x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "/",
        "0/",
        "/0",
        "0/G",
        " 0/0",
        "0/0 ",
        "0/0\n",
        "0/0/0",
        "-0/1",
        "+1/0",
        "1_0/0",
        "0x1/0",
        "123456789/0",
        "0/123456789",
        "0/\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_text_that_is_not_an_lsn(text: str) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        LSN(text)


@pytest.mark.parametrize("number", [-1, 2**64, -(2**64)])
def test_number_that_does_not_fit(number: int) -> None:
    with pytest.raises(ValueError, match="64 unsigned bits"):
        LSN(number)


@pytest.mark.parametrize("value", [1.0, 1.9, None, b"0/1"])
def test_what_is_no_integer(value: Any) -> None:
    with pytest.raises(TypeError):
        LSN(value)


def test_copies_and_pickles_stay_lsns() -> None:
    lsn = LSN("16/B374D848")
    copies = [copy.copy(lsn), copy.deepcopy(lsn)]
    copies += [
        pickle.loads(pickle.dumps(lsn, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ]
    for twin in copies:
        assert type(twin) is LSN
        assert twin == lsn


def test_has_no_attributes_of_its_own() -> None:
    with pytest.raises(AttributeError):
        LSN(1).name = "x"  # type: ignore[attr-defined]
