"""From what the model and the signal say of a recording to the answer about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.examine import all_findings, signal_problems
from hubert_ecg.ecg.finding import Finding, says_paced
from hubert_ecg.ecg.measure import Measurements, measure
from hubert_ecg.ecg.preprocess import PreprocessConfig, Waveform, prepare_waveform
from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording, standard_12_lead
from hubert_ecg.ecg.simulate import CONDITION_TITLES
from hubert_ecg.errors import HubertEcgError
from hubert_ecg.predictor.explain import Explanation
from hubert_ecg.predictor.prediction import positive_labels
from serve.bodies import Received
from serve.catalogue import Entry
from serve.measured import measured
from serve.model import Scores
from serve.problems import of_recording
from serve.schemas import ExplanationOut, FindingOut, LabelOut, PredictionOut, Unwise

ADULT_YEARS = 18
SHORT_S = 5.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A recording that is ready for the model."""

    recording: Recording
    """Its 12 leads in mV, nothing filtered."""
    waveform: Waveform
    findings: tuple[Finding, ...]
    out_of_scope: tuple[Unwise, ...]
    measurements: Measurements | None


def prepare(received: Received, index: int, preprocess: PreprocessConfig, *, measurements: bool) -> Prepared:
    """Look a recording over, filter and scale it. Raises a Refusal for one that the checkpoint cannot be applied to."""
    try:
        recording = standard_12_lead(received.recording, missing=preprocess.missing_leads)
        problems = signal_problems(recording, missing_leads=preprocess.missing_leads)
        waveform = prepare_waveform(recording, preprocess)
    except HubertEcgError as error:
        raise of_recording(error, place=received.place, is_file=received.is_file, index=index) from error
    findings = all_findings(recording, problems, waveform.findings)
    return Prepared(
        recording=recording,
        waveform=waveform,
        findings=findings,
        out_of_scope=_out_of_scope(received, recording, waveform, findings),
        measurements=measure(recording) if measurements else None,
    )


def _out_of_scope(
    received: Received, recording: Recording, waveform: Waveform, findings: Sequence[Finding]
) -> tuple[Unwise, ...]:
    reasons: dict[Unwise, bool] = {
        "age under 18": recording.age_years is not None and recording.age_years < ADULT_YEARS,
        "paced": received.paced or says_paced(findings),
        "shorter than 5 s": recording.duration_s < SHORT_S,
        "missing leads": bool((waveform.valid_samples == 0).any()),
    }
    return tuple(reason for reason, applies in reasons.items() if applies)


def answer(index: int, prepared: Prepared, scores: Scores, entry: Entry, *, uncertainty: bool) -> PredictionOut:
    """What is sent about one recording."""
    measurements = prepared.measurements
    withheld = entry.rule and entry.rule.reason(prepared.findings, scores.spread.tolist(), entry.info.label_names)
    return PredictionOut(
        index=index,
        labels=_labels(scores, entry, uncertainty=uncertainty),
        abstained=withheld is not None,
        abstain_reason=withheld,
        out_of_scope=list(prepared.out_of_scope),
        findings=[FindingOut(**finding.to_dict()) for finding in prepared.findings],
        measurements=None if measurements is None else measured(measurements, prepared.recording.sex),
    )


def explained(explanation: Explanation) -> ExplanationOut:
    """What is sent about one explanation."""
    return ExplanationOut(
        label=explanation.label,
        sampling_rate_hz=explanation.sampling_rate_hz,
        leads=list(STANDARD_LEADS),
        attributions=explanation.attributions.tolist(),
        crop_starts_s=list(explanation.crop_starts_s),
        score=explanation.score,
        baseline_score=explanation.baseline_score,
        completeness_error=explanation.completeness_error,
    )


def _labels(scores: Scores, entry: Entry, *, uncertainty: bool) -> list[LabelOut]:
    info = entry.info
    names, task = info.label_names, info.task or "multi_label"
    thresholds = info.thresholds or (0.5,) * len(names)
    probabilities = [float(value) for value in scores.probabilities]
    positive = positive_labels(names, probabilities, thresholds, task)
    return [
        LabelOut(
            label=name,
            title=CONDITION_TITLES.get(name, name),
            probability=probabilities[i],
            threshold=thresholds[i] if task == "multi_label" else None,
            positive=None if task == "regression" else name in positive,
            uncertainty=_known(scores.spread[i]) if uncertainty else None,
        )
        for i, name in enumerate(names)
    ]


def _known(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
