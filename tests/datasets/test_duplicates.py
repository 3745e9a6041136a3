"""Copies are found however they were rescaled or resampled; distinct recordings, of one person too, are not."""

from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from hubert_ecg.datasets.duplicates import SAME_SIGNAL, SIGNATURE_BYTES, Pair, content_hash, find_duplicates, signature
from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.ecg.recording import standard_12_lead
from hubert_ecg.ecg.simulate import SimulatorConfig, cohort, simulate_member


@pytest.fixture(scope="module")
def recordings() -> np.ndarray:
    """[recording, lead, time] int16 counts of 40 simulated recordings, 10 s at 100 Hz."""
    config = SimulatorConfig(num_patients=40, sampling_rate_hz=100, duration_s=10, seed=1)
    members = cohort(config)[:40]
    samples = np.stack([simulate_member(config, member)[0].samples for member in members])
    return to_counts(samples)


def to_counts(samples: np.ndarray) -> np.ndarray:
    """Each lead's range -> the range of int16, as waveform tables have it."""
    low, high = samples.min(axis=-1, keepdims=True), samples.max(axis=-1, keepdims=True)
    return np.rint((samples - low) / np.maximum(high - low, 1e-9) * 65534 - 32767).astype(np.int16)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    x, y = signature(a).astype(float), signature(b).astype(float)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def pairs(counts: list[np.ndarray], splits: list[str]) -> list[Pair]:
    return find_duplicates(
        [f"r{place}" for place in range(len(counts))],
        np.unique(splits, return_inverse=True)[1],
        hashes([content_hash(row) for row in counts]),
        np.stack([signature(row) for row in counts]),
    )


def hashes(values: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, 16)


def rescaled(counts: np.ndarray) -> np.ndarray:
    gains = np.linspace(0.05, 0.9, 12)[:, None]
    return np.rint(counts * gains + np.linspace(-3000, 3000, 12)[:, None]).astype(np.int16)


def resampled(counts: np.ndarray) -> np.ndarray:
    return np.rint(signal.resample_poly(counts * 0.8, 5, 1, axis=1)).astype(np.int16)


def noisy(counts: np.ndarray) -> np.ndarray:
    """Signal to noise 20 dB in every lead."""
    noise = np.random.default_rng(0).normal(size=counts.shape) * counts.std(axis=1, keepdims=True) / 10
    return np.rint(counts * 0.5 + noise * 0.5).astype(np.int16)


@pytest.mark.parametrize("change", [rescaled, resampled, noisy])
def test_a_changed_copy_correlates_and_is_found(recordings: np.ndarray, change) -> None:  # type: ignore[no-untyped-def]
    copies = [change(row) for row in recordings]
    assert min(correlation(a, b) for a, b in zip(recordings, copies, strict=True)) >= SAME_SIGNAL
    found = pairs([*recordings, *copies], ["train"] * 40 + ["test"] * 40)
    assert [(pair.first, pair.second) for pair in found] == [(f"r{place}", f"r{place + 40}") for place in range(40)]
    assert {pair.kind for pair in found} == {"correlation"}
    assert all(SAME_SIGNAL <= pair.value <= 1 for pair in found)


def test_distinct_recordings_are_left_alone(recordings: np.ndarray) -> None:
    assert pairs(list(recordings), [f"split {place}" for place in range(40)]) == []


def test_a_copy_bit_by_bit_is_found_by_its_hash_and_only_across_splits(recordings: np.ndarray) -> None:
    a, b = recordings[0], recordings[1]
    assert pairs([a, b, a], ["train", "val", "test"]) == [Pair(first="r0", second="r2", kind="hash", value=1.0)]
    assert pairs([a, b, a], ["train", "val", "train"]) == []
    three = pairs([a, a, a, b], ["train", "train", "test", "val"])
    assert [(pair.first, pair.second) for pair in three] == [("r0", "r2"), ("r1", "r2")]


def test_flat_recordings_are_no_copies_of_one_another() -> None:
    for num_samples in (500, 317):
        flat = np.full((12, num_samples), 7, np.int16)
        assert not signature(flat).any()
        assert pairs([flat, flat], ["train", "test"]) == []


def test_a_signature_is_small_and_the_same_everywhere(recordings: np.ndarray) -> None:
    made = signature(recordings[0])
    assert (made.dtype, made.shape) == (np.int8, (SIGNATURE_BYTES,))
    assert len(content_hash(recordings[0])) == 16
    assert content_hash(recordings[0]) == content_hash(np.asfortranarray(recordings[0]))
    assert content_hash(recordings[0]) != content_hash(recordings[0].reshape(24, -1))
    # A signal worked out here, so that tables of other machines and versions stay comparable.
    ramp = np.tile(np.arange(500), (12, 1)).astype(np.int16)
    assert correlation(ramp, ramp[:, ::-1]) == pytest.approx(-1, abs=0.001)


@pytest.mark.parametrize("num_samples", [1, 2, 37, 499, 501, 5000])
def test_any_length_has_a_signature(num_samples: int) -> None:
    counts = np.random.default_rng(0).integers(-1000, 1000, (12, num_samples)).astype(np.int16)
    assert signature(counts).any() == (num_samples > 1)


def test_among_many_alike_the_planted_copies_are_found() -> None:
    """20,000 signatures in clusters, 200 of them with a copy at a correlation of 0.995."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(50, SIGNATURE_BYTES))
    made = centres[rng.integers(0, 50, 20_000)] + 0.7 * rng.normal(size=(20_000, SIGNATURE_BYTES))
    copied = rng.choice(20_000, 200, replace=False)
    noise = rng.normal(size=(200, SIGNATURE_BYTES)) * np.linalg.norm(made[copied], axis=1, keepdims=True) / 8 * 0.1
    every = np.concatenate([made, made[copied] + noise])
    signatures = np.rint(every * 127 / np.abs(every).max(axis=1, keepdims=True)).astype(np.int8)
    unit = signatures / np.linalg.norm(signatures.astype(float), axis=1, keepdims=True)
    wanted = {(str(a), str(20_000 + b)) for b, a in enumerate(copied) if unit[a] @ unit[20_000 + b] >= 0.992}
    found = find_duplicates(
        [str(place) for place in range(len(every))],
        np.repeat([0, 1], [20_000, 200]),
        hashes([place.to_bytes(16, "big") for place in range(len(every))]),
        signatures,
    )
    got = {(pair.first, pair.second) for pair in found}
    assert len(wanted) > 150
    assert len(wanted & got) >= 0.97 * len(wanted)
    for pair in found:
        assert unit[int(pair.first)] @ unit[int(pair.second)] >= SAME_SIGNAL - 1e-6


def test_people_with_several_real_recordings_are_not_called_copies(ptbxl_dir: Path) -> None:
    """Every pair of recordings of one person among the first 700 of PTB-XL, each recording a split of its own."""
    source = PtbxlSource(input=str(ptbxl_dir), val_fold=8, test_fold=9, rate_hz=100)
    table = source.listing().table
    patients = table["patient_id"].to_pylist()
    several = [place for place, patient in enumerate(patients) if patients.count(patient) > 1][:120]
    rows = table.take(several).to_pylist()
    counts = [to_counts(standard_12_lead(source.read(row)).samples) for row in rows]
    names = [row["record_id"] for row in rows]
    assert pairs(counts, names) == []
    # And its copies at another rate are.
    copies = [resampled(row) for row in counts[:20]]
    assert len(pairs([*counts[:20], *copies], ["train"] * 20 + ["test"] * 20)) == 20
