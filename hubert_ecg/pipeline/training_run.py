"""One training on Ray Train: workers, data feed, checkpoints, going on after a kill. A job says what is trained.

Ray Train starts the ranks, watches over them and replaces them; checkpoints are ours (`storage.run_checkpoints`), for
they have to outlive a kill of anything at any moment. Ray is told of them only where a search listens.
"""

import json
import logging
import math
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from hubert_ecg.errors import ConfigError, StoppedError, TrainingError
from hubert_ecg.pipeline.curves import Tables, write_curves
from hubert_ecg.pipeline.feed import READER_CPUS, feed
from hubert_ecg.pipeline.rank_observer import RankObserver, WriteCheckpoint
from hubert_ecg.pipeline.ray_cluster import available, require_cpus, start_ray
from hubert_ecg.pipeline.stopping import StopRequest, StopSign, sigterm_puts_up, worker_asked
from hubert_ecg.pipeline.trackers import TrackersConfig, Tracking
from hubert_ecg.pipeline.user_errors import leave_error, left_error, user_error
from hubert_ecg.pipeline.watchdog import Watchdog
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput
from hubert_ecg.storage.checkpoint import INFO, CheckpointInfo, load_info
from hubert_ecg.storage.run_checkpoints import RunCheckpoints, Saved
from hubert_ecg.training.average import WeightAverage
from hubert_ecg.training.batches import to_batch
from hubert_ecg.training.compute import ComputeConfig
from hubert_ecg.training.examples import ExampleReader
from hubert_ecg.training.loop import LoopConfig, is_over, train
from hubert_ecg.training.loss_scale import LossScale
from hubert_ecg.training.optimiser import OptimiserConfig, make_optimiser
from hubert_ecg.training.plan import StepPlan
from hubert_ecg.training.ranks import gather_texts, rank, world_size
from hubert_ecg.training.regulariser import DynamicRegulariser, RegulariserConfig
from hubert_ecg.training.state import STATE, StatePart, TrainerState, load_state, save_state
from hubert_ecg.training.step import Batch, Learner, StepFunction, StepLoss

log = logging.getLogger(__name__)

