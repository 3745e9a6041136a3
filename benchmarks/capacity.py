"""From a folder of recordings to a served model: machines, commands, hours and money of every stage.

    python -m benchmarks.capacity                                    # ten million ECGs on the machines of cluster.yaml
    python -m benchmarks.capacity --ecgs 500000 --cpu_nodes 2 --gpu_price 1.2 --gpu_tflops 300

Nothing is run: speeds and sizes are those of hubert_ecg/pipeline/rates.py, which the other benchmarks measure and
--dry_run uses too, or the ones given. Prices are list prices of us-east-1 from memory; look yours up and give them.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from hubert_ecg.ecg.tokens import TokenGrid
from hubert_ecg.models import model_config
from hubert_ecg.models.flops import forward_flops
from hubert_ecg.pipeline.rates import SAMPLES_PER_CROP, Rates

CROPS = 3
"""Declared crop starts of a recording of 10 s."""
SAMPLE, SAMPLE_LATENT = 0.1, 0.01
"""Shares of the recordings that k-means is fitted to."""
BATCH, STEPS, STEPS_2, TUNING_BATCH, TUNING_STEPS = 448, 80_000, 800_000, 64, 70_000
"""Of the paper's recipe for base."""
LAYER, SIZE = 8, "base"
MFCC_DIM, K, K_2 = 39, 100, 500
JUDGED, LABELS, DRAWS = 0.1, 30, 1000
"""Share of the recordings of each of the splits val and test; labels; resamplings behind an interval."""
BOOT_H = 0.1
"""Until the machines of a stage are there: they boot and install for some 5 minutes."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The reader's corpus, machines and prices; the defaults are cluster.yaml's."""

    ecgs: int = 10_000_000
    """Recordings of 12 leads and 10 s."""
    cpu_nodes: int = 8
    """Machines for prepare to label (c7i.4xlarge)."""
    cpu_vcpus: int = 16
    """vCPUs of each."""
    core_share: float = 0.6
    """What a vCPU does of a core of the benchmarks: two vCPUs are one core with two threads. An assumption."""
    cpu_price: float = 0.28
    """Dollars per hour of each, spot (on demand 0.71)."""
    gpu_nodes: int = 2
    """Machines for models (g6.12xlarge)."""
    gpus_each: int = 4
    """GPUs of each (L4)."""
    gpu_tflops: float = Rates.gpu_flops / 1e12
    """TFLOP/s that one of them reaches in training, bfloat16."""
    gpu_float32_tflops: float = Rates.gpu_float32_flops / 1e12
    """The same in float32, in which predictions are made."""
    gpu_price: float = 4.60
    """Dollars per hour of each, on demand."""
    head_price: float = 0.40
    """Dollars per hour of the head (m7i.2xlarge), which is there all the time."""
    serve_price: float = 0.36
    """Dollars per hour of the machine that serves (c7i.2xlarge)."""
    prepare_core_ms: float = Rates.prepare_core_s * 1e3
    """Milliseconds of one core per recording in jobs.prepare."""
    request_ms: float = Rates.request_s * 1e3
    """Milliseconds from a request of the store to its answer."""
    storage_price: float = 0.023
    """Dollars per GB and month."""
    get_price: float = 0.40
    """Dollars per million reads from the store."""
    put_price: float = 5.0
    """Dollars per million writes and listings of a thousand names."""
    shard_size: int = 256
    """Recordings per shard."""

    @property
    def rates(self) -> Rates:
        return Rates(
            prepare_core_s=self.prepare_core_ms / 1e3,
            request_s=self.request_ms / 1e3,
            gpu_flops=self.gpu_tflops * 1e12,
            gpu_float32_flops=self.gpu_float32_tflops * 1e12,
        )


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One line of the table."""

    name: str
    command: str
    on_gpus: bool
    hours: float
    stored_gb: float
    """What its output takes."""
    requests_dollars: float = 0.0

    def dollars(self, site: Site) -> float:
        nodes, price = (site.gpu_nodes, site.gpu_price) if self.on_gpus else (site.cpu_nodes, site.cpu_price)
        return self.hours * (nodes * price + site.head_price) + self.requests_dollars


def stages(site: Site) -> list[Stage]:
    """All stages in order: both iterations of pre-training, a classifier, its judgement, all predictions."""
    rates, ecgs = site.rates, site.ecgs
    cores = site.cpu_nodes * site.cpu_vcpus * site.core_share
    gpus, workers = site.gpu_nodes * site.gpus_each, site.cpu_nodes * site.cpu_vcpus
    config = model_config(SIZE, 100)
    flops = forward_flops(config, SAMPLES_PER_CROP)
    to_layer = flops * (LAYER + 1) / config.num_hidden_layers  # The stem is small beside the layers.
    tokens = TokenGrid.at_rate(100).num_tokens(SAMPLES_PER_CROP)
    shards = ecgs / site.shard_size
    training = rates.training_passes * flops / rates.gpu_flops / gpus / 3600

    def cpu_hours(core_s: float) -> float:
        return core_s / cores / 3600 + BOOT_H

    def gpu_hours(operations: float, precision: str) -> float:
        return operations / rates.gpu_speed(precision) / gpus / 3600 + BOOT_H

    def kmeans(rows: float, dim: int, clusters: int) -> float:
        return cpu_hours(2 * dim * clusters * 3 * rows / rates.kmeans_core_flops)

    trained_by = f"--workers.num {gpus} --workers.use_gpu true --compute.precision bfloat16"
    return [
        Stage(
            name="prepare",
            command="prepare --source files --input s3://ARCHIVE --files.labels s3://LABELS.csv "
            "--salt env:ID_SALT --output s3://RUNS/W",
            on_gpus=False,
            # Waiting for the store takes a worker, but no core.
            hours=max(
                cpu_hours(ecgs * rates.prepare_core_s), ecgs * rates.prepare_s(remote=True) / workers / 3600 + BOOT_H
            ),
            stored_gb=ecgs * rates.waveform_bytes / 1e9,
            # Header and signals of each recording are looked up and read; a shard and its receipt are written.
            requests_dollars=rates.requests_per_ecg * ecgs / 1e6 * site.get_price
            + (2 * shards + 2 * ecgs / 1000) / 1e6 * site.put_price,
        ),
        Stage(
            name="dump a sample",
            command=f"dump --waveforms s3://RUNS/W --descriptor mfcc --sample_fraction {SAMPLE} --output s3://RUNS/F",
            on_gpus=False,
            hours=cpu_hours(SAMPLE * ecgs * rates.descriptor_core_s),
            stored_gb=SAMPLE * ecgs * tokens * MFCC_DIM * rates.feature_bytes / 1e9,
        ),
        Stage(
            name=f"cluster, K = {K}",
            command=f'cluster --features s3://RUNS/F --num_clusters "[{K}]" --output s3://RUNS/K',
            on_gpus=False,
            hours=kmeans(SAMPLE * ecgs * tokens, MFCC_DIM, K),
            stored_gb=0,
        ),
        Stage(
            name="label",
            command=f'label --waveforms s3://RUNS/W --codebooks "[s3://RUNS/K/k{K}]" --output s3://RUNS/L',
            on_gpus=False,
            hours=cpu_hours(ecgs * CROPS * rates.descriptor_core_s),
            stored_gb=ecgs * CROPS * tokens * rates.code_bytes / 1e9,
        ),
        Stage(
            name=f"pretrain {SIZE}, {STEPS:,} steps",
            command=f"pretrain --waveforms s3://RUNS/W --labels s3://RUNS/L --size {SIZE} --steps {STEPS} --batch_size "
            f"{BATCH} --checkpoint_interval 500 {trained_by} --output s3://RUNS/C",
            on_gpus=True,
            hours=STEPS * BATCH * training + BOOT_H,
            stored_gb=4,
        ),
        Stage(
            name=f"dump a sample of layer {LAYER}",
            command=f"dump --waveforms s3://RUNS/W --descriptor latent --checkpoint s3://RUNS/C --layer {LAYER} "
            f"--precision bfloat16 --sample_fraction {SAMPLE_LATENT} --output s3://RUNS/F2",
            on_gpus=True,
            hours=gpu_hours(SAMPLE_LATENT * ecgs * to_layer, "bfloat16"),
            stored_gb=SAMPLE_LATENT * ecgs * tokens * config.hidden_size * rates.feature_bytes / 1e9,
        ),
        Stage(
            name=f"cluster, K = {K_2}",
            command=f'cluster --features s3://RUNS/F2 --num_clusters "[{K_2}]" --output s3://RUNS/K2',
            on_gpus=False,
            hours=kmeans(SAMPLE_LATENT * ecgs * tokens, config.hidden_size, K_2),
            stored_gb=0,
        ),
        Stage(
            name="label by latents",
            command=f'label --waveforms s3://RUNS/W --codebooks "[s3://RUNS/K2/k{K_2}]" --checkpoint s3://RUNS/C '
            "--output s3://RUNS/L2",
            on_gpus=True,
            # In the precision that the codebook was made in.
            hours=gpu_hours(ecgs * CROPS * to_layer, "bfloat16"),
            stored_gb=ecgs * CROPS * tokens * rates.code_bytes / 1e9,
        ),
        Stage(
            name=f"pretrain {SIZE}, {STEPS_2:,} steps",
            command="pretrain --waveforms s3://RUNS/W --labels s3://RUNS/L2 --checkpoint s3://RUNS/C "
            f"--steps {STEPS_2} --batch_size {BATCH} --checkpoint_interval 500 {trained_by} --output s3://RUNS/C2",
            on_gpus=True,
            hours=STEPS_2 * BATCH * training + BOOT_H,
            stored_gb=4,
        ),
        Stage(
            name=f"finetune, {TUNING_STEPS:,} steps",
            command="finetune --waveforms s3://RUNS/W --checkpoint s3://RUNS/C2 --label_set files --steps "
            f"{TUNING_STEPS} --batch_size {TUNING_BATCH} {trained_by} --output s3://RUNS/M",
            on_gpus=True,
            hours=TUNING_STEPS * TUNING_BATCH * training + BOOT_H,
            stored_gb=4,
        ),
        Stage(
            name="calibrate",
            command="calibrate --waveforms s3://RUNS/W --checkpoint s3://RUNS/M --output s3://RUNS/M2",
            on_gpus=True,
            # In float32, as predict and the service compute too.
            hours=gpu_hours(JUDGED * ecgs * CROPS * flops, "float32"),
            stored_gb=0,
        ),
        Stage(
            name="evaluate",
            command="evaluate --waveforms s3://RUNS/W --checkpoint s3://RUNS/M2 --output s3://RUNS/E",
            on_gpus=True,
            hours=gpu_hours(JUDGED * ecgs * CROPS * flops, "float32") + interval_hours(site),
            stored_gb=JUDGED * ecgs * 200 / 1e9,
        ),
        Stage(
            name="predict all",
            command="predict --waveforms s3://RUNS/W --checkpoint s3://RUNS/M2 --single_file false --output s3://RUNS/P",
            on_gpus=True,
            hours=gpu_hours(ecgs * CROPS * flops, "float32"),
            stored_gb=ecgs * 200 / 1e9,
        ),
    ]


def interval_hours(site: Site) -> float:
    """Of the confidence intervals of an evaluation, which one core of the head computes while the GPUs wait."""
    return DRAWS * JUDGED * site.ecgs * LABELS * site.rates.interval_core_s / site.core_share / 3600


def lines(site: Site) -> Iterator[str]:
    """The table, and below it what is not of one stage."""
    made = stages(site)
    cpus = f"{site.cpu_nodes} x {site.cpu_vcpus} vCPUs"
    gpus = f"{site.gpu_nodes} x {site.gpus_each} GPUs"
    yield "| stage | machines | hours | dollars | output |"
    yield "|---|---|---|---|---|"
    for stage in made:
        machines = gpus if stage.on_gpus else cpus
        stored = f"{stage.stored_gb:,.0f} GB" if stage.stored_gb >= 1 else "small"
        yield f"| {stage.name} | {machines} | {stage.hours:.1f} | {stage.dollars(site):,.0f} | {stored} |"
    hours, dollars = sum(stage.hours for stage in made), sum(stage.dollars(site) for stage in made)
    kept = sum(stage.stored_gb for stage in made)
    yield f"| all | | {hours:.1f} | {dollars:,.0f} | {kept:,.0f} GB |"
    yield ""
    raw_gb = site.ecgs * site.rates.raw_bytes / 1e9
    yield (
        f"Then every month: {kept * site.storage_price:,.0f} dollars for what was made (the archive itself, "
        f"{raw_gb:,.0f} GB, is {raw_gb * site.storage_price:,.0f}), {site.serve_price * 730:,.0f} for one machine that "
        f"serves."
    )
    yield ""
    yield "```text"
    for stage in made:
        yield f"python -m jobs.submit {stage.command}"
    yield "```"


def site_of(arguments: list[str] | None = None) -> Site:
    """The reader's numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Site()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value:g}")
    options = vars(parser.parse_args(arguments))
    wrong = [name for name, value in options.items() if not value > 0]
    if wrong:
        parser.error(f"--{wrong[0]}: wanted more than 0, got {options[wrong[0]]:g}")
    return Site(**{field.name: options[field.name] for field in fields(Site)})


if __name__ == "__main__":
    for line in lines(site_of()):
        print(line)
