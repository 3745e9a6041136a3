"""The whole of a real archive through dump, cluster and label: its codes are the nearest centroids."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import Normalizer

from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.ecg.preprocess import model_input
from hubert_ecg.pipeline.cluster import ClusterConfig, cluster
from hubert_ecg.pipeline.dump import DumpConfig, dump
from hubert_ecg.pipeline.extract import preprocess_of
from hubert_ecg.pipeline.label import LabelConfig, label
from hubert_ecg.pipeline.prepare import PrepareConfig, prepare
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.storage.codebooks import load_codebook

STARTS = (0.0, 2.5, 5.0)
SIZES = [50, 300]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_codes_of_real_recordings_are_the_nearest_centroids(ptbxl_dir: Path, tmp_path: Path) -> None:
    source = PtbxlSource(rate_hz=100, val_fold=8, test_fold=9)
    waveforms = prepare(PrepareConfig(source="ptbxl", input=str(ptbxl_dir), ptbxl=source, output=str(tmp_path / "w")))
    assert waveforms.rows == 4860
    features = dump(DumpConfig(waveforms=waveforms.directory, output=str(tmp_path / "f")))
    assert features.facts["set_aside"] == {}
    books = cluster(ClusterConfig(features=features.directory, num_clusters=SIZES, output=str(tmp_path / "k")))
    paths = [f"{books.directory}/k{size}" for size in SIZES]
    labels = label(
        LabelConfig(waveforms=waveforms.directory, codebooks=paths, crop_starts_s=STARTS, output=str(tmp_path / "l"))
    )
    assert labels.rows == 4860
    chosen = np.random.default_rng(0).choice(waveforms.rows, 100, replace=False)
    for path, size in zip(paths, SIZES, strict=True):
        centroids = load_codebook(path).centroids.astype(np.float64)
        equal = ties = tokens = 0
        for counts, codes in recordings(waveforms, labels, f"codes.k{size}", chosen):
            for start, of_crop in zip(STARTS, codes.reshape(len(STARTS), -1), strict=True):
                inputs = model_input(counts, start, preprocess_of(waveforms))
                unit = Normalizer().transform(DescriptorConfig(name="mfcc").compute(inputs[None])[0].astype(np.float64))
                distances = ((unit[:, None] - centroids[None]) ** 2).sum(-1)
                of_code = distances[np.arange(len(of_crop)), of_crop]
                tokens += len(of_crop)
                equal += int((distances.argmin(1) == of_crop).sum())
                ties += int(((distances.argmin(1) != of_crop) & (of_code - distances.min(1) < 1e-6)).sum())
        print(f"K = {size}: {equal} of {tokens} codes equal the nearest centroid, {ties} more tie with it")
        assert equal >= 0.9999 * tokens
        assert equal + ties == tokens == 100 * len(STARTS) * 93


def recordings(
    waveforms: Manifest, labels: Manifest, column: str, chosen: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(counts [12, time], codes) of recordings by their number in the table."""
    found, before = [], 0
    for part in range(waveforms.parts):
        counts = tables.list_rows(files.read_table(waveforms.part(part), ["counts"])["counts"])
        codes = tables.list_rows(files.read_table(labels.part(part), [column])[column])
        for number in chosen[(chosen >= before) & (chosen < before + len(counts))] - before:
            found.append((counts[number].reshape(12, -1), codes[number]))
        before += len(counts)
    return found
