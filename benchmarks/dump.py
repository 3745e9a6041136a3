"""How fast jobs.dump and jobs.label are, beside a plain loop of scipy.stats and librosa over each token's samples.

    python -m benchmarks.dump --waveforms W --records 100000

W is a prepared table of 10 s recordings (simulated ones are prepared without it). They are cut into shards of --shard
records, as suits an archive, and these are repeated, as links to the same files, until there are enough records. The
plain loop is given the model's inputs, already read and cut. The jobs' figures include reading (from the page cache),
writing and Ray Data, not the start of the cluster; they are wall-clock seconds times the cores that Ray was given.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.report import line, machine, peak_worker_mib
from hubert_ecg.clustering.codebook import Codebook, normalise_with
from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.pipeline.crops import WaveformShard
from hubert_ecg.pipeline.dump import DumpConfig, dump
from hubert_ecg.pipeline.extract import LatentSource, describe_latent, preprocess_of
from hubert_ecg.pipeline.label import LabelConfig, label
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, open_artifact, write_part
from hubert_ecg.storage.codebooks import save_codebook

DESCRIPTORS = ("time_frequency", "mfcc", "mixed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waveforms", help="prepared table W; simulated recordings by default")
    parser.add_argument("--records", type=int, default=100_000, help="records in the large jobs")
    parser.add_argument("--shard", type=int, default=1024, help="records per shard")
    parser.add_argument("--latents", type=int, default=4000, help="records whose latents are labelled")
    parser.add_argument("--plain", type=int, default=20, help="records in one run of the plain loop")
    parser.add_argument("--runs", type=int, default=5, help="runs of the plain loop and of arithmetic alone")
    parser.add_argument("--jobs", type=int, default=3, help="runs of each large job")
    options = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        prepared = open_artifact(options.waveforms or simulated(f"{folder}/simulated"))
        waveforms = recut(prepared, f"{folder}/recut", options.shard)
        large = tiled(waveforms, f"{folder}/large", options.records)
        small = tiled(waveforms, f"{folder}/small", options.records // 10)
        inputs = first_inputs(waveforms)
        for name in DESCRIPTORS:
            compare(name, inputs, small, large, folder, options)
        label_figures(waveforms, large, folder, options)


def compare(
    name: str, inputs: np.ndarray, small: Manifest, large: Manifest, folder: str, options: argparse.Namespace
) -> None:
    """All figures of one descriptor."""
    config = DescriptorConfig(name=name)  # type: ignore[arg-type]
    few = inputs[: options.plain]
    np.testing.assert_allclose(
        config.compute(few)[..., :13], np.stack([plain_rows(record, name) for record in few])[..., :13], atol=0.01
    )
    plain_s = per_record(lambda: [plain_rows(record, name) for record in few], len(few), options.runs)
    batches = np.split(inputs, range(64, len(inputs), 64))
    ours_s = per_record(lambda: [config.compute(batch) for batch in batches], len(inputs), options.runs)
    print(line(f"{name}, arithmetic alone", plain_s / ours_s, ours_s, plain_s, "plain loop"), flush=True)

    def job(waveforms: Manifest, runs: int) -> JobCost:
        def work(output: str) -> Manifest:
            return dump(DumpConfig(waveforms=waveforms.directory, output=output, descriptor=name, split="all"))  # type: ignore[arg-type]

        return median_job(work, waveforms.rows, folder, runs)

    little, much = job(small, 1), job(large, options.jobs)
    title = f"{name}, whole job, {large.rows} records"
    print(line(title, plain_s / much.core_s, much.core_s, plain_s, "plain loop"))
    note = f"the job with {small.rows}; largest worker {little.peak_mib:.0f} -> {much.peak_mib:.0f} MiB"
    print(
        line(f"{name}, ten times the records", little.core_s / much.core_s, much.core_s, little.core_s, note),
        flush=True,
    )


def label_figures(waveforms: Manifest, large: Manifest, folder: str, options: argparse.Namespace) -> None:
    """Records per second and core of jobs.label, three crops each, for MFCC and for latents of a tiny model."""
    rng = np.random.default_rng(0)
    mfcc = DescriptorConfig(name="mfcc")
    rows = mfcc.compute(first_inputs(waveforms)).reshape(-1, mfcc.dim)
    centroids = normalise_with(rng.choice(rows, 100, replace=False), "l2")
    save_codebook(f"{folder}/mfcc", Codebook(centroids=centroids, descriptor=mfcc.to_dict()))
    latent = latent_codebook(waveforms, f"{folder}/tiny", f"{folder}/latent")
    few = tiled(waveforms, f"{folder}/few", options.latents)
    for table, book, checkpoint in ((large, "mfcc", None), (few, "latent", latent)):

        def work(
            output: str, table: Manifest = table, book: str = book, checkpoint: str | None = checkpoint
        ) -> Manifest:
            config = LabelConfig(
                waveforms=table.directory, codebooks=[f"{folder}/{book}"], output=output, checkpoint=checkpoint
            )
            return label(config)

        cost = median_job(work, table.rows, folder, 1 if checkpoint else options.jobs)
        print(
            f"label, {book}, K = 100, 3 crops, {table.rows} records: {1 / cost.core_s:,.0f} ECGs/s per core, "
            f"a million in {cost.core_s * 1e6 / 3600:.2f} core hours; largest worker {cost.peak_mib:.0f} MiB",
            flush=True,
        )


@dataclass(frozen=True, kw_only=True)
class JobCost:
    """What a whole job cost, per record."""

    core_s: float
    """Median wall-clock seconds times cores."""
    peak_mib: float
    """Peak resident memory of the largest worker."""


def median_job(work: Callable[[str], Manifest], records: int, folder: str, runs: int) -> JobCost:
    """Run a job some times on a cluster of its own, which is started before the clock."""
    import ray

    from hubert_ecg.pipeline.ray_cluster import available, start_ray

    start_ray()
    core_s = []
    watch = PeakWatch()
    watch.start()
    for _ in range(runs):
        start = time.perf_counter()
        work(f"{folder}/output")
        core_s.append((time.perf_counter() - start) * available("CPU") / records)
        shutil.rmtree(f"{folder}/output")
    peak_mib = watch.stop()
    ray.shutdown()
    return JobCost(core_s=statistics.median(core_s), peak_mib=peak_mib)


class PeakWatch(threading.Thread):
    """Looks at the workers' peak memory every second: actors end with their job and leave nothing to look at."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended, self.peak_mib = threading.Event(), 0.0

    def run(self) -> None:
        while not self.ended.wait(1.0):
            self.peak_mib = max(self.peak_mib, peak_worker_mib())

    def stop(self) -> float:
        self.ended.set()
        self.join()
        return max(self.peak_mib, peak_worker_mib())


