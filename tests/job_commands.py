"""Commands of this project that stand in other files (README, manifests), parsed by the jobs' own parsers."""

import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

from hubert_ecg.pipeline.predict import PredictConfig
from hubert_ecg.pipeline.prepare import PrepareConfig
from jobs.cli import parse
from jobs.prepare import spelled_out

ROOT = Path(__file__).resolve().parent.parent
STAGES = {
    *("prepare", "dump", "cluster", "label", "pretrain", "finetune", "tune", "evaluate", "calibrate", "compare"),
    *("predict", "explain", "probe", "convert", "export"),
}
FROM_RAW = {"prepare": PrepareConfig, "predict": PredictConfig}
"""Jobs whose settings of a source of recordings also go by their short names."""


def config_class(verb: str) -> Any:
    """The settings dataclass of a verb."""
    module = import_module("jobs.sample" if verb == "sample" else f"hubert_ecg.pipeline.{verb}")
    return getattr(module, f"{verb.capitalize()}Config")


def parsed(command: str) -> Any:
    """The settings of `python -m jobs.VERB ...`; None for a verb without settings, which then at least exists."""
    python, module, job, *arguments = shlex.split(command)
    assert (python, module) == ("python", "-m"), command
    verb = job.removeprefix("jobs.")
    if verb in STAGES | {"sample"}:
        return parse(
            verb, config_class(verb), spelled_out(arguments, FROM_RAW[verb]) if verb in FROM_RAW else arguments
        )
    assert (ROOT / "jobs" / f"{verb}.py").exists(), command
    return None