SCORE = "score"
TRAINER, RUN, MODEL = "trainer", "run", "model"
"""OUTPUT/trainer/run holds the checkpoints of a run, each of them its model in `model`."""
ERROR = "error.json"
"""In the run's directory: an error of a worker that trying again would not mend."""
RAY_RECORD = "checkpoint_manager_snapshot.json"
"""Where Ray Train writes down the checkpoints it knows of."""
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
    """Times that dead or hanging workers are replaced before the training gives up; -1: always."""
    hang_timeout_s: float = 600.0
    """A worker that has not answered, or come to the sum that others wait for, or done a step for so long counts as
    dead. It has to exceed the longest step, validation batch and upload of a checkpoint."""

    def __post_init__(self) -> None:
        if self.num < 1 or self.cpus_each <= 0 or self.threads_each < 0:
            raise ConfigError(f"--workers: wanted num >= 1, cpus_each > 0 and threads_each >= 0, got {self}")
        if self.hang_timeout_s < 5 or self.max_failures < -1:
            raise ConfigError(
                f"--workers: wanted hang_timeout_s of at least 5 and max_failures of at least -1, got "
                f"{self.hang_timeout_s:g} and {self.max_failures}"
            )
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
    trackers: TrackersConfig = field(default_factory=TrackersConfig)
    run_name: str | None = None
    """What trackers call the run; None: its output directory's name."""

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

    def state_parts(self, module: nn.Module) -> dict[str, StatePart]:
        """What the trainer's state holds of the module, because the model that is saved does not, by name."""
        return {}

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


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What the workers are told of the run that they belong to."""

    output: str
    keep_checkpoints: int
    begin_from: str | None
    listened_to: bool
    sign: Any
    """Handle of the StopSign actor."""

    @property
    def checkpoints(self) -> RunCheckpoints:
        return RunCheckpoints(directory=files.join(self.output, TRAINER, RUN), keep=self.keep_checkpoints)

    @property
    def error_path(self) -> str:
        return files.join(self.output, TRAINER, ERROR)


def run_training(job: TrainingJob, output: StageOutput, surroundings: Surroundings = ALONE) -> TrainingOutcome:
    """Train on the Ray cluster and copy the best model into the output directory.

    The run's own checkpoints lie in OUTPUT/trainer; the same command after a kill goes on from the last of them.
    Raises whatever error of this project a worker raised, StoppedError after SIGTERM, TrainingError when workers died
    too often, and Ray's TrainingFailedError for anything else.
    """
    start_ray()
    import ray

    job.workers.check()
    if surroundings.callbacks:  # A search hears of every validation, with its checkpoint.
        job = replace(job, loop=replace(job.loop, checkpoint_interval=0))
    run = _Run(
        output=output.directory,
        keep_checkpoints=job.keep_checkpoints,
        begin_from=surroundings.begin_from,
        listened_to=bool(surroundings.callbacks),
        sign=ray.remote(num_cpus=0)(StopSign).remote(),
    )
    files.delete(run.error_path)
    # Ray's own record of an earlier attempt; ours says which checkpoints there are.
    files.delete(files.join(run.checkpoints.directory, RAY_RECORD))
    run.checkpoints.clear_unfinished()
    with sigterm_puts_up(run.sign) as asked:
        _fit(job, run, surroundings)
    latest, best = run.checkpoints.latest(), run.checkpoints.best()
    with tempfile.TemporaryDirectory(prefix="hubert-ecg-") as temporary:
        state = None if latest is None else read_state(run.checkpoints.fetch(latest, Path(temporary)))
    if asked.is_set() and (state is None or not is_over(state, job.loop)):
        done = 0 if state is None else state.step
        raise StoppedError(
            f"{output.directory}: asked to stop, saved after step {done} of {job.loop.steps}; the same command goes on"
        )
    if best is None or state is None:
        raise TrainingError(
            f"{output.directory}/{TRAINER}: the training ended without a checkpoint; delete it and run again"
        )
    return TrainingOutcome(info=_publish(best, run), state=state)


def _fit(job: TrainingJob, run: _Run, surroundings: Surroundings) -> None:
    """Run the workers to their end; raises what the user has to fix."""
    import ray.train
    from ray.train.torch import TorchTrainer

    from hubert_ecg.pipeline.stoppable_torch import StoppableTorchConfig

    # The controller of Ray Train takes these from its driver's environment.
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(job.workers.hang_timeout_s)
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1")
    system, place = files.filesystem(files.join(run.output, TRAINER))
    trainer = TorchTrainer(
        partial(_run_worker, job, run),
        torch_config=StoppableTorchConfig(timeout_s=math.ceil(job.workers.hang_timeout_s)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.workers.num,
            use_gpu=job.workers.use_gpu,
            resources_per_worker=job.workers.resources_each,
        ),
        run_config=ray.train.RunConfig(
            name=RUN,
            # Threads that wait by spinning take the cores from the processes that read data.
            worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            storage_path=place,
            storage_filesystem=system if "://" in run.output else None,
            callbacks=list(surroundings.callbacks),
            failure_config=ray.train.FailureConfig(max_failures=job.workers.max_failures),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        cause = user_error(error) or left_error(run.error_path)
        if cause is None:
            raise
        raise cause from error
    left = left_error(run.error_path)
    if left is not None:
        raise left


def _publish(best: Saved, run: _Run) -> CheckpointInfo:
    """Copy the model of the best checkpoint into the output directory, the file that makes it a checkpoint last."""
    names = sorted(name for name in best.files if name.startswith(f"{MODEL}/"))
    with tempfile.TemporaryDirectory(prefix="hubert-ecg-") as temporary:
        folder = run.checkpoints.fetch(best, Path(temporary))
        for name in sorted(names, key=lambda name: name == f"{MODEL}/{INFO}"):
            files.upload(str(folder / name), files.join(run.output, name.removeprefix(f"{MODEL}/")))
    return load_info(run.output)


def _run_worker(job: TrainingJob, run: _Run) -> None:
    """What every rank runs. Ray starts workers that raise anew; an error that the user has to fix is left in a file.

    A rank that ended alone would leave the others waiting for it, so that one of several raises all the same; all of
    them, started anew, then find the file and end. A TrainingError is one of all ranks, which end together.
    """
    if files.exists(run.error_path):
        return
    try:
        _train_on_rank(job, run)
    except Exception as error:
        cause = user_error(error)
        if cause is None:
            raise
        leave_error(run.error_path, cause)
        if world_size() > 1 and not isinstance(cause, TrainingError):
            raise


def _train_on_rank(job: TrainingJob, run: _Run) -> None:
    """Model, optimiser and state, fresh or from the run's last checkpoint, and the loop over them."""
    from ray.train.torch import get_device, prepare_model

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("ray").setLevel(logging.WARNING)
    job.compute.set_up(threads=job.workers.threads_each, workers=job.workers.num)
    torch.manual_seed(job.loop.seed)
    state = TrainerState()
    with tempfile.TemporaryDirectory(prefix="hubert-ecg-") as temporary:
        kept, of_other_run = _kept(run, Path(temporary))
        module = job.make_module(None if kept is None else kept / MODEL)
        job.compute.prepare(module)
        # On one rank this only moves the module to its device.
        parallel = {"find_unused_parameters": job.may_skip_parameters}
        wrapped = prepare_model(module, parallel_strategy_kwargs=parallel if job.workers.num > 1 else None)
        optimiser = make_optimiser(wrapped, job.optimiser)
        device = get_device()
        loss_of = partial(_loss_of, job, device)
        learner = make_learner(job, wrapped, optimiser, partial(loss_of, wrapped), device)
        if kept is not None:
            state = load_state(kept, optimiser, learner.parts)
            log.info("going on after step %d", state.step)
    if of_other_run:  # Its scores are not this run's, and its best model is not among this run's checkpoints.
        last_loss = [row["train_loss"] for row in state.history[-1:] if "train_loss" in row]
        state = TrainerState(step=state.step)
        if is_over(state, job.loop):  # Nothing is left to train: its last loss is this run's too.
            state.loss_sum, state.loss_steps = sum(last_loss), len(last_loss)
    watchdog = Watchdog(job.workers.hang_timeout_s)
    batches = _batches(job.reader, job.plan, job, device, state.step, job.loop.steps)
    validation = _Validation(job, device, watchdog)

    def write(directory: Path, state: TrainerState) -> None:
        job.save(module, directory / MODEL, state)
        save_state(directory, state, optimiser, learner.parts)

    observer = _observer(job, run, state.step, watchdog, write)
    try:
        train(
            learner,
            batches,
            state,
            config=job.loop,
            validate=partial(validation.run, wrapped),
            observer=observer,
            loss_alone=partial(loss_of, module),
        )
    finally:
        batches.close()  # Left to the garbage collector, it might end in one of Ray Data's own threads.
        observer.close()
    if worker_asked.is_set() and not is_over(state, job.loop):
        raise RuntimeError(f"rank {rank()} was asked to end, after a checkpoint of step {state.step}; it is replaced")


