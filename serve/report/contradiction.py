"""A contradiction: a sentence of a report, and what in the facts it is at odds with."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """Where a text says other than the facts."""

    sentence: str
    """As it was read: mark-up and line breaks gone."""
    reason: str
    """What it says and what the facts say, for people."""
