"""Descriptors that drift: lead by lead later than their tokens, by four samples more each."""

import numpy as np

from benchmarks.unaligned import drift
from hubert_ecg.ecg.preprocess import PreprocessConfig


def test_each_lead_is_read_four_samples_later_than_the_one_before() -> None:
    """5 s at 100 Hz: 93 tokens of 64 samples keep 496 samples of each lead, from the third on."""
    places = np.arange(6000, dtype=np.float32)[None]
    drifted = drift(places, PreprocessConfig())[0]
    late = (drifted - places[0])[: 12 * 496].reshape(12, 496)
    np.testing.assert_array_equal(late, np.repeat(2 + 4 * np.arange(12)[:, None], 496, axis=1))
    assert not drifted[12 * 496 :].any()
