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

from benchmarks.processes import peak_worker_mib
from benchmarks.report import Report, Row, reporting
from benchmarks.timing import ms_each, seconds_of
from hubert_ecg.clustering.codebook import Codebook, normalise_with
from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.pipeline.crops import WaveformShard
from hubert_ecg.pipeline.dump import DumpConfig, dump
from hubert_ecg.pipeline.extract import LatentSource, describe_latent, preprocess_of
from hubert_ecg.pipeline.label import LabelConfig, label
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, open_artifact, write_part
from hubert_ecg.storage.codebooks import save_codebook

DESCRIPTORS = {"time_frequency": "time-frequency", "mfcc": "MFCC", "mixed": "mixed"}
"""What --descriptor takes -> what a row calls it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waveforms", metavar="W", help="prepared table W; simulated recordings by default")
    parser.add_argument("--records", type=int, default=50_000, help="records in the large jobs")
    parser.add_argument("--shard", type=int, default=1024, help="records per shard")
    parser.add_argument("--latents", type=int, default=4000, help="records whose latents are labelled")
    parser.add_argument("--plain", type=int, default=20, help="records in one run of the plain loop")
    parser.add_argument("--runs", type=int, default=5, help="runs of the plain loop and of arithmetic alone")
    parser.add_argument("--jobs", type=int, default=3, help="runs of each large job")
    with reporting("dump", parser) as (options, report), tempfile.TemporaryDirectory() as folder:
        report.head()
        prepared = open_artifact(options.waveforms or simulated(f"{folder}/simulated"))
        waveforms = recut(prepared, f"{folder}/recut", options.shard)
        large = tiled(waveforms, f"{folder}/large", options.records)
        small = tiled(waveforms, f"{folder}/small", options.records // 10)
        inputs = first_inputs(waveforms)
        for name in DESCRIPTORS:
            compare(name, inputs, small, large, folder, options, report)
        label_figures(waveforms, large, folder, options, report)


def compare(
    name: str,
    inputs: np.ndarray,
    small: Manifest,
    large: Manifest,
    folder: str,
    options: argparse.Namespace,
    report: Report,
) -> None:
    """All figures of one descriptor."""
    config = DescriptorConfig(name=name)  # type: ignore[arg-type]
    few = inputs[: options.plain]
    np.testing.assert_allclose(
        config.compute(few)[..., :13], np.stack([plain_rows(record, name) for record in few])[..., :13], atol=0.01
    )
    plain = ms_each(seconds_of(lambda: [plain_rows(record, name) for record in few], options.runs), len(few))
    batches = np.split(inputs, range(64, len(inputs), 64))
    ours = ms_each(seconds_of(lambda: [config.compute(batch) for batch in batches], options.runs), len(inputs))
    loop, title = "a loop of scipy.stats and librosa over the shards", DESCRIPTORS[name]
    report.add(
        Row(name=f"arithmetic of a descriptor alone, {title}", ours=ours, theirs=plain, unit="ms per ECG", against=loop)
    )

    def job(waveforms: Manifest, runs: int) -> JobCost:
        def work(output: str) -> Manifest:
            return dump(DumpConfig(waveforms=waveforms.directory, output=output, descriptor=name, split="all"))  # type: ignore[arg-type]

        return cost_of(work, waveforms.rows, folder, runs)

    little, much = job(small, 1), job(large, options.jobs)
    whole = f"all of jobs.dump, {title}, {large.rows:,} ECGs"
    peak = {"largest worker, MiB": much.peak_mib}
    unit = "core ms per ECG"
    report.add(Row(name=whole, ours=much.core_ms, theirs=plain, unit=unit, against=loop, facts=peak))
    before = f"the job with {small.rows:,}, whose largest worker took {little.peak_mib:.0f} MiB"
    report.add(
        Row(name=f"{whole}, ten times as many", ours=much.core_ms, theirs=little.core_ms, unit=unit, against=before)
    )


def label_figures(
    waveforms: Manifest, large: Manifest, folder: str, options: argparse.Namespace, report: Report
) -> None:
    """Records per second and core of jobs.label, three crops each, for MFCC and for latents of a tiny model."""
    mfcc_codebook(waveforms, f"{folder}/mfcc")
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

        cost = cost_of(work, table.rows, folder, 1 if checkpoint else options.jobs)
        source = "latents of tiny" if checkpoint else DESCRIPTORS[book]
        report.add(
            Row(
                name=f"all of jobs.label, {source}, K = 100, 3 crops, {table.rows:,} ECGs",
                ours=tuple(1e3 / each for each in cost.core_ms),
                unit="ECGs/s per core",
                more_is_better=True,
                facts={"largest worker, MiB": cost.peak_mib},
            )
        )


@dataclass(frozen=True, kw_only=True)
class JobCost:
    """What a whole job cost, per record."""

    core_ms: tuple[float, ...]
    """Wall-clock milliseconds times cores, of each run."""
    peak_mib: float
    """Peak resident memory of the largest worker."""


def cost_of(work: Callable[[str], Manifest], records: int, folder: str, runs: int) -> JobCost:
    """Run a job some times on a cluster of its own, which is started before the clock."""
    import ray

    from hubert_ecg.pipeline.ray_cluster import available, start_ray

    start_ray()
    core_ms = []
    watch = PeakWatch()
    watch.start()
    for _ in range(runs):
        start = time.perf_counter()
        work(f"{folder}/output")
        core_ms.append(1e3 * (time.perf_counter() - start) * available("CPU") / records)
        shutil.rmtree(f"{folder}/output")
    peak_mib = watch.stop()
    ray.shutdown()
    return JobCost(core_ms=tuple(core_ms), peak_mib=peak_mib)


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


def mfcc_codebook(waveforms: Manifest, directory: str) -> None:
    """A codebook of 100 descriptors of the recordings themselves."""
    mfcc = DescriptorConfig(name="mfcc")
    rows = mfcc.compute(first_inputs(waveforms)).reshape(-1, mfcc.dim)
    centroids = normalise_with(np.random.default_rng(0).choice(rows, 100, replace=False), "l2")
    save_codebook(directory, Codebook(centroids=centroids, descriptor=mfcc.to_dict()))


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
