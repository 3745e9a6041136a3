"""One training on Ray Train: workers, data feed, checkpoints, going on after a kill. A job says what is trained."""

import json
import logging
import math
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from hubert_ecg.errors import ConfigError, TrainingError
from hubert_ecg.pipeline.curves import write_curves
from hubert_ecg.pipeline.feed import READER_CPUS, feed
from hubert_ecg.pipeline.ray_cluster import available, require_cpus, start_ray
from hubert_ecg.pipeline.user_errors import leave_error, left_error, user_error
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_info
from hubert_ecg.training.average import WeightAverage
from hubert_ecg.training.batches import to_batch
from hubert_ecg.training.compute import ComputeConfig
from hubert_ecg.training.examples import ExampleReader
from hubert_ecg.training.loop import LoopConfig, Observer, train
from hubert_ecg.training.loss_scale import LossScale
from hubert_ecg.training.optimiser import OptimiserConfig, make_optimiser
from hubert_ecg.training.plan import StepPlan
from hubert_ecg.training.ranks import rank, world_size
from hubert_ecg.training.regulariser import DynamicRegulariser, RegulariserConfig
from hubert_ecg.training.state import STATE, StatePart, TrainerState, load_state, save_state
from hubert_ecg.training.step import Batch, Learner, StepFunction, StepLoss

log = logging.getLogger(__name__)

SCORE = "score"
ERROR = "error.json"
"""In the run's directory: an error of a worker that trying again would not mend."""
MAX_CACHED_VALIDATION = 8192
"""Validation examples that a rank keeps in memory between validations: 8192 are 200 MB."""


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """How a training is spread; none of it changes what is learned but `num`, by the order of sums."""

    num: int = 1
    """Training processes; each takes an equal share of every batch."""
    cpus_each: float = 1.0
    """CPUs reserved per process; leave half a CPU of the cluster for the processes that read data."""
    threads_each: int = 0
    """Threads of torch per process; 0 shares this machine's cores among the processes."""
    use_gpu: bool = False
    """Train on GPUs."""
    gpus_each: float = 1.0
    """GPUs per process with use_gpu; a share such as 0.5 lets processes, or trials of a search, share one."""
    max_failures: int = 3
    """Times that dead workers are replaced before the training gives up."""

    def __post_init__(self) -> None:
        if self.num < 1 or self.cpus_each <= 0 or self.threads_each < 0:
            raise ConfigError(f"--workers: wanted num >= 1, cpus_each > 0 and threads_each >= 0, got {self}")
        if not (0 < self.gpus_each <= 1 or self.gpus_each == int(self.gpus_each) > 0):
            raise ConfigError(f"--workers.gpus_each: wanted a share of one GPU or whole GPUs, got {self.gpus_each}")

    @property
    def resources_each(self) -> dict[str, float]:
        """What Ray reserves for one process."""
        return {"CPU": self.cpus_each} | ({"GPU": self.gpus_each} if self.use_gpu else {})

    def check(self) -> None:
        """ResourceError unless the cluster can run the training and feed it."""
        require_cpus(
            self.num * self.cpus_each + READER_CPUS, "training (workers.num x workers.cpus_each, plus reading)"
        )
        if self.use_gpu and available("GPU") < self.num * self.gpus_each:
            wanted = self.num * self.gpus_each
            raise ConfigError(f"--workers.use_gpu: wanted {wanted:g} GPUs, the cluster has {available('GPU')}")


@dataclass(frozen=True, kw_only=True)
class TrainingJob(ABC):
    """What one rank does. Picklable; the model is made on the worker."""

    loop: LoopConfig
    optimiser: OptimiserConfig
    plan: StepPlan
    reader: ExampleReader
    validation_plan: StepPlan
    validation_reader: ExampleReader
    workers: WorkersConfig
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    keep_checkpoints: int = 3
    """The best checkpoint and the latest ones are kept, up to this number in all, but both in any case."""
    regulariser: RegulariserConfig = field(default_factory=RegulariserConfig)

    may_skip_parameters: ClassVar[bool] = False
    """Whether some parameters get no gradient in some steps, which DDP must be told."""

    @abstractmethod
    def make_module(self, directory: Path | None) -> nn.Module:
        """The module to train, fresh, or with the weights of a checkpoint directory of this same run."""

    @abstractmethod
    def step_loss(self, module: nn.Module, batch: Batch, step: int) -> StepLoss:
        """Loss of one rank's batch. `module` may be wrapped for DDP: call it, do not reach into it."""

    @abstractmethod
    def validate(self, module: nn.Module, batches: list[Batch]) -> dict[str, Any]:
        """Metrics over all ranks' batches, the same on every rank, with `score` (higher is better)."""

    @abstractmethod
    def save(self, module: nn.Module, directory: Path, state: TrainerState) -> CheckpointInfo:
        """Write the model as a checkpoint directory. Called on rank 0."""


