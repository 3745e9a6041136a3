"""Ages, sexes and ids as files write them."""

import pytest

from hubert_ecg.formats.person import age_between, age_in_years, known_id, known_sex


@pytest.mark.parametrize(
    ("birth", "recorded", "years"),
    [
        ("19560229", "20200228", 63.0),
        ("19560229", "20200229", 64.0),
        ("1956-02-29", "20200229101500.000+0100", 64.0),
        ("2/29/1956", "03-01-2020", 64.0),
        ("13-45-1956", "20200229", None),
        ("19560230", "20200229", None),
        ("20200301", "20200229", None),
        ("17000101", "20200229", None),
        ("", "20200229", None),
        (None, None, None),
        ("unknown", "20200229", None),
    ],
)
def test_age_between_two_dates_is_in_completed_years(birth: str, recorded: str, years: float | None) -> None:
    assert age_between(birth, recorded) == years


@pytest.mark.parametrize(
    ("value", "unit", "years"),
    [
        (63.0, "YEARS", 63.0),
        (18.0, "mo", 1.5),
        (6.0, "M", 0.5),
        (48.0, "hours", 48 / 8766),
        (63.0, "", None),
        (63.0, "moons", None),
        (None, "years", None),
        (-1.0, "years", None),
        (121.0, "years", None),
        (1440.0, "months", 120.0),
    ],
)
def test_age_in_a_unit(value: float | None, unit: str, years: float | None) -> None:
    assert age_in_years(value, unit) == pytest.approx(years)


@pytest.mark.parametrize(
    ("text", "sex"), [("F", "female"), (" Male ", "male"), ("female", "female"), ("UN", None), ("", None), (None, None)]
)
def test_sex(text: str | None, sex: str | None) -> None:
    assert known_sex(text) == sex


@pytest.mark.parametrize(("text", "known"), [(" P-17 ", "P-17"), ("---", None), ("?", None), ("", None), (None, None)])
def test_placeholders_are_no_id(text: str | None, known: str | None) -> None:
    assert known_id(text) == known