def _loss_of(job: TrainingJob, device: torch.device, module: nn.Module, batch: Batch, step: int) -> StepLoss:
    with job.compute.autocast(device):
        return job.step_loss(module, batch, step)


def _kept(run: _Run, temporary: Path) -> tuple[Path | None, bool]:
    """A local directory with the checkpoint to go on from, and whether it is that of another run. All ranks together:
    it is rank 0 that chooses."""
    latest = run.checkpoints.latest() if rank() == 0 else None
    chosen = gather_texts("" if latest is None else latest.name)[0]
    if chosen:
        saved = next(one for one in run.checkpoints.saved() if one.name == chosen)
        return run.checkpoints.fetch(saved, temporary), False
    return (None, False) if run.begin_from is None else (Path(run.begin_from), True)


def _observer(job: TrainingJob, run: _Run, step: int, watchdog: Watchdog, write: WriteCheckpoint) -> RankObserver:
    first = rank() == 0
    name = job.run_name or run.output.rstrip("/").rsplit("/", 1)[-1]
    return RankObserver(
        write=write,
        checkpoints=run.checkpoints,
        request=StopRequest(run.sign if first else None),
        watchdog=watchdog,
        tables=Tables(run.output, step) if first else None,
        tracking=Tracking(job.trackers, output=run.output, name=name, first_step=step) if first else None,
        listened_to=run.listened_to,
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
        own_parts=job.state_parts(unwrap(module)),
    )


def _batches(
    reader: ExampleReader, plan: StepPlan, job: TrainingJob, device: torch.device, first_step: int, last_step: int
) -> Generator[Batch]:
    plan = replace(plan, world_size=world_size())
    for table in feed(reader, plan, rank=rank(), first_step=first_step, last_step=last_step):
        yield to_batch(table, device)


class _Validation:
    """Runs the validation of a job, keeping a small validation split in memory."""

    def __init__(self, job: TrainingJob, device: torch.device, watchdog: Watchdog) -> None:
        self.job, self.device, self.watchdog = job, device, watchdog
        self.kept: list[Batch] | None = None

    def run(self, module: nn.Module) -> dict[str, Any]:
        with torch.inference_mode():
            return self.job.validate(module, _Watched(self._batches(), self.watchdog))

    def _batches(self) -> list[Batch]:
        if self.kept is not None:
            return self.kept
        plan = self.job.validation_plan
        steps = math.ceil(plan.num_rows / plan.batch_size)
        batches = list(_batches(self.job.validation_reader, plan, self.job, self.device, 0, steps))
        if plan.num_rows <= MAX_CACHED_VALIDATION * world_size():
            self.kept = batches
        return batches


class _Watched(list[Batch]):
    """Batches; going through them counts as a sign of life."""

    def __init__(self, batches: list[Batch], watchdog: Watchdog) -> None:
        super().__init__(batches)
        self.watchdog = watchdog

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            self.watchdog.beat()
            yield batch


def finish_training(output: StageOutput, outcome: TrainingOutcome, facts: dict[str, Any]) -> Manifest:
    """Write the learning curves and the manifest of a finished training."""
    write_curves(output.directory, outcome.state.history)
    best = max(outcome.state.history, key=lambda row: row[SCORE])
    facts = facts | {"checkpoint": outcome.info.fingerprint, "steps_done": outcome.state.step, "best": best}
    return output.finish(parts=0, facts=facts, content=[outcome.info.fingerprint])


def unwrap(module: nn.Module) -> Any:
    """The module itself, where DDP has wrapped it."""
    return module.module if hasattr(module, "module") else module


def read_state(directory: Path) -> TrainerState:
    """The trainer's state of a checkpoint, without its optimiser."""
    return TrainerState(**json.loads((directory / STATE).read_text())["state"])
