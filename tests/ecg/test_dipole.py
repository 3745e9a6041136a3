"""Turned hearts: limb leads go on obeying Einthoven's law, rotations add up, and no rotation changes nothing."""

import numpy as np

from hubert_ecg.ecg.dipole import turning_matrices


def limb_consistent(count: int = 30) -> np.ndarray:
    """[12, sample] noise whose limb leads derive from I and II."""
    leads = np.random.default_rng(0).standard_normal((12, count))
    one, two = leads[0], leads[1]
    leads[2:6] = two - one, -(one + two) / 2, one - two / 2, two - one / 2
    return leads


def test_no_rotation_changes_nothing() -> None:
    np.testing.assert_allclose(turning_matrices(np.zeros((2, 3))), np.broadcast_to(np.eye(12), (2, 12, 12)), atol=1e-6)


def test_limb_leads_stay_consistent() -> None:
    turned = turning_matrices(np.array([[0.3, -0.2, 0.4]]))[0] @ limb_consistent()
    one, two = turned[0], turned[1]
    np.testing.assert_allclose(turned[2], two - one, atol=1e-5)
    np.testing.assert_allclose(turned[3:6], [-(one + two) / 2, one - two / 2, two - one / 2], atol=1e-5)
    assert np.abs(turned - limb_consistent()).max() > 0.1


def test_turning_there_and_back_is_no_turning() -> None:
    there, back = turning_matrices(np.array([[0.1, 0.5, -0.3], [-0.1, -0.5, 0.3]]))
    np.testing.assert_allclose(back @ there, np.eye(12), atol=1e-5)


def test_a_heart_turned_to_the_front_is_seen_by_the_front() -> None:
    """A dipole to the left, turned by 90 degrees about the feet-head axis, points to the chest leads V1 and V2."""
    leads = np.zeros(12)
    leads[[0, 10, 11]] = 1.0  # I, V5, V6
    turned = turning_matrices(np.array([[0.0, np.pi / 2, 0.0]]))[0] @ leads
    assert turned[0] < leads[0]
    assert turned[6] > leads[6]
