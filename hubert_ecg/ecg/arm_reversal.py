"""Whether the electrodes of the two arms were exchanged, judged by what the chest leads say about the limb leads.

The exchange turns lead I over and swaps II with III and aVR with aVL, but leaves V1 to V6 alone. I and II are predicted
from V1 to V6 (as Kors and van Herpen do, J Electrocardiol 2001), and compared with the leads as they are and as they
would be with the electrodes put right.
"""

import numpy as np

NEEDED_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""What `reversal_score` wants, in this order."""

_CHEST_TO_I = np.array([-0.55, 0.20, 0.04, -0.05, 0.13, 0.23])
_CHEST_TO_II = np.array([-0.03, -0.11, 0.13, 0.08, 0.06, 0.38])
"""Least squares over 2,430 recordings of PTB-XL, each weighted by the inverse of its power in the chest leads."""

_LEADS = np.eye(8)
_LEAD_I, _LEAD_II = _LEADS[0], _LEADS[1]
_PREDICTED_I = np.concatenate([[0, 0], _CHEST_TO_I])
_PREDICTED_II = np.concatenate([[0, 0], _CHEST_TO_II])
_PREDICTED = np.stack([_PREDICTED_I, _PREDICTED_II, _PREDICTED_II - _PREDICTED_I])
_AS_THEY_ARE = np.stack([_LEAD_I, _LEAD_II, _LEAD_II - _LEAD_I]) - _PREDICTED
_PUT_RIGHT = np.stack([-_LEAD_I, _LEAD_II - _LEAD_I, _LEAD_II]) - _PREDICTED


def reversal_score(gram_mv2: np.ndarray) -> float:
    """Natural logarithm of the squared error of I, II and III after putting them right over that before; below 0 the
    chest leads speak for an exchange.

    `gram_mv2` is [8, 8], the mean products of NEEDED_LEADS without baseline wander.

    Below -0.4 lie 1 in 2,430 recordings of PTB-XL that the coefficients were not fitted on and 0 in 100 of LUDB (the
    former may be a true exchange, or a heart on the right); with the arms exchanged by computation, 94.4 % and 93 %.
    """
    before = float(np.einsum("ij,jk,ik->", _AS_THEY_ARE, gram_mv2, _AS_THEY_ARE))
    after = float(np.einsum("ij,jk,ik->", _PUT_RIGHT, gram_mv2, _PUT_RIGHT))
    if not (before > 0 and after > 0):
        return 0.0
    return float(np.log(after / before))
