"""Sample ECGs: the original's file names and shapes, in mV, the same for the same seed."""

from pathlib import Path

import numpy as np

from hubert_ecg.ecg.simulate import CONDITIONS
from jobs.sample import SampleConfig, write_samples


def test_samples_have_the_original_shapes(tmp_path: Path) -> None:
    shapes = write_samples(SampleConfig(output=str(tmp_path)))
    paths = {Path(path).stem: np.load(path, allow_pickle=False) for path in shapes}
    assert all(np.load(path).shape == shape for path, shape in shapes.items())
    assert paths["single_ecg"].shape == (12, 5000)
    assert paths["batch_ecg"].shape == (5, 12, 5000)
    assert {f"{name.lower()}_ecg" for name in CONDITIONS} <= set(paths)
    single = paths["single_ecg"]
    assert 0.3 < np.abs(single).max() < 10  # mV
    np.testing.assert_allclose(single[2], single[1] - single[0], atol=1e-6)
    again = list(write_samples(SampleConfig(output=str(tmp_path / "again"))))
    np.testing.assert_array_equal(np.load(again[0], allow_pickle=False), single)
    other = list(write_samples(SampleConfig(output=str(tmp_path / "other"), seed=7)))
    assert not np.array_equal(np.load(other[0], allow_pickle=False), single)
