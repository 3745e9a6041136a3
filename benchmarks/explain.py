"""Milliseconds of one explanation and of one prediction: `python -m benchmarks.explain [--sizes tiny,base]`.

One crop of 5 s, 32 points of the path, all cores; random weights, which cost what trained ones do. Steps computed
together are compared with steps one by one. Medians of `--repeats` runs after one that does not count.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.predictor import CropConfig, Predictor
from hubert_ecg.predictor.explain import Explainer
from hubert_ecg.storage.checkpoint import CheckpointInfo

LABELS = ("A", "B")


def median_ms(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="tiny,base")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=32)
    arguments = parser.parse_args()
    counts = np.random.default_rng(0).integers(-16384, 16384, (12, 1000)).astype(np.int16)
    print(f"{torch.get_num_threads()} threads, {arguments.steps} points, medians of {arguments.repeats}")
    for size in arguments.sizes.split(","):
        torch.manual_seed(0)
        model = HubertECGClassifier.from_encoder(HubertECG(model_config(size)), label_names=LABELS)
        info = CheckpointInfo(
            kind="classifier", preprocessing=PreprocessConfig().to_dict(), task="multi_label", label_names=LABELS
        )
        predictor = Predictor(model, info, crops=CropConfig(num_crops=1))
        print(f"{size}: prediction {median_ms(lambda: predictor.apply([counts]), arguments.repeats):.0f} ms")  # noqa: B023
        for at_once in (1, 8, 32):
            explainer = Explainer(predictor, num_steps=arguments.steps, steps_at_once=at_once)
            taken = median_ms(lambda: explainer.explain_waveform(counts, "A"), arguments.repeats)  # noqa: B023
            print(f"{size}: explanation, {at_once} points at once, {taken:.0f} ms")


if __name__ == "__main__":
    main()
