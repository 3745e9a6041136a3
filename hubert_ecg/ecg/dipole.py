"""The heart as a dipole: the vectorcardiogram of 12 leads, and what the leads become when the heart turns in the chest.

The vectorcardiogram follows from eight leads by the inverse Dower matrix; the way back is its pseudo-inverse.
Edenbrandt and Pahlm, Vectorcardiogram synthesized from a 12-lead ECG, J Electrocardiol 1988.
Shapes: B hearts.
"""

from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from hubert_ecg.ecg.leads import STANDARD_LEADS

_EIGHT_LEADS = ("V1", "V2", "V3", "V4", "V5", "V6", "I", "II")
_INVERSE_DOWER = (
    (-0.172, -0.074, 0.122, 0.231, 0.239, 0.194, 0.156, -0.010),
    (0.057, -0.019, -0.106, -0.022, 0.041, 0.048, -0.227, 0.887),
    (-0.229, -0.310, -0.246, -0.063, 0.055, 0.108, 0.022, 0.102),
)
"""X (to the left), Y (to the feet) and Z (to the back) of `_EIGHT_LEADS`."""


def turning_matrices(rotations_rad: np.ndarray) -> np.ndarray:
    """[B, 3] rotation vectors (axis times angle, rad) -> [B, 12, 12] float32: the 12 leads after, of those before.

    What the dipole does not explain of a lead stays as it is. Limb leads that obey Einthoven's law still do. It is
    meant for voltages: leads that are scaled one by one have lost what a rotation would mix.
    """
    to_dipole, to_leads = _projections()
    change = Rotation.from_rotvec(rotations_rad).as_matrix() - np.eye(3)
    return (np.eye(len(STANDARD_LEADS)) + to_leads @ change @ to_dipole).astype(np.float32)


@cache
def _projections() -> tuple[np.ndarray, np.ndarray]:
    """[3, 12] from leads to dipole, and [12, 3] back; III and the augmented leads follow from I and II."""
    places = [STANDARD_LEADS.index(lead) for lead in _EIGHT_LEADS]
    to_dipole, to_leads = np.zeros((3, 12)), np.zeros((12, 3))
    to_dipole[:, places] = _INVERSE_DOWER
    to_leads[places] = np.linalg.pinv(np.array(_INVERSE_DOWER))
    one, two = to_leads[0], to_leads[1]
    to_leads[2:6] = two - one, -(one + two) / 2, one - two / 2, two - one / 2
    return to_dipole, to_leads
