"""Metrics as the trackers' own readers give them back, also of a run that was interrupted and went on."""

import csv
import importlib.util
import json
import struct
from pathlib import Path

import pytest

from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.curves import STEPS, Tables, step_rows
from hubert_ecg.pipeline.trackers import EVENTS, TrackersConfig, Tracking
from hubert_ecg.storage import files


def track(output: Path | str, config: TrackersConfig, first_step: int, *steps: int) -> None:
    """One life of a run that logs a loss of 1 / step."""
    tracking = Tracking(config, output=str(output), name="a run", first_step=first_step)
    for step in steps:
        tracking.log(step, {"train/loss": 1 / step})
    tracking.close()


def events(folder: Path) -> list[tuple[int, str, float]]:
    """(step, name, value) of all event files in a folder, oldest first, purged as TensorBoard does at a restart."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found: list[tuple[int, str, float]] = []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + size])
            data = data[12 + size + 4 :]
            if event.session_log.status == SessionLog.START:
                found = [one for one in found if one[0] < event.step]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def test_tensorboard_reads_an_interrupted_run_as_one(tmp_path: Path) -> None:
    track(tmp_path, TrackersConfig(), 0, 1, 2, 4)  # killed after step 4; the last checkpoint was that of step 2
    track(tmp_path, TrackersConfig(), 2, 4, 5)
    assert events(tmp_path / EVENTS) == [(step, "train/loss", pytest.approx(1 / step)) for step in (1, 2, 4, 5)]


def test_event_files_of_a_remote_output_are_uploaded(s3_bucket: str, tmp_path: Path) -> None:
    track(f"{s3_bucket}/out", TrackersConfig(), 0, 1, 2)
    (name,) = files.list_names(f"{s3_bucket}/out/{EVENTS}")
    (tmp_path / "events").mkdir()
    files.download(f"{s3_bucket}/out/{EVENTS}/{name}", str(tmp_path / "events" / name))
    assert [step for step, _, _ in events(tmp_path / "events")] == [1, 2]


@pytest.mark.filterwarnings("ignore")  # of MLflow's own, about SQLAlchemy
def test_mlflow_goes_on_in_the_same_run(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for first_step, *steps in ((0, 1, 2), (2, 3)):
        track(tmp_path / "out", TrackersConfig(tensorboard=False, mlflow_uri=uri), first_step, *steps)
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("hubert-ecg").experiment_id])
    assert (run.info.run_name, run.info.status) == ("a run", "FINISHED")
    history = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(history) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of W&B's own
def test_wandb_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for first_step, *steps in ((0, 1, 2), (2, 3)):
        track(tmp_path, TrackersConfig(tensorboard=False, wandb_project="ecg"), first_step, *steps)
    lives = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(lives) == 2
    assert len({path.name for path in lives}) == 1  # the same run id, which `wandb sync` joins
    assert [row for path in lives for row in wandb_rows(path)] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def wandb_rows(path: Path) -> list[tuple[int, float]]:
    """(step, loss) of an offline run's file: W&B's own records, in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, rows, pieces = path.read_bytes(), 7, [], b""
    while place < len(data):
        if 32768 - place % 32768 < 7:  # no room for a header at the end of a block
            place += 32768 - place % 32768
            continue
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        pieces += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last piece of one
            record, pieces = Record.FromString(pieces), b""
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if items:
                rows.append((json.loads(items["step"]), json.loads(items["train/loss"])))
    return rows


def test_a_tracker_that_fails_does_not_stop_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / EVENTS).write_text("a file where the directory of event files is to be")
    track(tmp_path, TrackersConfig(), 0, 1)
    assert "TensorBoard: no metrics go there" in caplog.text


def test_impossible_trackers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="mlflow_uri: wanted http://... or sqlite:///path, got mlruns"):
        TrackersConfig(mlflow_uri="mlruns")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for settings in ({"mlflow_uri": "http://localhost"}, {"wandb_project": "ecg"}):
        with pytest.raises(ConfigError, match=r'not installed; pip install "hubert-ecg\[tracking\]"'):
            TrackersConfig(**settings)


def test_a_relative_database_is_that_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert TrackersConfig(mlflow_uri="sqlite:///a.db").absolute_mlflow_uri == f"sqlite:///{tmp_path}/a.db"
    assert TrackersConfig(mlflow_uri="sqlite:////a.db").absolute_mlflow_uri == "sqlite:////a.db"


def test_the_table_of_steps_grows_and_a_run_that_goes_on_repeats_nothing(tmp_path: Path) -> None:
    def steps() -> list[tuple[str, str]]:
        return [(row["step"], row["loss"]) for row in csv.DictReader((tmp_path / STEPS).open())]

    first = Tables(str(tmp_path), 0)
    for step in (10, 20, 30):
        first.add_row({"step": step, "loss": 1 / step})
    assert steps()[0] == ("10", "0.1")  # there while the run lives
    first.flush()
    assert [step for step, _ in steps()] == ["10", "20", "30"]
    second = Tables(str(tmp_path), 20)  # the last checkpoint was that of step 20
    second.add_row({"step": 30, "loss": 0.25})
    second.flush()
    assert steps() == [("10", "0.1"), ("20", "0.05"), ("30", "0.25")]


def test_the_table_of_steps_gains_and_loses_the_memory_of_a_gpu(tmp_path: Path) -> None:
    """A training that began on a GPU and goes on without one, or the other way round."""
    on, off = {"loss": 0.5, "gpu_memory_gb": 4.5}, {"loss": 0.25}
    for step, row in ((10, on), (20, off), (30, on)):
        table = Tables(str(tmp_path), step)
        table.add_row({"step": step} | row)
        table.flush()
    assert step_rows(str(tmp_path)) == [{"step": 10.0} | on, {"step": 20.0} | off, {"step": 30.0} | on]
