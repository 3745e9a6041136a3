"""95 % intervals of AUROC hold the true value in 93.5 to 96.5 % of 2,000 simulated data sets."""

import numpy as np
import pytest

from benchmarks.coverage import SETTINGS, coverage


@pytest.mark.slow
@pytest.mark.parametrize(("auroc", "positives", "negatives"), SETTINGS)
def test_intervals_cover_as_often_as_they_say(auroc: float, positives: int, negatives: int) -> None:
    """The Monte Carlo standard error of a coverage of 95 % is 0.5 %."""
    found = coverage(auroc, positives, negatives, data_sets=2000, draws=500, rng=np.random.default_rng(0))
    held, above, below = found["logit"]
    print(f"AUROC {auroc}, {positives} + {negatives}: {100 * held:.1f} % (above {above:.3f}, below {below:.3f})")
    assert 0.935 <= held <= 0.965
