"""ECGDataset gives what the training's reader gives, in any process, and shards are read a few times only."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

import hubert_ecg
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.training.batches import to_batch
from hubert_ecg.training.dataset import ECGDataset, ShardShuffle
from hubert_ecg.training.examples import ExampleReader
from hubert_ecg.training.targets import CodeTargets, LabelTargets
from tests.training.padded import AGES, PARTS, PREPROCESS, ROWS, TOKENS, write_codes, write_waveforms


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_waveforms(tmp_path_factory.mktemp("w") / "w")


@pytest.fixture(scope="module")
def codes(waveforms: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_codes(tmp_path_factory.mktemp("l") / "l", waveforms)


def read(waveforms: Manifest, targets: CodeTargets | LabelTargets, epoch: int, **settings: object) -> object:
    """The batch that the training's reader makes of all rows at the stream positions of an epoch."""
    rows = [[part, row, (epoch * PARTS + part) * ROWS + row] for part in range(PARTS) for row in range(ROWS)]
    reader = ExampleReader(waveforms=waveforms, preprocess=PREPROCESS, targets=targets, seed=3, **settings)
    return to_batch(pa.concat_tables(reader.read(np.array(rows))), torch.device("cpu"))


@pytest.mark.parametrize("epoch", [0, 2])
def test_codes_and_inputs_are_those_of_the_training(waveforms: Manifest, codes: Manifest, epoch: int) -> None:
    dataset = hubert_ecg.ECGDataset(waveforms.directory, codes=codes.directory, seed=3)
    dataset.set_epoch(epoch)
    batch = read(waveforms, CodeTargets(codes=codes, codebooks=("a", "b"), num_tokens=TOKENS), epoch)
    items = [dataset[index] for index in range(len(dataset))]
    assert [item["record_id"] for item in items] == batch.record_ids
    assert torch.equal(torch.stack([item["input"] for item in items]), batch.inputs)
    assert torch.equal(torch.stack([item["attention_mask"] for item in items]), batch.attention_mask)
    assert torch.equal(torch.stack([item["target"] for item in items]), batch.targets.view(-1, 2, TOKENS))
    assert torch.equal(dataset[-1]["input"], items[-1]["input"])
    with pytest.raises(IndexError, match="below 15, got 15"):
        dataset[15]


def test_classes_numbers_or_nothing_as_targets(waveforms: Manifest) -> None:
    classes = ECGDataset(waveforms.directory, label_set="classes", seed=3, fixed_crop=True)
    wanted = read(waveforms, LabelTargets(label_set="classes", labels=("AFIB", "CRBBB", "NORM"), task="multi_class"), 0)
    assert [int(classes[index]["target"]) for index in range(15)] == wanted.targets[:, 0].tolist()
    assert classes[3]["target"].shape == ()
    assert torch.equal(classes[0]["input"], ECGDataset(waveforms.directory, fixed_crop=True)[0]["input"])
    ages = ECGDataset(waveforms.directory, label_set="age")
    assert [ages[index]["target"].item() for index in range(3)] == [61.0, 35.5, 80.0]
    assert len(ages) == 9 == PARTS * sum(age is not None and age[0] == age[0] for age in AGES)
    assert "target" not in ECGDataset(waveforms.directory)[0]


def test_loader_workers_give_what_one_process_gives(waveforms: Manifest, codes: Manifest) -> None:
    dataset = ECGDataset(waveforms.directory, codes=codes.directory, seed=3)
    dataset.set_epoch(1)
    alone = list(DataLoader(dataset, batch_size=4))
    assert alone[0]["target"].shape == (4, 2, TOKENS)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context="fork")
    for one, other in zip(alone, loader, strict=True):
        assert one["record_id"] == other["record_id"]
        assert all(torch.equal(one[name], other[name]) for name in ("input", "attention_mask", "target"))


def test_the_shuffle_visits_every_recording_once_and_shards_a_few_at_a_time(waveforms: Manifest) -> None:
    dataset = ECGDataset(waveforms.directory, cached_shards=1)
    order = list(ShardShuffle(dataset))
    assert sorted(order) == list(range(15)) != order
    assert [len({index // ROWS for index in order[i : i + ROWS]}) for i in (0, 5, 10)] == [1, 1, 1]
    assert list(ShardShuffle(dataset)) == order
    dataset.set_epoch(1)
    assert list(ShardShuffle(dataset)) != order
    for index in order:
        dataset[index]
    assert len(dataset._shards) == 1


def test_workers_are_sent_no_shards(waveforms: Manifest) -> None:
    dataset = ECGDataset(waveforms.directory)
    dataset[0]
    assert list(dataset._shards) == [0]
    sent = copy.copy(dataset)  # by the same state that pickling takes
    assert not sent._shards
    assert torch.equal(sent[0]["input"], dataset[0]["input"])


def test_what_does_not_fit_is_refused(waveforms: Manifest, codes: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"label_set: wanted one of \['age', 'classes'\]"):
        ECGDataset(waveforms.directory, label_set="superclass")
    with pytest.raises(ConfigError, match="got both"):
        ECGDataset(waveforms.directory, label_set="age", codes=codes.directory)
    with pytest.raises(ArtifactError, match="wanted recordings in split test, got none"):
        ECGDataset(waveforms.directory, split="test")
    other = write_waveforms(tmp_path / "w", rubbish=1)
    with pytest.raises(ArtifactError, match="run jobs.label on these waveforms"):
        ECGDataset(other.directory, codes=codes.directory)


def test_it_does_without_ray() -> None:
    code = "import sys, hubert_ecg; hubert_ecg.ECGDataset; print('ray' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
