"""What the service calls out of scope for a pacemaker: what the sender, the file or the signal says."""

from dataclasses import replace

import pytest

from hubert_ecg.ecg.finding import STATED_PACING, Finding
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate import simulate_condition
from serve.answers import prepare
from serve.bodies import Received

ECG, TRUTH = simulate_condition(["CLBBB"], seed=3, noise_level=0.3)


def _spiked() -> Recording:
    samples = ECG.samples.copy()
    for time_s in TRUTH.r_peak_times_s[1:]:
        samples[:, round((time_s - 0.12) * 500)] += 2
    return replace(ECG, samples=samples)


def _stated() -> Recording:
    return replace(ECG, findings=(Finding(kind=STATED_PACING, severity="info", detail="Said so."),))


@pytest.mark.parametrize(
    ("recording", "declared", "expected"),
    [(ECG, False, ()), (ECG, True, ("paced",)), (_spiked(), False, ("paced",)), (_stated(), False, ("paced",))],
    ids=["not paced", "declared", "spikes", "stated by the file"],
)
def test_a_pacemaker_is_out_of_scope_whoever_says_so(
    recording: Recording, declared: bool, expected: tuple[str, ...]
) -> None:
    received = Received(recording=recording, place="recording", paced=declared)
    prepared = prepare(received, 0, PreprocessConfig(), measurements=False)
    assert prepared.out_of_scope == expected
