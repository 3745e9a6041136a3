"""Units of voltage, and numbers in them."""

import numpy as np
import pytest

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.voltage import mv_per_unit, required_mv_per_unit, to_millivolts


@pytest.mark.parametrize(
    ("unit", "mv"),
    [
        ("mV", 1.0),
        (" MILLIVOLTS ", 1.0),
        ("uV", 1e-3),
        ("µV", 1e-3),
        ("μV", 1e-3),
        ("nV", 1e-6),
        ("V", 1e3),
        ("mmHg", None),
    ],
)
def test_a_unit_in_mv(unit: str, mv: float | None) -> None:
    assert mv_per_unit(unit) == mv


def test_a_unit_that_is_no_voltage_is_named() -> None:
    with pytest.raises(RecordingError, match=r"lead II: wanted mV, uV, nV or V, got 'mmHg'") as caught:
        required_mv_per_unit("mmHg", "lead II")
    assert caught.value.reason == "unknown unit"


def test_numbers_become_mv_lead_by_lead() -> None:
    raw = np.array([[0, 100, -1], [3, 0, 1]])
    samples = to_millivolts(raw, gain_mv=np.array([0.01, 2.0]), offset_mv=np.array([0.5, 0.0]), what="test")
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, [[0.5, 1.5, 0.49], [6, 0, 2]], rtol=1e-6)


def test_infinite_samples_are_refused_and_missing_ones_kept() -> None:
    raw = np.array([[1.0, np.nan]])
    one, zero = np.array([1.0]), np.array([0.0])
    np.testing.assert_array_equal(to_millivolts(raw, gain_mv=one, offset_mv=zero, what="test"), [[1, np.nan]])
    with pytest.raises(RecordingError, match="infinite samples") as caught:
        to_millivolts(raw, gain_mv=one * 1e300, offset_mv=zero, what="test")
    assert caught.value.reason == "unreadable"
