"""Metrics to TensorBoard, MLflow and Weights & Biases, in a thread of its own so that no training waits for a server.

A run that goes on after an interruption goes on in the same MLflow and W&B run and under the same TensorBoard
directory, where what came after the checkpoint is replaced. A tracker that fails costs a warning, never the training:
the tables in the run's directory hold all metrics anyway.
"""

import importlib.util
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hubert_ecg.errors import ConfigError
from hubert_ecg.storage import files

log = logging.getLogger(__name__)

EVENTS = "tensorboard"
"""Directory of TensorBoard's event files, in the output."""
IDS = "trackers.json"
SECONDS_BETWEEN_UPLOADS = 60.0
CLOSE_S = 60.0
"""Longest wait for trackers when a training ends."""


@dataclass(frozen=True, kw_only=True)
class TrackersConfig:
    """Where metrics go beside the tables in the output directory."""

    tensorboard: bool = True
    """Write event files to OUTPUT/tensorboard."""
    mlflow_uri: str | None = None
    """Tracking server or database of MLflow: `http://...`, or `sqlite:///path/to/mlflow.db`. Needs the extra
    `tracking`."""
    mlflow_experiment: str = "hubert-ecg"
    """Experiment of MLflow that runs belong to."""
    wandb_project: str | None = None
    """Project of Weights & Biases, which takes its account and mode (WANDB_MODE=offline) from the environment. Needs
    the extra `tracking`."""

    def __post_init__(self) -> None:
        for wanted, package, flag in (
            (self.mlflow_uri, "mlflow", "mlflow_uri"),
            (self.wandb_project, "wandb", "wandb_project"),
        ):
            if wanted is not None and importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"--trackers.{flag}: wanted the package {package}, which is not installed; "
                    f'pip install "hubert-ecg[tracking]", or leave the setting out'
                )
        if self.mlflow_uri is not None and "://" not in self.mlflow_uri:
            raise ConfigError(
                f"--trackers.mlflow_uri: wanted http://... or sqlite:///path, got {self.mlflow_uri}; MLflow has given "
                f"up plain directories"
            )

    @property
    def absolute_mlflow_uri(self) -> str | None:
        """The same for a process in another directory: `sqlite:///a.db` is relative, `sqlite:////a.db` is not."""
        if self.mlflow_uri is None or not self.mlflow_uri.startswith("sqlite:///"):
            return self.mlflow_uri
        return f"sqlite:///{os.path.abspath(self.mlflow_uri.removeprefix('sqlite:///'))}"


