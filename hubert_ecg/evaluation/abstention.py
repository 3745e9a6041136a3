"""When a prediction is withheld: the signal is not to be relied on, or the crops of a recording disagree.

A checkpoint carries the rule under `calibration["abstention"]`; what is withheld is still computed and stored, so that
the price of the rule can be told.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """The rule. A limit of None never withholds anything."""

    severe_leads: int | None = None
    """Withhold where at least this many leads have a severe finding on their quality, or the recording as a whole has
    one (a wrong unit, say)."""
    max_spread: tuple[float, ...] | None = None
    """Withhold where the probability of a label spreads over the crops by more than this (standard deviation before
    calibration), one per label. Recordings of one crop have no spread and pass."""

    def __post_init__(self) -> None:
        if self.severe_leads is not None and self.severe_leads < 1:
            raise ConfigError(f"severe_leads: wanted at least 1 lead, or None for no limit, got {self.severe_leads}")
        if self.max_spread is not None and not all(limit >= 0 for limit in self.max_spread):
            raise ConfigError(f"max_spread: wanted limits of 0 or more, got {list(self.max_spread)}")

    def reason(self, findings: Sequence[Finding], spread_L: Sequence[float], labels: Sequence[str]) -> str | None:
        """Why the prediction of one recording is withheld, in one sentence; None where it is not.

        Raises ConfigError when there are not as many limits as labels.
        """
        if self.max_spread is not None and len(self.max_spread) != len(labels):
            raise ConfigError(f"max_spread: wanted {len(labels)} limits, one per label, got {len(self.max_spread)}")
        return self._quality(findings) or self._uncertainty(spread_L, labels)

    def _quality(self, findings: Sequence[Finding]) -> str | None:
        if self.severe_leads is None:
            return None
        severe = [finding for finding in findings if finding.severity == "severe"]
        whole = next((finding for finding in severe if finding.lead is None), None)
        if whole is not None:
            return f"quality: {whole.kind}"
        leads = {finding.lead: finding.kind for finding in severe}
        if len(leads) < self.severe_leads:
            return None
        return f"quality: {', '.join(f'{kind} {lead}' for lead, kind in leads.items())}"

    def _uncertainty(self, spread_L: Sequence[float], labels: Sequence[str]) -> str | None:
        if self.max_spread is None:
            return None
        beyond = np.asarray(spread_L, np.float64) - np.asarray(self.max_spread)
        if not (beyond > 0).any():
            return None
        worst = int(np.nanargmax(beyond))
        return (
            f"uncertain: {labels[worst]} spreads by {spread_L[worst]:.3f} over the crops, "
            f"more than {self.max_spread[worst]:.3f}"
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON value, which `from_json` turns back."""
        plain = asdict(self)
        return plain | {"max_spread": None if self.max_spread is None else list(self.max_spread)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Raises ConfigError for anything that `to_json` would not have written."""
        known = {item.name for item in fields(cls)}
        if not isinstance(value, dict) or set(value) != known:
            raise ConfigError(f"abstention: wanted {', '.join(sorted(known))}, got {value!r}")
        spread = value["max_spread"]
        return cls(severe_leads=value["severe_leads"], max_spread=None if spread is None else tuple(spread))
