"""Milliseconds of one explanation and of one prediction: `python -m benchmarks.explain [--sizes tiny,base]`.

One crop of 5 s, 32 points of the path, all cores; random weights, which cost what trained ones do. Steps computed
together are compared with steps one by one. Medians of `--repeats` runs after one that does not count.
"""

import argparse
from functools import partial

import numpy as np
import torch

from benchmarks.report import Report, Row, reporting
from benchmarks.timing import ms_each, seconds_of
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.predictor import CropConfig, Predictor
from hubert_ecg.predictor.explain import Explainer
from hubert_ecg.storage.checkpoint import CheckpointInfo

LABELS = ("A", "B")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="tiny,base")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=32)
    with reporting("explain", parser) as (options, report):
        report.head(f"{torch.get_num_threads()} threads, {options.steps} points of the path")
        for size in options.sizes.split(","):
            measure(size, options, report)


def measure(size: str, options: argparse.Namespace, report: Report) -> None:
    """All figures of one size."""
    counts = np.random.default_rng(0).integers(-16384, 16384, (12, 1000)).astype(np.int16)
    predictor = random_predictor(size)
    predicted = ms_each(seconds_of(partial(predictor.apply, [counts]), options.repeats), 1)
    report.add(Row(name=f"prediction of one crop, {size}", ours=predicted, unit="ms"))
    one_by_one: tuple[float, ...] = ()
    for at_once in (1, 8, 32):
        explainer = Explainer(predictor, num_steps=options.steps, steps_at_once=at_once)
        taken = ms_each(seconds_of(partial(explainer.explain_waveform, counts, "A"), options.repeats), 1)
        report.add(
            Row(
                name=f"explanation of one crop, {size}, {at_once} {'points' if at_once > 1 else 'point'} at once",
                ours=taken,
                theirs=one_by_one,
                unit="ms",
                against="one point at a time" if one_by_one else "",
            )
        )
        one_by_one = one_by_one or taken


def random_predictor(size: str) -> Predictor:
    torch.manual_seed(0)
    model = HubertECGClassifier.from_encoder(HubertECG(model_config(size)), label_names=LABELS)
    info = CheckpointInfo(
        kind="classifier", preprocessing=PreprocessConfig().to_dict(), task="multi_label", label_names=LABELS
    )
    return Predictor(model, info, crops=CropConfig(num_crops=1))


if __name__ == "__main__":
    main()
