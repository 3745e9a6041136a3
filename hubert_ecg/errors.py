"""The error tree: every error a user can cause is a subclass of HubertEcgError.

    HubertEcgError
    ├── ConfigError        a setting is unknown, impossible, or contradicts another
    ├── InputError         an input file, folder or table is missing or not what was expected
    │   └── RecordingError one recording cannot be used; its `reason` is a short stable code for reports
    ├── ArtifactError      an output directory belongs to another run, or an input artifact is of the wrong kind
    ├── CheckpointError    weights or their configuration do not fit
    ├── ResourceError      the machine or cluster cannot run what was asked
    ├── TrainingError      training cannot go on (a loss that is not a number, say)
    └── StoppedError       the run was asked to stop (SIGTERM); it has saved, and the same command goes on

The command line turns each of them into one line and exit code 2 (143 where the run was asked to stop); anything else
is a bug and exits with 1.
"""


class HubertEcgError(Exception):
    """Base of all errors that the user can fix. The message names the thing, what was wanted, got, and what to do."""


class ConfigError(HubertEcgError):
    """A setting is unknown, impossible, or contradicts another."""


class InputError(HubertEcgError):
    """An input file, folder or table is missing or is not what was expected."""


class RecordingError(InputError):
    """One recording cannot be used. `reason` is a short stable code that reports count by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["RecordingError"], tuple[str, str]]:
        return type(self), (self.reason, str(self))


class ArtifactError(HubertEcgError):
    """An output directory belongs to another run, or an input artifact is missing, unfinished or of the wrong kind."""


class CheckpointError(HubertEcgError):
    """Model weights or their configuration do not fit."""


class ResourceError(HubertEcgError):
    """The machine or cluster cannot run what was asked."""


class TrainingError(HubertEcgError):
    """Training cannot go on."""


class StoppedError(HubertEcgError):
    """The run was asked to stop; it has saved, and the same command goes on from there."""
