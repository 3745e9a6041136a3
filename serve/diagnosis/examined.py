"""What can be said of a recording without the service: its quality, its measurements, and what its reader noticed."""

from collections.abc import Sequence

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.measure import measure
from hubert_ecg.ecg.quality import find_problems
from hubert_ecg.ecg.recording import Recording
from serve.measured import measured
from serve.schemas import FindingOut, PredictionOut

LOWEST_RATE_HZ = 50
"""Below it nothing can be measured."""


def examined(recording: Recording) -> PredictionOut:
    """An answer without labels, for a recording that the model cannot or could not judge."""
    findings = [*recording.findings, *_new(find_problems(recording), recording.findings)]
    can_measure = recording.sampling_rate_hz >= LOWEST_RATE_HZ
    return PredictionOut(
        index=0,
        labels=[],
        abstained=False,
        abstain_reason=None,
        out_of_scope=[],
        findings=[FindingOut(**finding.to_dict()) for finding in findings],
        measurements=measured(measure(recording), recording.sex) if can_measure else None,
    )


def with_reader_findings(prediction: PredictionOut, of_reader: Sequence[Finding]) -> PredictionOut:
    """The service is sent numbers; what the reader of the file noticed comes before what it says of them."""
    said = {_key(finding) for finding in prediction.findings}
    missing = [FindingOut(**finding.to_dict()) for finding in of_reader if _key(finding) not in said]
    return prediction.model_copy(update={"findings": [*missing, *prediction.findings]})


def _new(found: Sequence[Finding], said: Sequence[Finding]) -> list[Finding]:
    known = {_key(finding) for finding in said}
    return [finding for finding in found if _key(finding) not in known]


def _key(finding: Finding | FindingOut) -> tuple[str, str | None, float | None]:
    return finding.kind, finding.lead, finding.start_s