def per_record(work: Callable[[], object], records: int, runs: int) -> float:
    """Median seconds per record over some runs, after one that warms up."""
    work()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append((time.perf_counter() - start) / records)
    return statistics.median(seconds)


def plain_rows(record: np.ndarray, name: str) -> np.ndarray:
    """[6000] model input at 100 Hz -> [93, column], one shard of 64 samples after the other."""
    from librosa.feature import delta

    shards = [record[64 * token : 64 * (token + 1)] for token in range(93)]
    if name == "time_frequency":
        return np.array([plain_time_frequency(shard) for shard in shards])
    if name == "mixed":
        return np.array([np.concatenate([plain_time_frequency(shard), plain_mfcc(shard)]) for shard in shards])
    rows = np.array([plain_mfcc(shard) for shard in shards])
    deltas = [delta(rows, width=5, order=order, axis=0, mode="nearest") for order in (1, 2)]
    return np.concatenate([rows, *deltas], axis=1)


def plain_time_frequency(shard: np.ndarray) -> list[float]:
    from scipy import stats

    spectrum = np.abs(np.fft.fft(shard)) ** 2 / len(shard)
    rms, peak = np.sqrt(np.mean(shard**2)), np.max(np.abs(shard))
    moments = [np.min(shard), np.max(shard), np.mean(shard), rms, np.var(shard), np.std(shard), np.mean(shard**2)]
    shape = [peak, np.ptp(shard), peak / rms, stats.skew(shard), stats.kurtosis(shard)]
    return [*moments, *shape, np.max(spectrum), np.sum(spectrum), np.mean(spectrum), np.var(spectrum)]


