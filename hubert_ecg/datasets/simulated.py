"""The simulator's cohort as a data set: the embedded default, with the six conditions as labels."""

import json
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar

from hubert_ecg.datasets.source import LabelSet, Listing, build_listing
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate import CONDITIONS, CohortMember, SimulatorConfig, cohort, simulate_member

_PATH_PREFIX = "simulated:"


@dataclass(frozen=True, kw_only=True)
class SimulatedSource:
    """Simulated 12-lead ECGs; nothing is read from disk."""

    name: ClassVar[str] = "simulated"

    simulator: SimulatorConfig = field(default_factory=SimulatorConfig)
    """Size, quality and seed of the cohort."""
    split: SplitConfig = field(default_factory=lambda: SplitConfig(val_fraction=0.15, test_fraction=0.25))
    """How the cohort is divided; its seed is added to the simulator's."""

    def listing(self) -> Listing:
        """One row per member of the cohort; the split is drawn by patient with the simulator's seed."""
        members = self._members()
        record_ids = [member.record_id for member in members]
        patient_ids = [member.patient_id for member in members]
        return build_listing(
            source=self.name,
            record_ids=record_ids,
            paths=[f"{_PATH_PREFIX}{member.index}" for member in members],
            split=replace(self.split, seed=self.split.seed + self.simulator.seed),
            patient_ids=patient_ids,
            ages_years=[member.age_years for member in members],
            sexes=[member.sex for member in members],
            label_sets=[LabelSet(name="conditions", labels=CONDITIONS, title="six conditions", none_is_negative=True)],
            labels={"conditions": [list(member.conditions) for member in members]},
        )

    def read(self, row: dict[str, Any]) -> Recording:
        """Simulate the recording of one row."""
        member = self._members()[int(row["path"].removeprefix(_PATH_PREFIX))]
        return simulate_member(self.simulator, member)[0]

    def _members(self) -> list[CohortMember]:
        return _cohort(json.dumps(asdict(self.simulator)))


@lru_cache(maxsize=2)
def _cohort(simulator: str) -> list[CohortMember]:
    """Kept per process, for a worker reads many rows of one cohort. Keyed by JSON because the settings hold a dict."""
    return cohort(SimulatorConfig(**json.loads(simulator)))