class Tracker(Protocol):
    """Takes the numbers of one step under names such as `train/loss`."""

    def log(self, step: int, values: dict[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """An event file per life of a run; those of a remote output are written here and uploaded now and then."""

    def __init__(self, output: str, first_step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self.target = files.join(output, EVENTS) if "://" in output else None
        self.local = tempfile.mkdtemp(prefix="hubert-ecg-events-") if self.target else str(Path(output, EVENTS))
        Path(self.local).mkdir(parents=True, exist_ok=True)
        # Two lives may begin within a second, which is all that a file's name tells by itself.
        self.writer = EventsWriter(str(Path(self.local, "events")), f".{first_step}.{uuid.uuid4().hex[:6]}")
        # Readers drop what earlier files hold from this step on: it is about to be computed again.
        self._write(step=first_step + 1, session_log=SessionLog(status=SessionLog.START))
        self.uploaded = time.monotonic()

    def log(self, step: int, values: dict[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        named = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=named))
        if self.target and time.monotonic() - self.uploaded > SECONDS_BETWEEN_UPLOADS:
            self._upload()

    def close(self) -> None:
        self.writer.close()
        self._upload()

    def _write(self, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self.writer.write_event(Event(wall_time=time.time(), **content))
        self.writer.flush()

    def _upload(self) -> None:
        if self.target:
            for path in Path(self.local).iterdir():
                files.upload(str(path), files.join(self.target, path.name))
        self.uploaded = time.monotonic()


class MLflow:
    """A run of an MLflow server or database. What could not be sent is sent with the next numbers."""

    def __init__(self, uri: str, experiment: str, name: str, run_id: str | None) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        if run_id is None:
            found = self.client.get_experiment_by_name(experiment)
            number = found.experiment_id if found else self.client.create_experiment(experiment)
            run_id = self.client.create_run(number, run_name=name).info.run_id
        else:
            self.client.update_run(run_id, status="RUNNING")
        self.run_id = run_id
        self.waiting: list[Any] = []

    def log(self, step: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.waiting += [Metric(name, value, now, step) for name, value in values.items()]
        self._send()

    def _send(self) -> None:
        while self.waiting:
            self.client.log_batch(self.run_id, metrics=self.waiting[:1000])
            self.waiting = self.waiting[1000:]

    def close(self) -> None:
        self._send()
        self.client.set_terminated(self.run_id)


class WeightsAndBiases:
    """A run of Weights & Biases. Its local files lie in the output, or here where the output is remote."""

    def __init__(self, project: str, name: str, output: str, run_id: str) -> None:
        import wandb

        folder = tempfile.mkdtemp(prefix="hubert-ecg-wandb-") if "://" in output else output
        settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True)
        self.run = wandb.init(project=project, name=name, id=run_id, resume="allow", dir=folder, settings=settings)
        # Steps of our own: W&B's only grow, and a run that goes on after a kill repeats some.
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run.log({"step": step, **values})

    def close(self) -> None:
        self.run.finish()


class Tracking:
    """All trackers of a run behind one thread. On rank 0."""

    def __init__(self, config: TrackersConfig, *, output: str, name: str, first_step: int) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trackers")
        self._trackers: dict[str, Tracker] = {}
        self._warned: dict[str, float] = {}
        self._thread.submit(self._open, config, output, name, first_step)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Returns at once."""
        self._thread.submit(self._each, lambda tracker: tracker.log(step, values))

    def close(self) -> None:
        """Wait for what is under way, but not for ever."""
        closed = self._thread.submit(self._each, lambda tracker: tracker.close())
        try:
            closed.result(CLOSE_S)
        except TimeoutError:
            log.warning("trackers: not all metrics could be sent within %.0f s", CLOSE_S)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _open(self, config: TrackersConfig, output: str, name: str, first_step: int) -> None:
        ids_path = files.join(output, "trainer", IDS)
        ids: dict[str, Any] = {"wandb": uuid.uuid4().hex[:8], "mlflow": None}
        if files.exists(ids_path):
            ids = files.read_json(ids_path)
        uri = config.absolute_mlflow_uri
        if config.tensorboard:
            self._add("TensorBoard", lambda: TensorBoard(output, first_step))
        if uri is not None:
            self._add("MLflow", lambda: MLflow(uri, config.mlflow_experiment, name, ids["mlflow"]))
            mlflow = self._trackers.get("MLflow")
            ids["mlflow"] = mlflow.run_id if isinstance(mlflow, MLflow) else ids["mlflow"]
        files.write_json(ids_path, ids)
        project = config.wandb_project
        if project is not None:
            self._add("W&B", lambda: WeightsAndBiases(project, name, output, ids["wandb"]))

    def _add(self, name: str, make: Callable[[], Tracker]) -> None:
        try:
            self._trackers[name] = make()
        except Exception as error:
            log.warning("%s: no metrics go there, it could not be opened: %s", name, error)

    def _each(self, work: Callable[[Tracker], None]) -> None:
        for name, tracker in self._trackers.items():
            try:
                work(tracker)
            except Exception as error:
                if time.monotonic() - self._warned.get(name, -1e9) > SECONDS_BETWEEN_UPLOADS:
                    log.warning("%s: metrics could not be sent, the training goes on: %s", name, error)
                    self._warned[name] = time.monotonic()