def plain_mfcc(shard: np.ndarray) -> np.ndarray:
    from librosa.feature import mfcc

    mel = {"n_fft": 64, "hop_length": 64, "center": False, "n_mels": 20, "fmin": 0.05, "fmax": 47.0}
    coefficients: np.ndarray = mfcc(y=shard, sr=100, n_mfcc=13, **mel)
    return coefficients[:, 0]


def first_inputs(waveforms: Manifest) -> np.ndarray:
    """[crop, 6000] float32: the first crop of each recording of the first shard."""
    shard = WaveformShard.read(waveforms, 0, preprocess_of(waveforms))
    return np.concatenate([crops.inputs for crops in shard.crops([0.0], 64)])


def recut(waveforms: Manifest, directory: str, rows_per_shard: int) -> Manifest:
    """The same recordings in larger shards; a last one that would be smaller is left out."""
    output = begin(directory, verb="prepare", config=waveforms.config, inputs=waveforms.inputs)
    assert isinstance(output, StageOutput)
    table = pa.concat_tables([files.read_table(waveforms.part(part)) for part in range(waveforms.parts)])
    size = min(rows_per_shard, table.num_rows)
    for part in range(table.num_rows // size):
        rows = table.slice(part * size, size).combine_chunks()
        write_part(directory, part, rows, splits=dict(Counter(rows["split"].to_pylist())))
    return output.finish(parts=table.num_rows // size, facts=waveforms.facts)


def tiled(waveforms: Manifest, directory: str, records: int) -> Manifest:
    """A table of at least so many records: the shards of another one, again and again, as links."""
    output = begin(directory, verb="prepare", config=waveforms.config, inputs=waveforms.inputs)
    assert isinstance(output, StageOutput)
    Path(directory, "parts").mkdir(parents=True)
    receipts = waveforms.receipts()
    parts = -(-records * waveforms.parts // waveforms.rows)
    for part, source in enumerate(islice(cycle(range(waveforms.parts)), parts)):
        target = Path(directory, "parts", f"part-{part:05d}.parquet")
        os.link(waveforms.part(source), target)
        files.write_json(str(target.with_suffix(".json")), receipts[source] | {"part": part})
    return output.finish(parts=parts, facts=waveforms.facts)


def simulated(directory: str) -> str:
    """Simulated recordings, prepared."""
    from hubert_ecg.datasets.simulated import SimulatedSource
    from hubert_ecg.ecg.simulate import SimulatorConfig
    from hubert_ecg.pipeline.prepare import PrepareConfig, prepare

    source = SimulatedSource(simulator=SimulatorConfig(num_patients=1000, sampling_rate_hz=100))
    return prepare(PrepareConfig(output=directory, source="simulated", simulated=source)).directory


def latent_codebook(waveforms: Manifest, checkpoint: str, directory: str) -> str:
    """A tiny model with random weights and a codebook of random centroids for its middle layer; its path."""
    import torch

    from hubert_ecg.models import HubertECG
    from hubert_ecg.models.config import model_config
    from hubert_ecg.storage.checkpoint import CheckpointInfo, save_checkpoint

    torch.manual_seed(0)
    preprocess = preprocess_of(waveforms)
    save_checkpoint(
        checkpoint,
        HubertECG(model_config("tiny", vocab_sizes=(100,))),
        CheckpointInfo(kind="ssl", preprocessing=preprocess.to_dict()),
    )
    feature = describe_latent(LatentSource.open(checkpoint), preprocess, 1, "float32")
    centroids = normalise_with(np.random.default_rng(0).standard_normal((100, feature.dim)).astype(np.float32), "l2")
    book = Codebook(
        centroids=centroids, descriptor=feature.descriptor, layer=1, checkpoint_fingerprint=feature.fingerprint
    )
    save_codebook(directory, book)
    return checkpoint


if __name__ == "__main__":
    main()
