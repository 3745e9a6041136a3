"""How fast a training is fed and run: reading beside a map-style dataset, Ray Train beside the bare loop.

    python -m benchmarks.train                       # simulated recordings, size tiny
    python -m benchmarks.train --waveforms W --labels L --size base --use_gpu

Reading: the other side is a torch Dataset that per item loads 12 x 5000 float64 samples at 500 Hz from an .npy file,
takes 5 s of them, decimates their concatenation and has scikit-learn's k-means predict 93 tokens from 39 descriptors
that lie ready in another .npy; in a DataLoader of one process. Ours reads the prepared tables, crops, looks the codes
up and makes the tensors, alone in one process and through Ray Data; seconds are wall-clock times the cores in use, once
processes have started.

Running: the same module, plan and batches in the bare loop (no Ray, batches in memory beforehand) and in
`jobs.pretrain` with one worker, in turn. Speeds are medians of the loops' own rows after the first ones; the share of
the time spent waiting for data is jobs.pretrain's. On a GPU the model FLOP utilisation is added, as in
benchmarks/model.py. Nothing else should run on the machine.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.dump import recut, simulated, tiled
from benchmarks.model import utilisation
from benchmarks.report import Report, Row, reporting
from benchmarks.timing import ROWS_TO_WARM_UP
from hubert_ecg.clustering.codebook import Codebook, normalise_with
from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.models import model_config
from hubert_ecg.pipeline.curves import step_rows
from hubert_ecg.pipeline.label import LabelConfig, label
from hubert_ecg.pipeline.pretrain import PretrainConfig, PretrainJob, pretrain
from hubert_ecg.pipeline.training_run import WorkersConfig, make_learner
from hubert_ecg.pipeline.training_setup import Inputs, job_fields, select_splits
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.storage.codebooks import save_codebook
from hubert_ecg.training.batches import to_batch
from hubert_ecg.training.examples import ExampleReader
from hubert_ecg.training.loop import Observer, train
from hubert_ecg.training.optimiser import make_optimiser
from hubert_ecg.training.plan import StepPlan
from hubert_ecg.training.state import TrainerState
from hubert_ecg.training.step import Batch
from hubert_ecg.training.targets import CodeTargets, open_codes

RAY_EPOCHS = 12
"""Times that Ray Data reads the table in one run: its processes take seconds to start, a training runs for days."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waveforms", metavar="W", help="prepared table W; simulated recordings by default")
    parser.add_argument("--labels", metavar="L", help="codes of W; those of a random codebook by default")
    parser.add_argument("--records", type=int, default=16_000, help="recordings of the table, the same ones repeated")
    parser.add_argument("--items", type=int, default=512, help="items of the map-style dataset")
    parser.add_argument("--size", default="tiny", help="model size")
    parser.add_argument("--batch", type=int, default=64, help="recordings per step")
    parser.add_argument("--steps", type=int, default=80, help="steps of one run of a training")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; a core is left to the readers")
    parser.add_argument("--use_gpu", action="store_true", help="train on a GPU")
    parser.add_argument("--only", choices=["reading", "running"], help="one half of it")
    with reporting("train", parser) as (options, report), tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(options.threads)
        report.head(f"{options.threads} threads")
        inputs = Prepared.make(options, folder)
        if options.only != "running":
            compare_reading(inputs, folder, options, report)
        if options.only != "reading":
            compare_running(inputs, folder, options, report)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a pre-training reads."""

    waveforms: Manifest
    labels: Manifest

    @classmethod
    def make(cls, options: argparse.Namespace, folder: str) -> "Prepared":
        """Those that were given, or simulated recordings with the codes of a random codebook."""
        if options.waveforms and options.labels:
            return cls(waveforms=open_artifact(options.waveforms), labels=open_artifact(options.labels))
        source = open_artifact(options.waveforms or simulated(f"{folder}/simulated"))
        waveforms = tiled(recut(source, f"{folder}/recut", 256), f"{folder}/w", options.records)
        mfcc = DescriptorConfig(name="mfcc")
        centroids = np.random.default_rng(0).standard_normal((100, mfcc.dim)).astype(np.float32)
        book = Codebook(centroids=normalise_with(centroids, "l2"), descriptor=mfcc.to_dict())
        save_codebook(f"{folder}/k100", book)
        made = label(LabelConfig(waveforms=waveforms.directory, codebooks=[f"{folder}/k100"], output=f"{folder}/l"))
        return cls(waveforms=waveforms, labels=made)

    def config(self, output: str, options: argparse.Namespace, **settings: Any) -> PretrainConfig:
        return PretrainConfig(
            waveforms=self.waveforms.directory,
            labels=self.labels.directory,
            output=output,
            size=options.size,
            steps=options.steps,
            batch_size=options.batch,
            validation_interval=options.steps,
            workers=WorkersConfig(threads_each=options.threads, use_gpu=options.use_gpu),
            **settings,
        )

    def job(self, config: PretrainConfig) -> PretrainJob:
        """The job that `pretrain` would run."""
        opened = Inputs.open(config)
        labels = open_codes(config.labels, opened.waveforms, role="--labels")
        books = labels.facts["codebooks"]
        targets = CodeTargets(codes=labels, codebooks=tuple(books), num_tokens=opened.preprocess.num_tokens)
        return PretrainJob(
            **job_fields(config, opened, select_splits(opened.waveforms, "recordings"), targets),
            codebooks=tuple(books),
            vocab_sizes=tuple(book["num_clusters"] for book in books.values()),
            num_tokens=targets.num_tokens,
            provenance={},
        )


def compare_reading(inputs: Prepared, folder: str, options: argparse.Namespace, report: Report) -> None:
    """ECGs per second and core of the map-style dataset, of our reader alone, and of it through Ray Data."""
    from hubert_ecg.pipeline.feed import feed
    from hubert_ecg.pipeline.ray_cluster import available, start_ray

    loader = map_style(f"{folder}/items", options)
    job = inputs.job(inputs.config(f"{folder}/unused", options))
    reader, plan = job.reader, job.plan
    epoch = plan.num_rows // plan.batch_size
    start_ray()

    def through_ray() -> Iterator[Batch]:
        for table in feed(reader, plan, rank=0, first_step=0, last_step=RAY_EPOCHS * epoch):
            yield to_batch(table, torch.device("cpu"))

    sides: dict[str, tuple[Callable[[], Iterator[Any]], int]] = {
        "theirs": (lambda: iter(loader), 1),
        "alone": (lambda: alone(reader, plan, 0, epoch), 1),
        "Ray Data": (through_ray, available("CPU")),
    }
    core_ms = {name: core_ms_each(*side, options.batch, options.runs) for name, side in sides.items()}
    for name, title in (("alone", "one process"), ("Ray Data", "through Ray Data")):
        report.add(
            Row(
                name=f"reading training examples, {title}",
                ours=core_ms[name],
                theirs=core_ms["theirs"],
                unit="core ms per ECG",
                against="a map-style dataset over .npy files that decimates and predicts the codes of each item",
                facts={"ECGs/s per core": 1e3 / statistics.median(core_ms[name])},
            )
        )


def core_ms_each(batches: Callable[[], Iterator[Any]], cores: int, batch: int, runs: int) -> tuple[float, ...]:
    """Core milliseconds per recording of some runs, in each from a third on, when all processes are there."""
    found = []
    for _ in range(runs):
        times = [time.perf_counter() for _ in batches()]
        first = len(times) // 3
        found.append(1e3 * (times[-1] - times[first]) * cores / ((len(times) - 1 - first) * batch))
    return tuple(found)


def alone(reader: ExampleReader, plan: StepPlan, first_step: int, last_step: int) -> Iterator[Batch]:
    """The batches of a plan, read in this process and without Ray."""
    import pyarrow as pa

    kept = None
    for window in plan.windows(first_step, last_step):
        for table in reader.read(plan.rank_rows(window, 0, first_step, last_step)):
            kept = table if kept is None else pa.concat_tables([kept, table])
            while len(kept) >= plan.batch_size:
                yield to_batch(kept.slice(0, plan.batch_size).combine_chunks(), torch.device("cpu"))
                kept = kept.slice(plan.batch_size)


def map_style(folder: str, options: argparse.Namespace) -> torch.utils.data.DataLoader:
    """The other side: items that are loaded, decimated and labelled one by one."""
    from sklearn.cluster import MiniBatchKMeans

    Path(folder).mkdir()
    rng = np.random.default_rng(0)
    kmeans = MiniBatchKMeans(100, n_init=1, random_state=0).fit(rng.standard_normal((5000, 39)).astype(np.float32))
    for item in range(options.items):
        np.save(f"{folder}/{item}.npy", rng.standard_normal((12, 5000)))
        np.save(f"{folder}/{item}-features.npy", rng.standard_normal((93, 39)).astype(np.float32))
    return torch.utils.data.DataLoader(Items(folder, options.items, kmeans), batch_size=options.batch, shuffle=True)


class Items(torch.utils.data.Dataset):
    """A map-style dataset over .npy files."""

    def __init__(self, folder: str, count: int, kmeans: Any) -> None:
        self.folder, self.count, self.kmeans = folder, count, kmeans

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        from scipy.signal import decimate

        ecg = np.load(f"{self.folder}/{index}.npy")[:, :2500]
        codes = self.kmeans.predict(np.load(f"{self.folder}/{index}-features.npy"))
        samples = decimate(ecg.reshape(-1), 5).astype(np.float32)
        return {"input": torch.from_numpy(samples), "codes": torch.from_numpy(codes)}


def compare_running(inputs: Prepared, folder: str, options: argparse.Namespace, report: Report) -> None:
    """ECGs per second of the bare loop and of jobs.pretrain with one worker, in turn, and what the latter waits."""
    speeds: dict[str, list[float]] = {"bare": [], "Ray Train": []}
    waits = []
    for run in range(options.runs):
        bare = bare_rows(inputs, f"{folder}/bare{run}", options)
        output = f"{folder}/trained{run}"
        pretrain(inputs.config(output, options))
        trained = step_rows(output)
        for name, rows in (("bare", bare), ("Ray Train", trained)):
            speeds[name].append(statistics.median(row["ecgs_per_s"] for row in rows[ROWS_TO_WARM_UP:]))
        waits.append(statistics.mean(row["waiting_share"] for row in trained[ROWS_TO_WARM_UP:]))
    name = f"pre-training with Ray Train, {options.size}, one worker"
    report.add(
        Row(
            name=name,
            ours=tuple(speeds["Ray Train"]),
            theirs=tuple(speeds["bare"]),
            unit="ECGs/s",
            against="the bare training loop on the same model and examples in memory",
            in_turn=True,
            more_is_better=True,
        )
    )
    report.add(Row(name=f"{name}, waiting for data", ours=tuple(100 * share for share in waits), unit="% of the time"))
    if options.use_gpu:
        report.add(utilisation(name, model_config(options.size), statistics.median(speeds["Ray Train"])))


def bare_rows(inputs: Prepared, output: str, options: argparse.Namespace) -> list[dict[str, float]]:
    """The rows of a training in this process, with all batches in memory beforehand and without validation."""
    job = inputs.job(inputs.config(output, options))
    device = torch.device("cuda" if options.use_gpu else "cpu")
    batches = list(alone(job.reader, job.plan, 0, options.steps))
    torch.manual_seed(job.loop.seed)
    module = job.make_module(None).to(device)
    optimiser = make_optimiser(module, job.optimiser)
    rows: list[dict[str, float]] = []

    class Rows(Observer):
        def on_row(self, row: dict[str, float]) -> None:
            rows.append(row)

    learner = make_learner(job, module, optimiser, lambda batch, step: job.step_loss(module, batch, step), device)
    train(
        learner,
        (moved(batch, device) for batch in batches),
        TrainerState(),
        config=job.loop,
        validate=lambda: {"val_loss": 0.0, "score": 0.0},
        observer=Rows(),
    )
    return rows


def moved(batch: Batch, device: torch.device) -> Batch:
    mask = batch.attention_mask
    return Batch(
        record_ids=batch.record_ids,
        inputs=batch.inputs.to(device),
        targets=batch.targets.to(device),
        attention_mask=None if mask is None else mask.to(device),
    )


if __name__ == "__main__":
    main()
