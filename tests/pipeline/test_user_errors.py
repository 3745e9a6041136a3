"""An error that the user can fix is found behind what Ray wraps around it, and survives the way between processes."""

from pathlib import Path

import pytest

from hubert_ecg.errors import ArtifactError, HubertEcgError, RecordingError, TrainingError
from hubert_ecg.pipeline.user_errors import leave_error, left_error, user_error


class FailedError(Exception):
    """As Ray Train's: the errors of workers by rank."""

    def __init__(self, worker_failures: dict[int, Exception]) -> None:
        super().__init__("failed")
        self.worker_failures = worker_failures


def wrapped(error: Exception) -> Exception:
    try:
        raise RuntimeError("task failed") from error
    except RuntimeError as outer:
        return outer


def test_it_is_found_behind_other_errors() -> None:
    error = ArtifactError("what to do")
    assert user_error(error) is error
    assert user_error(wrapped(wrapped(error))) is error
    assert user_error(FailedError({1: wrapped(error)})) is error
    assert user_error(wrapped(ValueError("a bug"))) is None


@pytest.mark.parametrize("error", [TrainingError("the loss is nan"), RecordingError("too short", "r1: wanted 5 s")])
def test_it_is_the_same_after_a_file(tmp_path: Path, error: HubertEcgError) -> None:
    path = str(tmp_path / "trainer" / "error.json")
    assert left_error(path) is None
    leave_error(path, error)
    left = left_error(path)
    assert (type(left), str(left), vars(left)) == (type(error), str(error), vars(error))


def test_what_ray_data_writes_below_a_message_is_not_told(tmp_path: Path) -> None:
    path = str(tmp_path / "error.json")
    leave_error(path, ArtifactError("W is damaged\nFailed to apply UDF transform after 1/1 attempts\nTo change ..."))
    assert str(left_error(path)) == "W is damaged"
