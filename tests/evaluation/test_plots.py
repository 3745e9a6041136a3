"""The figure is a PNG of the promised size for few labels, many labels, and none that can be judged."""

import struct
from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.evaluation.bootstrap import bootstrap_auroc
from hubert_ecg.evaluation.plots import save_auroc_figure


@pytest.mark.parametrize("num_labels", [1, 6, 30])
def test_a_png_is_written(tmp_path: Path, num_labels: int) -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((80, num_labels)) < 0.3
    targets[:, -1] = False
    scores = rng.random((80, num_labels)) + targets * 0.5
    labels = [f"L{column}" for column in range(num_labels)]
    intervals = bootstrap_auroc(targets, scores, labels, rng=rng, draws=50)
    path = tmp_path / "auroc.png"
    save_auroc_figure(str(path), targets, scores, labels, intervals, title="test", titles={"L0": "label nought"})
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width == 1725
    assert height >= 690
    assert (height > 1300) == (num_labels == 30)