@dataclass(frozen=True, kw_only=True)
class TrainingOutcome:
    """What the driver has when a training is over."""

    info: CheckpointInfo
    """Of the best model, which now lies in the output directory."""
    state: TrainerState
    """At the last checkpoint: history, best score, steps done."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a search adds to a training that is one of its trials; a training of its own has none of it."""

    callbacks: tuple[Any, ...] = ()
    """Ray Train callbacks, told of every report."""
    begin_from: str | None = None
    """A checkpoint of another run of the same model, with its trainer's state, where this run begins."""


ALONE = Surroundings()


def run_training(job: TrainingJob, output: StageOutput, surroundings: Surroundings = ALONE) -> TrainingOutcome:
    """Train on the Ray cluster and copy the best model into the output directory.

    The run's own checkpoints lie in OUTPUT/trainer; the same command after a kill goes on from the last of them.
    Raises whatever error of this project a worker raised, and Ray's TrainingFailedError for anything else.
    """
    start_ray()
    import ray.train
    from ray.train.torch import TorchTrainer

    job.workers.check()
    error_path = files.join(output.directory, "trainer", ERROR)
    files.delete(error_path)
    trainer = TorchTrainer(
        partial(_run_worker, job, error_path, surroundings.begin_from),
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.workers.num,
            use_gpu=job.workers.use_gpu,
            resources_per_worker=job.workers.resources_each,
        ),
        run_config=ray.train.RunConfig(
            name="run",
            # Threads that wait by spinning take the cores from the processes that read data.
            worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            storage_path=output.directory + "/trainer",
            callbacks=list(surroundings.callbacks),
            failure_config=ray.train.FailureConfig(max_failures=job.workers.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=job.keep_checkpoints, checkpoint_score_attribute=SCORE
            ),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        cause = user_error(error)
        if cause is None:
            raise
        raise cause from error
    left = left_error(error_path)
    if left is not None:
        raise left
    best = result.get_best_checkpoint(SCORE, "max")
    if best is None or result.checkpoint is None:
        raise TrainingError(
            f"{output.directory}/trainer: the training ended without a checkpoint; delete it and run again"
        )
    target = Path(output.directory)
    with best.as_directory() as directory:
        for path in Path(directory, "model").iterdir():
            shutil.copy2(path, target / path.name)
    with result.checkpoint.as_directory() as directory:
        state = read_state(Path(directory))
    return TrainingOutcome(info=load_info(target), state=state)


def _run_worker(job: TrainingJob, error_path: str, begin_from: str | None) -> None:
    """What every rank runs. Ray starts workers that raise anew; an error that the user has to fix is left in a file.

    A rank that ended alone would leave the others waiting for it, so that one of several raises all the same; all of
    them, started anew, then find the file and end.
    """
    if files.exists(error_path):
        return
    try:
        _train_on_rank(job, begin_from)
    except Exception as error:
        cause = user_error(error)
        if cause is None:
            raise
        leave_error(error_path, cause)
        if world_size() > 1:
            raise


def _train_on_rank(job: TrainingJob, begin_from: str | None) -> None:
    """Model, optimiser and state, fresh or from the run's last checkpoint, and the loop over them."""
    import ray.train
    from ray.train.torch import get_device, prepare_model

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("ray").setLevel(logging.WARNING)
    job.compute.set_up(threads=job.workers.threads_each, workers=job.workers.num)
    torch.manual_seed(job.loop.seed)
    state = TrainerState()
    checkpoint = ray.train.get_checkpoint()
    of_other_run = checkpoint is None and begin_from is not None
    if of_other_run:
        checkpoint = ray.train.Checkpoint.from_directory(begin_from)
    if checkpoint is None:
        module = job.make_module(None)
        kept = None
    else:
        kept = Path(checkpoint.to_directory(tempfile.mkdtemp(prefix="hubert-ecg-")))
        module = job.make_module(kept / "model")
    job.compute.prepare(module)
    # On one rank this only moves the module to its device.
    parallel = {"find_unused_parameters": job.may_skip_parameters}
    wrapped = prepare_model(module, parallel_strategy_kwargs=parallel if job.workers.num > 1 else None)
    optimiser = make_optimiser(wrapped, job.optimiser)
    device = get_device()

    def loss_of(computed: nn.Module, batch: Batch, step: int) -> StepLoss:
        with job.compute.autocast(device):
            return job.step_loss(computed, batch, step)

    learner = make_learner(job, wrapped, optimiser, partial(loss_of, wrapped), device)
    if kept is not None:
        state = load_state(kept, optimiser, learner.parts)
        shutil.rmtree(kept)
        if of_other_run:  # Its scores are not this run's, and its best model is not among this run's checkpoints.
            state = TrainerState(step=state.step)
        log.info("going on after step %d", state.step)
    batches = _batches(job.reader, job.plan, job, device, state.step, job.loop.steps)
    validation = _Validation(job, device)

    train(
        learner,
        batches,
        state,
        config=job.loop,
        validate=partial(validation.run, wrapped),
        observer=_Saver(job, module, optimiser, learner.parts),
        loss_alone=partial(loss_of, module),
    )


def make_learner(
    job: TrainingJob,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    step_loss: StepFunction,
    device: torch.device,
) -> Learner:
    """What a step of the job takes; its module and optimiser are those of the job, wrapped for several ranks or not."""
    decay, dynamic = job.optimiser.ema_decay, job.regulariser.dynamic
    return Learner(
        module=module,
        step_loss=step_loss,
        optimiser=optimiser,
        optimiser_config=job.optimiser,
        steps=job.loop.steps,
        seed=job.loop.seed,
        accumulation_steps=job.loop.accumulation_steps,
        loss_scale=LossScale(device.type) if job.compute.precision == "float16" else None,
        average=WeightAverage(module, decay) if decay else None,
        regulariser=DynamicRegulariser(
            job.regulariser, patience=job.loop.patience, model=unwrap(module).model, optimiser=optimiser
        )
        if dynamic
        else None,
    )


def _batches(
    reader: ExampleReader, plan: StepPlan, job: TrainingJob, device: torch.device, first_step: int, last_step: int
) -> Iterator[Batch]:
    plan = replace(plan, world_size=world_size())
    for table in feed(reader, plan, rank=rank(), first_step=first_step, last_step=last_step):
        yield to_batch(table, device)


class _Validation:
    """Runs the validation of a job, keeping a small validation split in memory."""

    def __init__(self, job: TrainingJob, device: torch.device) -> None:
        self.job, self.device = job, device
        self.kept: list[Batch] | None = None

    def run(self, module: nn.Module) -> dict[str, Any]:
        with torch.inference_mode():
            return self.job.validate(module, self._batches())

    def _batches(self) -> list[Batch]:
        if self.kept is not None:
            return self.kept
        plan = self.job.validation_plan
        steps = math.ceil(plan.num_rows / plan.batch_size)
        batches = list(_batches(self.job.validation_reader, plan, self.job, self.device, 0, steps))
        if plan.num_rows <= MAX_CACHED_VALIDATION * world_size():
            self.kept = batches
        return batches


@dataclass(frozen=True)
class _Saver(Observer):
    """Hands checkpoints to Ray Train; every rank calls, rank 0 brings the files."""

    job: TrainingJob
    module: nn.Module
    optimiser: torch.optim.Optimizer
    parts: dict[str, StatePart]

    def save(self, state: TrainerState, score: float | None) -> None:
        import ray.train

        # The other metrics of the validation are for whoever listens: a search, say.
        metrics = {SCORE: -math.inf} if score is None else state.history[-1]
        if rank() != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="hubert-ecg-") as temporary:
            directory = Path(temporary)
            self.job.save(self.module, directory / "model", state)
            save_state(directory, state, self.optimiser, self.parts)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(temporary))


def finish_training(output: StageOutput, outcome: TrainingOutcome, facts: dict[str, Any]) -> Manifest:
    """Write the learning curves and the manifest of a finished training."""
    write_curves(Path(output.directory), outcome.state.history)
    best = max(outcome.state.history, key=lambda row: row[SCORE])
    facts = facts | {"checkpoint": outcome.info.fingerprint, "steps_done": outcome.state.step, "best": best}
    return output.finish(parts=0, facts=facts, content=[outcome.info.fingerprint])


def unwrap(module: nn.Module) -> Any:
    """The module itself, where DDP has wrapped it."""
    return module.module if hasattr(module, "module") else module


def read_state(directory: Path) -> TrainerState:
    """The trainer's state of a checkpoint, without its optimiser."""
    return TrainerState(**json.loads((directory / STATE).read_text())["state"])
