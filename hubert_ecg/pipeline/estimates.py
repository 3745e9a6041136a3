"""Estimates of every stage from its settings and the manifests of its inputs; nothing is read that grows with the data
but listings, and Ray is not started.

What the stage itself would refuse of its inputs is refused here alike, as far as it can be seen without reading them.
"""

from collections.abc import Callable
from typing import Any

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ConfigError, HubertEcgError
from hubert_ecg.pipeline.dry_run import Estimate, stored_bytes
from hubert_ecg.pipeline.extract import LATENT, describe_descriptor, preprocess_of
from hubert_ecg.pipeline.feed import READER_CPUS
from hubert_ecg.pipeline.rates import SAMPLES_PER_CROP, Rates
from hubert_ecg.pipeline.raw_input import RawRecordings
from hubert_ecg.pipeline.room import Room
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, open_artifact

SAMPLED_FILES = 64
"""Files of a list whose sizes are looked up; the others are taken to be alike."""
SIZES = "sizes of the tables, rates of hubert_ecg/pipeline/rates.py"


def estimate(verb: str, config: Any, room: Room, rates: Rates | None = None) -> Estimate:
    """What `jobs.<verb>` would take with these settings. Raises what the stage would raise for its inputs.

    Of the room it matters whether it has GPUs: what runs a model is done by them then.
    """
    return _BY_VERB[verb](config, rates or Rates(), room)


def _prepare(config: Any, rates: Rates, room: Room) -> Estimate:
    raw = RawRecordings.of(config)
    return _of_raw(raw, config.preprocess(), rates)


def _of_raw(raw: RawRecordings, preprocess: PreprocessConfig, rates: Rates) -> Estimate:
    rows = raw.listing.table.num_rows
    remote = raw.config.source != "simulated" and "://" in raw.config.input
    each_s = rates.prepare_s(remote=remote) + (rates.simulate_core_s if raw.config.source == "simulated" else 0)
    waits = f", {rates.request_s * 1e3:g} ms per request of the store" if remote else ""
    return Estimate(
        rows=rows,
        input_bytes=_raw_bytes(raw),
        output_bytes=rows * rates.waveform_bytes * preprocess.sampling_rate_hz / 100,
        core_s=rows * (each_s + (rates.measure_core_s if preprocess.attention_mask == "beats" else 0)),
        pieces=raw.parts,
        basis=f"{each_s * 1e3:g} ms per ECG and core, benchmarks.prepare{waits}",
    )


