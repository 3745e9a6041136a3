"""The checkpoints of a service as its ingress knows them: what they are called, carry and need, but no weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.evaluation.abstention import Abstention
from hubert_ecg.storage.artifact import fingerprint
from hubert_ecg.storage.checkpoint import CheckpointInfo, check_diagnoses, load_info
from serve.problems import Refusal
from serve.schemas import ModelOut


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One checkpoint."""

    name: str
    info: CheckpointInfo
    preprocess: PreprocessConfig
    rule: Abstention | None
    """When a prediction is withheld."""
    fingerprint: str
    """Of weights, calibration and thresholds: what an answer depends on."""

    @classmethod
    def of(cls, name: str, place: str) -> Self:
        """Raises CheckpointError for what is no classifier, or one whose labels have no names."""
        info = load_info(place)
        check_diagnoses(info, place)
        carried = info.calibration or {}
        answer = {"weights": info.fingerprint, "calibration": info.calibration, "thresholds": info.thresholds}
        return cls(
            name=name,
            info=info,
            preprocess=PreprocessConfig.from_dict(info.preprocessing),
            rule=Abstention.from_json(carried["abstention"]) if "abstention" in carried else None,
            fingerprint=fingerprint(answer),
        )

    @property
    def prevalence(self) -> dict[str, float]:
        """Label -> share of the training recordings, where the checkpoint says it."""
        shares = self.info.provenance.get("prevalence") or []
        return dict(zip(self.info.label_names, shares, strict=False))

    def described(self, *, default: bool) -> ModelOut:
        info = self.info
        return ModelOut(
            name=self.name,
            fingerprint=self.fingerprint,
            task=info.task or "multi_label",
            labels=list(info.label_names),
            thresholds=None if info.thresholds is None else list(info.thresholds),
            calibrated="probabilities" in (info.calibration or {}),
            sampling_rate_hz=self.preprocess.sampling_rate_hz,
            licence=info.licence,
            default=default,
        )


class Catalogue:
    """All checkpoints, by name; the first is the default."""

    def __init__(self, checkpoints: Mapping[str, str]) -> None:
        self.entries = {name: Entry.of(name, place) for name, place in checkpoints.items()}
        self.default = next(iter(self.entries))

    def choose(self, name: str | None) -> Entry:
        """The checkpoint of that name, or the default. Raises a Refusal that lists those there are."""
        entry = self.entries.get(name or self.default)
        if entry is None:
            raise Refusal(
                404, "unknown model", f"model: wanted one of {', '.join(self.entries)}, got {name}", field="model"
            )
        return entry

    def described(self) -> list[ModelOut]:
        return [entry.described(default=name == self.default) for name, entry in self.entries.items()]
