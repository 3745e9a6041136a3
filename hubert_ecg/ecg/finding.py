"""A finding: something noticed about a recording that a person or a later step should know; not an error."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["info", "warning", "severe"]
"""info: worth knowing; warning: look at it; severe: the recording, or that lead of it, is not to be relied on."""

PACING_SPIKES, STATED_PACING = "pacing spikes", "stated pacing"
SIGNS_OF_PACING = frozenset({PACING_SPIKES, STATED_PACING})
"""Kinds of findings that say that the patient is paced: by the signal, and by the words of the recording's file."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was noticed, where and how bad it is."""

    kind: str
    """A stable word for programs, such as `flat`, `clipped`, `lead off` or `wrong units`."""
    severity: Severity
    detail: str
    """One sentence for people, with the numbers it rests on; holds no name, date or id."""
    lead: str | None = None
    """The lead by its standard name; None where it concerns the whole recording."""
    start_s: float | None = None
    """Where it begins, seconds from the start; None where it concerns the whole length."""
    end_s: float | None = None
    """Where it ends, seconds from the start."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def says_paced(findings: Iterable[Finding]) -> bool:
    """Whether any of them says that the patient is paced."""
    return any(finding.kind in SIGNS_OF_PACING for finding in findings)
