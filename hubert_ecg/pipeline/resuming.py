"""Going on with a finished training for more steps: `--resume`.

The finished output stays what it is; the longer training gets an output of its own, which takes over the last and the
best checkpoint of the other one and with them its weights, optimiser, random states, place in the data and best score.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.training_run import RUN, TRAINER, read_state
from hubert_ecg.pipeline.training_setup import describe, num_steps
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, open_artifact, other_run
from hubert_ecg.storage.run_checkpoints import RunCheckpoints, Saved

log = logging.getLogger(__name__)

MAY_CHANGE = ("steps", "epochs", "patience", "validation_interval")
"""How long a training lasts and how often it looks; all else would make it another training."""


def open_resumed(config: Any, *, verb: str, inputs: dict[str, str]) -> Manifest | None:
    """The finished training that `config.resume` names, or None where nothing is to be gone on with.

    Raises ArtifactError where it is none, has lost its checkpoints, or was made from other inputs or with other
    settings than its length, which it names; ConfigError where it would be over as soon as it began.
    """
    if config.resume is None:
        return None
    source = open_artifact(config.resume, verb=verb, role="--resume")
    theirs = {name: value for name, value in source.inputs.items() if name != "resume"}
    told = other_run(source.config, theirs, describe(config), inputs, may_change=MAY_CHANGE)
    if told:
        raise ArtifactError(
            f"--resume {config.resume}: wanted the settings of that training but for {', '.join(MAY_CHANGE)}, got "
            f"{told}; give those, or start from its weights with --checkpoint"
        )
    checkpoints = _checkpoints(source.directory, 1)
    latest, _ = _latest_and_best(source, checkpoints)
    if config.epochs is None and num_steps(config, 0) <= latest.step:
        raise ConfigError(
            f"--resume {config.resume}: has done {latest.step} steps, wanted more, got {num_steps(config, 0)}; raise "
            f"--steps"
        )
    with tempfile.TemporaryDirectory(prefix="hubert-ecg-") as temporary:
        stale = read_state(checkpoints.fetch(latest, Path(temporary))).stale_validations
    if config.patience and stale >= config.patience:
        raise ConfigError(
            f"--resume {config.resume}: ended after {stale} validations without progress, wanted --patience above that "
            f"or 0, got {config.patience}"
        )
    return source


def resumed_input(source: Manifest | None) -> dict[str, str]:
    """What the longer training's manifest says of the one it goes on with."""
    return {} if source is None else {"resume": source.fingerprint}


def take_over(source: Manifest | None, output: str, *, keep: int) -> None:
    """Copy what to go on from into a new run's directory; nothing where it is there already or nothing is resumed."""
    if source is None:
        return
    theirs, ours = _checkpoints(source.directory, keep), _checkpoints(output, keep)
    latest, best = _latest_and_best(source, theirs)
    if any(one.step >= latest.step for one in ours.saved()):
        return
    # The latest comes last: whoever finds it finds the best one too.
    for one in [latest] if best == latest else [best, latest]:
        with tempfile.TemporaryDirectory(prefix="hubert-ecg-") as temporary:
            local = theirs.fetch(one, Path(temporary))
            ours.add(local, name=ours.new_name(one.step), step=one.step, score=one.score)
    log.info("going on with %s after step %d", source.directory, latest.step)


def _checkpoints(directory: str, keep: int) -> RunCheckpoints:
    return RunCheckpoints(directory=files.join(directory, TRAINER, RUN), keep=keep)


def _latest_and_best(source: Manifest, checkpoints: RunCheckpoints) -> tuple[Saved, Saved]:
    latest, best = checkpoints.latest(), checkpoints.best()
    done = source.facts["steps_done"]
    if latest is None or best is None or latest.step != done:
        raise ArtifactError(
            f"--resume {source.directory}: wanted its checkpoint after step {done} in {TRAINER}/{RUN}, got none; start "
            f"from its weights with --checkpoint"
        )
    return latest, best
