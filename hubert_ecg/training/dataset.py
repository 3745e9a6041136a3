"""ECGDataset: the prepared tables as a torch Dataset, for training loops of one's own; Ray takes no part in it.

dataset = hubert_ecg.ECGDataset("W", label_set="superclass")
loader = DataLoader(dataset, batch_size=64, sampler=ShardShuffle(dataset), num_workers=2)
for epoch in range(10):
    dataset.set_epoch(epoch)
    for batch in loader:
        logits = model(batch["input"], attention_mask=batch["attention_mask"]).logits
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.training.batches import for_loss
from hubert_ecg.training.examples import ExampleReader, Shard, select_rows
from hubert_ecg.training.plan import StepPlan
from hubert_ecg.training.targets import CodeTargets, LabelTargets, open_codes


class ECGDataset(Dataset[dict[str, Any]]):
    """Crops of prepared recordings with their codes or labels, by index; the examples that the trainings of this
    package see.

    An item is a dict: `record_id`; `input` [12 * T] float32, the model's input; `attention_mask` [12 * T] bool, False
    where nothing was recorded or is to be attended to; and with codes or a label set `target`. That is [codebook,
    token] int64 codes, -100 (which torch's cross-entropy ignores) for tokens that have none; [label] float32 for
    multi-label sets; one int64 for the class of a multi-class set; or [label] float32 numbers, NaN where unknown.

    Crops of an item change with the epoch, and are the same for the same seed, epoch and index on any machine, in any
    number of loader workers. Shards are read when they are first needed, and a few of them kept: go through a large
    table in the order of `ShardShuffle`, not at random.
    """

    def __init__(
        self,
        waveforms: str,
        *,
        codes: str | None = None,
        label_set: str | None = None,
        split: str = "train",
        tag: str | None = None,
        fixed_crop: bool = False,
        seed: int = 0,
        cached_shards: int = 4,
    ) -> None:
        """`waveforms`: output of jobs.prepare. `codes`: output of jobs.label for it. `label_set`: one of its label
        sets; recordings without an answer to it are left out. `tag`: only recordings that carry it. `fixed_crop`: the
        same crop every time, for validation. `cached_shards`: shards of about 6 MB kept in memory, per worker.

        Raises ArtifactError for tables that are missing, unfinished or do not belong together, ConfigError for a label
        set that is not there and for settings that do not go together.
        """
        if codes is not None and label_set is not None:
            raise ConfigError("ECGDataset: wanted codes or a label_set, got both; leave one of them out")
        if cached_shards < 1:
            raise ConfigError(f"ECGDataset: wanted cached_shards of at least 1, got {cached_shards}")
        table = open_artifact(waveforms, verb="prepare", role="waveforms")
        targets, need_label = _targets(table, codes, label_set)
        self.reader = ExampleReader(
            waveforms=table,
            preprocess=PreprocessConfig.from_dict(table.config["preprocess"]),
            targets=targets,
            seed=seed,
            fixed_crop=fixed_crop,
        )
        self.selected = tuple(select_rows(table, split=split, label_set=need_label, tag=tag))
        self.epoch = 0
        self.cached_shards = cached_shards
        self._ends = np.cumsum([len(rows) for rows in self.selected])
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        if len(self) == 0:
            raise ArtifactError(f"{waveforms}: wanted recordings in split {split}, got none that fit; choose another")

    def set_epoch(self, epoch: int) -> None:
        """Choose the crops of an epoch. Loaders with `persistent_workers` do not notice it; leave that off."""
        self.epoch = epoch

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"ECGDataset: wanted an index below {len(self)}, got {index}")
        index = index % len(self)
        part = int(np.searchsorted(self._ends, index, side="right"))
        row = int(self.selected[part][index - self._ends[part] + len(self.selected[part])])
        example = self.reader.example(self._shard(part), row, self.epoch * len(self) + index)
        mask = np.ones(len(example.input), bool) if example.mask is None else example.mask
        item: dict[str, Any] = {
            "record_id": example.record_id,
            "input": torch.from_numpy(example.input),
            "attention_mask": torch.from_numpy(mask),
        }
        if example.target is not None:
            item["target"] = self._target(example.target)
        return item

    def __getstate__(self) -> dict[str, Any]:
        """Workers read their own shards."""
        return self.__dict__ | {"_shards": OrderedDict()}

    def _target(self, target: np.ndarray) -> torch.Tensor:
        found = torch.from_numpy(for_loss(target))
        targets = self.reader.targets
        if isinstance(targets, CodeTargets):
            return found.view(len(targets.codebooks), targets.num_tokens)
        return found[0] if isinstance(targets, LabelTargets) and targets.task == "multi_class" else found

    def _shard(self, part: int) -> Shard:
        if part not in self._shards:
            while len(self._shards) >= self.cached_shards:
                self._shards.popitem(last=False)
            self._shards[part] = self.reader.open(part)
        self._shards.move_to_end(part)
        return self._shards[part]


class ShardShuffle(Sampler[int]):
    """Every index once, in an order that changes with the dataset's epoch: shards shuffled, taken a few at a time, and
    shuffled within these, so that the dataset's cache is enough."""

    def __init__(self, dataset: ECGDataset, *, seed: int = 0) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        dataset = self.dataset
        firsts = np.concatenate([[0], np.cumsum([len(rows) for rows in dataset.selected])])
        numbered = tuple(np.arange(a, b) for a, b in pairwise(firsts))
        plan = StepPlan(
            selected=numbered,
            batch_size=len(dataset),
            world_size=1,
            seed=self.seed,
            window_parts=dataset.cached_shards,
        )
        epoch = dataset.epoch
        for window in plan.windows(epoch, epoch + 1):
            yield from plan.rank_rows(window, 0, epoch, epoch + 1)[:, 1].tolist()


def _targets(
    waveforms: Manifest, codes: str | None, label_set: str | None
) -> tuple[CodeTargets | LabelTargets | None, str | None]:
    """What the examples are trained towards, and the label set that a recording needs an answer to."""
    if codes is not None:
        labels = open_codes(codes, waveforms, role="codes")
        books = tuple(labels.facts["codebooks"])
        return CodeTargets(codes=labels, codebooks=books, num_tokens=labels.facts["tokens_per_crop"]), None
    if label_set is None:
        return None, None
    sets = waveforms.facts["label_sets"]
    if label_set not in sets:
        raise ConfigError(f"label_set: wanted one of {sorted(sets)} of {waveforms.directory}, got {label_set}")
    described = sets[label_set]
    targets = LabelTargets(label_set=label_set, labels=tuple(described["labels"]), task=described["task"])
    return targets, None if described["none_is_negative"] else label_set
