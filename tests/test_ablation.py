"""The ablation: a probe is made once, and belongs to its recordings and weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablation import NONE, Experiment
from hubert_ecg.errors import ConfigError
from hubert_ecg.storage.artifact import open_artifact
from tests.benchmark_recordings import recordings
from tests.pipeline.waveform_tables import noisy_rows, write_waveforms


def test_a_probe_is_kept_and_refused_for_other_recordings(tmp_path: Path) -> None:
    small = recordings(90)
    found = replace(small, scaled=np.tile(small.scaled, (1, 1, 4))[:, :, :1000])
    waveforms = open_artifact(write_waveforms(str(tmp_path / "w"), noisy_rows(3)).directory)
    experiment = Experiment(root=tmp_path, waveforms=waveforms, steps=1, threads=1)
    reached = experiment.score(NONE, 0, found)
    assert reached > 0.8  # The wave is there to be seen.
    [kept] = (tmp_path / "probes").iterdir()
    kept.write_text(kept.read_text().replace(str(reached), "0.25"))
    assert experiment.score(NONE, 0, found) == 0.25
    with pytest.raises(ConfigError, match=f"{kept}: wanted a probe of .*; delete the file"):
        experiment.score(NONE, 0, replace(found, fingerprint="1" * 16))
