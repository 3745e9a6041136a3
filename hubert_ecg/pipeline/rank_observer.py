"""What a rank does around its steps: checkpoints in the background, tables and trackers, stopping, being alive."""

import logging
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

from hubert_ecg.pipeline.curves import Tables
from hubert_ecg.pipeline.stopping import StopRequest
from hubert_ecg.pipeline.trackers import Tracking
from hubert_ecg.pipeline.watchdog import Watchdog
from hubert_ecg.storage import files
from hubert_ecg.storage.run_checkpoints import RunCheckpoints, Saved
from hubert_ecg.training.loop import Observer
from hubert_ecg.training.ranks import rank
from hubert_ecg.training.state import TrainerState

log = logging.getLogger(__name__)

WriteCheckpoint = Callable[[Path, TrainerState], None]
"""Writes all that a run needs to go on into an empty local directory."""


class Uploads:
    """Checkpoints on their way from a temporary local directory to where they are kept, one at a time."""

    def __init__(self, checkpoints: RunCheckpoints, beat: Callable[[], None]) -> None:
        self.checkpoints, self.beat = checkpoints, beat
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._under_way: Future[Saved] | None = None

    def begin(self, local: Path, *, name: str, step: int, score: float | None) -> "Future[Saved]":
        """Copy `local`, which is deleted then; wait first until the one before is done, so that they cannot pile up."""
        self.wait()
        self._under_way = self._thread.submit(self._copy, local, name, step, score)
        return self._under_way

    def wait(self) -> None:
        """Until nothing is under way. Raises what went wrong with it."""
        while self._under_way is not None:
            self.beat()
            try:
                self._under_way.result(timeout=1.0)
            except NotYet:
                if self._under_way.done():
                    raise
                continue
            self._under_way = None

    def _copy(self, local: Path, name: str, step: int, score: float | None) -> Saved:
        try:
            return self.checkpoints.add(local, name=name, step=step, score=score)
        finally:
            shutil.rmtree(local)


class RankObserver(Observer):
    """The observer of one rank; files, tables and trackers are rank 0's."""

    def __init__(
        self,
        *,
        write: WriteCheckpoint,
        checkpoints: RunCheckpoints,
        request: StopRequest,
        watchdog: Watchdog,
        tables: Tables | None,
        tracking: Tracking | None,
        listened_to: bool,
    ) -> None:
        """`tables` and `tracking` on rank 0 only. `listened_to`: callbacks of Ray Train wait for reports."""
        self.write, self.request, self.watchdog = write, request, watchdog
        self.tables, self.tracking, self.listened_to = tables, tracking, listened_to
        self.uploads = Uploads(checkpoints, watchdog.beat)
        self.stopped = False

    def stop_asked(self) -> bool:
        self.watchdog.beat()
        return self.request.made

    def on_row(self, row: dict[str, float]) -> None:
        if self.tables is not None:
            self.tables.add_row(row)
        self._track(row, "train")

    def on_validation(self, row: dict[str, Any]) -> None:
        self.watchdog.beat()
        self._track(row, "val")

    def save(self, state: TrainerState, score: float | None) -> None:
        """Rank 0 writes to a local directory while all wait, and copies it to its place while they go on."""
        self.watchdog.beat()
        upload = self._begin_upload(state, score) if rank() == 0 else None
        if self.listened_to and score is not None:
            self._report(state, upload)

    def close(self) -> None:
        """Wait for what is under way; raises what went wrong with it."""
        self.uploads.wait()
        if self.tables is not None:
            self.tables.flush()
        if self.tracking is not None:
            self.tracking.close()
        self.watchdog.stop()

    def _begin_upload(self, state: TrainerState, score: float | None) -> "Future[Saved]":
        if self.tables is not None:
            self.tables.flush()
            if state.history:
                self.tables.write_history(state.history)
        self.uploads.wait()
        local = Path(tempfile.mkdtemp(prefix="hubert-ecg-checkpoint-"))
        self.write(local, state)
        name = self.uploads.checkpoints.new_name(state.step)
        return self.uploads.begin(local, name=name, step=state.step, score=score)

    def _track(self, row: dict[str, Any], prefix: str) -> None:
        if self.tracking is not None:
            values = {n: float(v) for n, v in row.items() if n != "step" and isinstance(v, int | float)}
            self.tracking.log(int(row["step"]), {f"{prefix}/{name}": value for name, value in values.items()})

    def _report(self, state: TrainerState, upload: "Future[Saved] | None") -> None:
        """Tell the callbacks of Ray Train the metrics, and where their checkpoint lies once it does."""
        import ray.train

        metrics = {name: value for name, value in state.history[-1].items() if isinstance(value, int | float)}
        if upload is None:
            ray.train.report(metrics)
            return
        path = files.filesystem(self.uploads.checkpoints.path(upload.result().name))[1]
        storage = ray.train.get_context().get_storage()
        checkpoint = ray.train.Checkpoint(path=path, filesystem=storage.storage_filesystem)
        ray.train.report(
            metrics, checkpoint=checkpoint, checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD
        )