def _raw_bytes(raw: RawRecordings) -> float:
    """Of all that is listed: the sum over its files, scaled up from some of them where there are many."""
    paths = raw.listing.table["path"]
    if raw.config.source == "simulated" or not len(paths):
        return 0.0
    step = max(1, len(paths) // SAMPLED_FILES)
    chosen = [paths[place].as_py().partition("#")[0] for place in range(0, len(paths), step)]
    root = files.absolute(raw.config.input)
    folder = root if not files.is_file(root) else root.rpartition("/")[0]
    return sum(_record_bytes(files.within(folder, path)) for path in chosen) / len(chosen) * len(paths)


def _record_bytes(path: str) -> int:
    """Of a file, or of the header and signals that make a WFDB record."""
    stem = path.rpartition(".")[0] if path.endswith((".hea", ".dat", ".mat")) else path
    if stem == path and files.is_file(path):
        return max(0, files.version(path)[0])
    return sum(max(0, files.version(stem + suffix)[0]) for suffix in (".hea", ".dat", ".mat"))


def _dump(config: Any, rates: Rates, room: Room) -> Estimate:
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    preprocess = preprocess_of(waveforms)
    share = config.sample_fraction * (config.end_fraction - config.start_fraction)
    rows = round(_rows_of(waveforms, config.split) * share)
    crops = rows * len(config.crop_starts_s)
    latent = config.descriptor == LATENT
    model = _model_of(config.checkpoint) if latent else None
    work = _features_work(crops, model, config.precision, rates, room)
    dim = model["dim"] if model else describe_descriptor(config.descriptor, preprocess).dim
    return Estimate(
        rows=rows,
        input_bytes=stored_bytes(waveforms.directory),
        output_bytes=crops * preprocess.num_tokens * dim * rates.feature_bytes,
        pieces=waveforms.parts,
        workers=config.workers,
        **work,
    )


def _label(config: Any, rates: Rates, room: Room) -> Estimate:
    from hubert_ecg.storage.codebooks import load_codebook

    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    books = [load_codebook(path) for path in config.codebooks]
    crops = waveforms.rows * len(config.crop_starts_s)
    latent = [book for book in books if book.descriptor["name"] == LATENT]
    if latent and config.checkpoint is None:
        raise ConfigError("--checkpoint: a codebook was made from latents of a checkpoint; name that checkpoint")
    model = _model_of(config.checkpoint) if latent else None
    precision = config.precision or (latent[0].descriptor.get("precision", "float32") if latent else "float32")
    work = _features_work(crops, model, precision, rates, room)
    tokens = preprocess_of(waveforms).num_tokens
    return Estimate(
        rows=waveforms.rows,
        input_bytes=stored_bytes(waveforms.directory),
        output_bytes=crops * tokens * len(books) * rates.code_bytes,
        pieces=waveforms.parts,
        workers=config.workers,
        **work,
    )


def _features_work(
    crops: int, model: dict[str, Any] | None, precision: str, rates: Rates, room: Room
) -> dict[str, Any]:
    """The time of descriptors, or of a model's latents, and what it was derived from."""
    if model is None:
        basis = f"{1 / rates.descriptor_core_s:,.0f} crops of 5 s per second and core, benchmarks.dump"
        return {"core_s": crops * rates.descriptor_core_s, "basis": basis}
    return _model_work(crops, model["flops"], rates, room, precision)


def _model_work(crops: float, flops: float, rates: Rates, room: Room, precision: str = "float32") -> dict[str, Any]:
    """The time of a model's forward passes, on a GPU per piece where there are any, as run_shards has it."""
    each = f"{flops / 1e9:.3g} GFLOP per crop of 5 s"
    if not room.gpus:
        basis = f"{each}, {rates.core_flops / 1e9:.3g} GFLOP/s per core, benchmarks.model"
        return {"core_s": crops * flops / rates.core_flops, "basis": basis}
    speed = rates.gpu_speed(precision)
    basis = f"{each}, {speed / 1e12:.3g} TFLOP/s per GPU in {precision}, an assumption"
    return {"gpu_s": crops * flops / speed, "gpus_each": 1.0, "basis": basis}


def _model_of(checkpoint: str) -> dict[str, Any]:
    """The sizes of a checkpoint's model: `flops` of one crop, `dim` per token, `bytes` of its weights."""
    from hubert_ecg.models.flops import forward_flops
    from hubert_ecg.storage.checkpoint import load_checkpoint

    model, _ = load_checkpoint(files.absolute(checkpoint))
    return {
        "flops": forward_flops(model.config, SAMPLES_PER_CROP),
        "dim": model.config.hidden_size,
        "bytes": sum(weights.numel() * weights.element_size() for weights in model.parameters()),
    }


def _new_model(size: str) -> dict[str, Any]:
    """The same for a model that is not there yet."""
    import torch

    from hubert_ecg.models import model_config
    from hubert_ecg.models.encoders import new_encoder
    from hubert_ecg.models.flops import forward_flops

    config = model_config(size, 100, vocab_sizes=(100,))  # type: ignore[arg-type]
    with torch.device("meta"):
        model = new_encoder(config)
    weights = sum(weight.numel() for weight in model.parameters())
    return {"flops": forward_flops(config, SAMPLES_PER_CROP), "dim": config.hidden_size, "bytes": 4 * weights}


def _cluster(config: Any, rates: Rates, room: Room) -> Estimate:
    from hubert_ecg.pipeline.codebook_choice import named_codebooks

    tables = [open_artifact(path, verb="dump", role="--features") for path in config.tables]
    clusters = sum(config.ks) or sum(book.num_clusters for _, book in named_codebooks(config.judged))
    # Seen as a whole once to judge and `lloyd_passes` times to fit, after the mini-batches.
    whole = 1 + (config.kmeans.lloyd_passes if config.ks else 0)
    flops = 0.0
    for table in tables:
        rows = table.rows * table.facts["tokens_per_crop"]
        batches = config.kmeans.max_steps * config.kmeans.batch_size if config.ks else 0
        flops += 2 * table.facts["dim"] * clusters * (whole * rows + batches)
    return Estimate(
        rows=sum(table.rows for table in tables),
        input_bytes=(whole + 1) * sum(stored_bytes(table.directory) for table in tables),
        output_bytes=clusters * max(table.facts["dim"] for table in tables) * 4,
        core_s=flops / rates.kmeans_core_flops,
        pieces=sum(table.parts for table in tables),
        pieces_are="task",
        basis=f"{rates.kmeans_core_flops / 1e9:g} GFLOP/s per core in k-means, an assumption",
    )


def _training(config: Any, rates: Rates, room: Room) -> Estimate:
    """pretrain and finetune: steps, validations and checkpoints."""
    from hubert_ecg.pipeline.training_setup import Inputs, num_steps

    inputs = Inputs.open(config)
    if hasattr(config, "labels"):
        from hubert_ecg.training.targets import open_codes

        open_codes(config.labels, inputs.waveforms, role="--labels")
    elif config.label_set not in inputs.waveforms.facts["label_sets"]:
        sets = ", ".join(sorted(inputs.waveforms.facts["label_sets"])) or "none"
        raise ConfigError(f"--label_set: wanted one of the waveforms' sets ({sets}), got {config.label_set}")
    else:
        from hubert_ecg.pipeline.auxiliary import auxiliary_targets

        auxiliary_targets(config, inputs.waveforms)
    model = _model_of(config.checkpoint) if config.checkpoint else _new_model(config.size)
    rows = _rows_of(inputs.waveforms, "train")
    steps = num_steps(config, rows)
    validated = (steps // config.validation_interval + 1) * _rows_of(inputs.waveforms, "val")
    seen = steps * config.batch_size
    flops = model["flops"] * (rates.training_passes * seen + validated)
    workers = config.workers
    stored = stored_bytes(inputs.waveforms.directory)
    precision = config.compute.precision
    speed = rates.gpu_speed(precision) if workers.use_gpu else rates.core_flops
    time = {"gpu_s": flops / speed, "gpus_each": workers.gpus_each} if workers.use_gpu else {"core_s": flops / speed}
    return Estimate(
        rows=rows,
        input_bytes=stored * max(1.0, (seen + validated) / max(1, inputs.waveforms.rows)),
        # Weights and the two averages of AdamW in each checkpoint that is kept, and the model of the output.
        output_bytes=model["bytes"] * (3 * config.keep_checkpoints + 1),
        pieces=workers.num,
        pieces_are="training process",
        workers=workers.num,
        together=workers.num,
        cpus_each=workers.cpus_each + READER_CPUS / workers.num,
        basis=f"{steps:,} steps of {config.batch_size}, {model['flops'] / 1e9:.3g} GFLOP forward per ECG, "
        f"{speed / 1e12:.3g} TFLOP/s per {f'GPU in {precision}, an assumption' if workers.use_gpu else 'core'}",
        **time,
    )


def _judging(config: Any, rates: Rates, room: Room) -> Estimate:
    """evaluate, calibrate and probe: a split of a waveform table through a model."""
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    rows = _rows_of(waveforms, config.split) if hasattr(config, "split") else waveforms.rows
    return _through_model(waveforms, rows, config, rates, room)


def _through_model(waveforms: Manifest, rows: int, config: Any, rates: Rates, room: Room) -> Estimate:
    model = _model_of(config.checkpoint)
    return Estimate(
        rows=rows,
        input_bytes=stored_bytes(waveforms.directory),
        output_bytes=rows * 200.0,
        pieces=waveforms.parts,
        workers=config.workers,
        **_model_work(rows * config.crops.num_crops, model["flops"], rates, room),
    )


def _predict(config: Any, rates: Rates, room: Room) -> Estimate:
    if config.waveforms is not None:
        waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
        return _through_model(waveforms, _rows_of(waveforms, config.split), config, rates, room)
    from hubert_ecg.storage.checkpoint import load_info

    raw = RawRecordings.of(config)
    reading = _of_raw(raw, PreprocessConfig.from_dict(load_info(config.checkpoint).preprocessing), rates)
    crops = reading.rows * config.crops.num_crops
    work = _model_work(crops, _model_of(config.checkpoint)["flops"], rates, room)
    measuring = reading.rows * rates.measure_core_s if config.measurements else 0.0
    return Estimate(
        rows=reading.rows,
        input_bytes=reading.input_bytes,
        output_bytes=reading.rows * 200.0,
        pieces=reading.pieces,
        workers=config.workers,
        **work
        | {
            "core_s": reading.core_s + work.get("core_s", 0.0) + measuring,
            "basis": f"{reading.basis}; {work['basis']}",
        },
    )


def _explain(config: Any, rates: Rates, room: Room) -> Estimate:
    rows, size, parts = 1, 0.0, 1
    if config.waveforms is not None:
        waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
        rows = len(config.record_ids) or min(config.limit, _rows_of(waveforms, config.split))
        size, parts = float(stored_bytes(waveforms.directory)), min(rows, waveforms.parts)
    crops = rows * config.crops.num_crops * config.num_steps * rates.training_passes
    return Estimate(
        rows=rows,
        input_bytes=size,
        output_bytes=rows * 1e6,
        pieces=max(1, parts),
        workers=config.workers,
        **_model_work(crops, _model_of(config.checkpoint)["flops"], rates, room),
    )


def _compare(config: Any, rates: Rates, room: Room) -> Estimate:
    tables = [open_artifact(path, verb="evaluate", role="--evaluations") for path in config.evaluations]
    rows = sum(table.rows for table in tables)
    size = sum(stored_bytes(table.directory) for table in tables if table.parts)
    return Estimate(
        rows=rows, input_bytes=size, output_bytes=1e5, core_s=config.draws * rows * 1e-6, basis="a second per million"
    )


def _one_file(config: Any, rates: Rates, room: Room) -> Estimate:
    """convert and export: one checkpoint, read and written."""
    model = _model_of(config.input if hasattr(config, "input") else config.checkpoint)
    return Estimate(
        rows=0,
        input_bytes=model["bytes"],
        output_bytes=model["bytes"],
        core_s=10 + model["bytes"] / 1e8,
        pieces_are="process",
        basis="a checkpoint of this size, read, checked and written",
    )


def _tune(config: Any, rates: Rates, room: Room) -> Estimate:
    """All trials of a search at their full length: an upper bound, as schedulers end most of them early."""
    from hubert_ecg.pipeline.search_plan import SearchPlan

    plan = SearchPlan.make(config)
    params = {dimension.name: dimension.extremes()[0] for dimension in plan.space.dimensions}
    [*before, last] = plan.sweep(files.absolute(config.output), None).runs(params, files.absolute(config.output))
    trials = plan.total * len(config.tables)
    try:
        one = estimate(last.verb, last.config, room, rates)
    except HubertEcgError as error:
        if not before:
            raise
        made = ", ".join(run.verb for run in before)
        raise ConfigError(
            f"--dry_run: this space runs {made} first, whose output is not there yet ({error})"
        ) from error
    return Estimate(
        rows=one.rows,
        input_bytes=one.input_bytes * trials,
        output_bytes=one.output_bytes * trials,
        core_s=one.core_s * trials,
        gpu_s=one.gpu_s * trials,
        pieces=trials * one.pieces,
        pieces_are="training process",
        workers=config.max_concurrent * one.pieces,
        together=one.together,
        cpus_each=one.cpus_each,
        gpus_each=one.gpus_each,
        basis=f"{trials} trials to their end, each {one.basis}",
    )


def _sample(config: Any, rates: Rates, room: Room) -> Estimate:
    from hubert_ecg.ecg.simulate import CONDITIONS

    ecgs = len(CONDITIONS) + 6
    return Estimate(
        rows=ecgs, input_bytes=0, output_bytes=ecgs * 12 * 5000 * 4, core_s=ecgs * 0.05, pieces_are="process",
        basis="0.05 s per simulated ECG",
    )  # fmt: skip


def _rows_of(waveforms: Manifest, split: str) -> int:
    """Recordings of a split, or of all."""
    return waveforms.rows if split == "all" else int(waveforms.facts["splits"].get(split, 0))


_BY_VERB: dict[str, Callable[[Any, Rates, Room], Estimate]] = {
    "prepare": _prepare,
    "dump": _dump,
    "cluster": _cluster,
    "label": _label,
    "pretrain": _training,
    "finetune": _training,
    "evaluate": _judging,
    "calibrate": _judging,
    "probe": _judging,
    "predict": _predict,
    "explain": _explain,
    "compare": _compare,
    "convert": _one_file,
    "export": _one_file,
    "tune": _tune,
    "sample": _sample,
}
