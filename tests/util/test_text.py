"""Numbers, lengths of time and sizes, as a person reads them."""

from __future__ import annotations

from typing import Any

import pytest

from flowersweep.util.text import bytes_text, duration, number, quantity, spreadsheet_cell


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.123456, "0.1235"),
        (1e-7, "1e-07"),
        (-0.0, "0"),
        (123456, "123456"),
        (True, "True"),
        ("adam", "adam"),
    ],
)
def test_a_number_has_four_significant_digits(value: Any, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 images"), (1, "1 image"), (1.0, "1 image"), (2.5, "2.5 images")]
)
def test_one_of_a_thing_is_singular(count: float, text: str) -> None:
    assert quantity(count, "image") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (126, "2.1 min"),
        (5340, "89 min"),
        (5400, "1.5 h"),
        (169200, "47 h"),
        (216000, "2.5 days"),
    ],
)
def test_a_length_of_time_has_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (2304, "2.3 kB"), (5e6, "5 MB"), (7.5e12, "7.5e+03 GB")],
)
def test_bytes_have_the_largest_unit_that_fits(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize("text", ["=1+1", "@SUM(1)", "+1+cmd|' /C calc'!A0", "-2+3", " =1", "\t=1"])
def test_a_formula_has_an_apostrophe_in_a_csv_file(text: str) -> None:
    assert spreadsheet_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["a=1", "-1.5", "+3", "-Rx_4-b", "tulip", "", -1.5, None])
def test_other_cells_of_a_csv_file_stay(value: Any) -> None:
    assert spreadsheet_cell(value) == value
