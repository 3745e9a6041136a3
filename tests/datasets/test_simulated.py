"""The simulated source: a listing that matches the cohort, and the same signal in every process."""

import pickle

import numpy as np

from hubert_ecg.datasets.simulated import SimulatedSource
from hubert_ecg.ecg.simulate import CONDITIONS, SimulatorConfig, cohort, simulate_member

SOURCE = SimulatedSource(simulator=SimulatorConfig(num_patients=40, sampling_rate_hz=100, duration_s=3, seed=4))


def test_the_listing_is_the_cohort() -> None:
    members = cohort(SOURCE.simulator)
    listing = SOURCE.listing()
    rows = listing.table.to_pylist()
    assert [row["record_id"] for row in rows] == [member.record_id for member in members]
    assert [tuple(row["labels.conditions"]) for row in rows] == [member.conditions for member in members]
    assert listing.label_sets["conditions"].labels == CONDITIONS
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert rows[17]["path"] == "simulated:17"


def test_a_row_reads_as_its_member_also_in_a_pickled_copy() -> None:
    row = SOURCE.listing().table.to_pylist()[17]
    expected, _ = simulate_member(SOURCE.simulator, cohort(SOURCE.simulator)[17])
    recording = pickle.loads(pickle.dumps(SOURCE)).read(row)  # noqa: S301
    np.testing.assert_array_equal(recording.samples, expected.samples)
    assert (recording.record_id, recording.patient_id) == (row["record_id"], row["patient_id"])


def test_a_larger_cohort_keeps_the_splits_of_the_smaller() -> None:
    larger = SimulatedSource(simulator=SimulatorConfig(num_patients=80, sampling_rate_hz=100, duration_s=3, seed=4))
    small = SOURCE.listing().table.to_pylist()
    assert larger.listing().table.to_pylist()[: len(small)] == small
