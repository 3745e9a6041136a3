"""Recordings for tests of benchmarks that train on real ones: noise, and a wave where the first label is."""

import numpy as np

from benchmarks.proof.recordings import LabelColumn, Recordings


def recordings(count: int = 40) -> Recordings:
    """The first label is a large wave in lead V1; every tenth recording has no answer."""
    rng = np.random.default_rng(0)
    positive = rng.random(count) < 0.5
    signals_mv = 0.05 * rng.standard_normal((count, 12, 300)).astype(np.float32)
    signals_mv[positive, 6] += np.sin(np.arange(300) / 5).astype(np.float32)
    targets = np.stack([positive, ~positive], axis=1)
    answered = np.arange(count) % 10 > 0
    of_set = LabelColumn(labels=("WAVE", "NORM"), targets=targets, answered=answered)
    return Recordings(
        signals_mv=signals_mv,
        scaled=signals_mv,
        record_ids=np.arange(count).astype(str).astype(object),
        patient_ids=np.arange(count).astype(str).astype(object),
        folds=np.arange(count) % 9 + 1,
        natural=np.arange(count) % 4 > 0,
        ages_years=np.where(np.arange(count) % 2, 57.0, np.nan).astype(np.float32),
        female=np.zeros(count, np.float32),
        label_sets={"superclass": of_set, "all": of_set, "conditions": of_set},
        rate_hz=100,
        fingerprint="0" * 16,
    )
