"""inspect: explain any output directory in a few lines: what it is, what it was made from, what is in it."""

from typing import Any

from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import PLAN, Manifest, StageOutput, open_artifact

WHAT = {
    "prepare": "waveform table: filtered, scaled recordings with their labels",
    "dump": "feature table: one row of features per token",
    "cluster": "codebooks: centroids of token features",
    "label": "token labels: the cluster code of every token",
    "pretrain": "self-supervised checkpoint",
    "finetune": "classifier",
    "tune": "search over settings: trials.txt, plots.html, best.yaml and best/",
    "calibrate": "classifier with calibrated probabilities, thresholds and a rule for abstention",
    "evaluate": "evaluation of a classifier",
    "compare": "comparison of two evaluations",
    "convert": "converted checkpoint",
    "export": "exported graph with its labels and preprocessing",
}


def inspect(directory: str) -> str:
    """The explanation as text. Raises ArtifactError for a directory that no job has written."""
    directory = files.absolute(directory)
    plan = files.join(directory, PLAN)
    if files.exists(plan) and not files.exists(files.join(directory, "manifest.json")):
        return _unfinished(directory, files.read_json(plan))
    return _finished(open_artifact(directory, role="DIR"))


def _finished(manifest: Manifest) -> str:
    code = ", ".join(f"{name} {value}" for name, value in manifest.code.items())
    lines = [
        f"{manifest.directory}",
        f"  {WHAT.get(manifest.verb, manifest.verb)}, finished by jobs.{manifest.verb} at "
        f"{manifest.finished_at} ({code})",
        f"  fingerprint {manifest.fingerprint}; {manifest.rows} rows in {manifest.parts} shards",
        "  made from",
        *[f"    {name}: {value}" for name, value in manifest.inputs.items()],
        "  settings",
        *_tree(manifest.config, 4),
        "  facts",
        *_tree(manifest.facts, 4),
    ]
    return "\n".join(lines)


def _unfinished(directory: str, plan: dict[str, Any]) -> str:
    output = StageOutput(directory=directory, verb=plan["verb"], config=plan["config"], inputs=plan["inputs"])
    done = _trials(directory) if plan["verb"] == "tune" else f"{len(output.finished_parts())} shards done"
    lines = [
        f"{directory}",
        f"  unfinished output of jobs.{plan['verb']}: {done}; the same command goes on from there",
        "  settings",
        *_tree(plan["config"], 4),
    ]
    return "\n".join(lines)


def _trials(directory: str) -> str:
    from hubert_ecg.pipeline.search_records import load_records, summary

    return f"trials: {summary(load_records(directory)) or 'none yet'}"


def _tree(values: dict[str, Any], indent: int) -> list[str]:
    """Nested dictionaries as indented lines; long lists cut."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            lines += [f"{' ' * indent}{name}", *_tree(value, indent + 2)]
        else:
            text = str(value)
            lines.append(f"{' ' * indent}{name}: {text if len(text) <= 160 else text[:157] + '...'}")
    return lines
