"""What may be said of the person in a recording: age in years and sex. Names and dates stay in the file."""

import re
from datetime import date

OLDEST_AGE_YEARS = 120.0
"""Ages above this are written where the age is unknown."""

_SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}
_UNITS_BY_YEARS = {
    1.0: ("y", "yr", "year", "years", "a"),
    1 / 12: ("m", "mo", "month", "months"),
    7 / 365.25: ("w", "wk", "week", "weeks"),
    1 / 365.25: ("d", "day", "days"),
    1 / 8766: ("h", "hour", "hours"),
}
_YEARS_PER_UNIT = {name: years for years, names in _UNITS_BY_YEARS.items() for name in names}
_DATES = (
    re.compile(r"(?P<year>\d{4})-?(?P<month>\d{2})-?(?P<day>\d{2})", re.ASCII),
    re.compile(r"(?P<month>\d{1,2})[-/](?P<day>\d{1,2})[-/](?P<year>\d{4})$", re.ASCII),
)
"""ISO 8601 and HL7 dates, with a time behind them or without; and the month-day-year of MUSE and Philips."""


def known_sex(text: str | None) -> str | None:
    """`female` or `male`, from the word or its first letter; None for anything else."""
    return _SEXES.get((text or "").strip().lower())


def age_in_years(value: float | None, unit: str) -> float | None:
    """An age given in years, months, weeks, days or hours; `unit` is the word, its first letter or its UCUM code.

    None where nothing was given, the unit is unknown or the age is not a human one.
    """
    factor = _YEARS_PER_UNIT.get(unit.strip().lower())
    if value is None or factor is None:
        return None
    return value * factor if 0 <= value * factor <= OLDEST_AGE_YEARS else None


def age_between(birth: str | None, recorded: str | None) -> float | None:
    """Completed years from the date of birth to the date of the recording; None unless both are dates.

    Only completed years: a finer age would give a part of the date of birth away.
    """
    born, then = _date(birth), _date(recorded)
    if born is None or then is None:
        return None
    years = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
    return float(years) if 0 <= years <= OLDEST_AGE_YEARS else None


def known_id(text: str | None) -> str | None:
    """A patient's id as the file holds it; None for what is written where there is none, such as `---` or `?`."""
    stripped = (text or "").strip()
    return stripped if any(character.isalnum() for character in stripped) else None


def _date(text: str | None) -> date | None:
    for pattern in _DATES:
        if match := pattern.match((text or "").strip()):
            try:
                return date(int(match["year"]), int(match["month"]), int(match["day"]))
            except ValueError:
                return None
    return None
