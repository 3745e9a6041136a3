"""A classifier that is trained within seconds to tell bundle branch blocks apart on simulated ECGs."""

import numpy as np
import torch

from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input, prepare_waveform
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.models import HubertECGClassifier
from tests.predictor.classifiers import classifier

BLOCKS = ("CLBBB", "CRBBB")
PREPROCESS = PreprocessConfig()


def simulated(count: int, first_seed: int) -> tuple[list[Recording], np.ndarray]:
    """(recordings, [recording, label] float32): left and right block and neither in turn."""
    conditions = [("CLBBB", "CRBBB", "NORM")[i % 3] for i in range(count)]
    recordings = [simulate_condition([name], seed=first_seed + i)[0] for i, name in enumerate(conditions)]
    return recordings, np.array([[name == label for label in BLOCKS] for name in conditions], np.float32)


def trained_classifier(steps: int = 60, batch: int = 24) -> HubertECGClassifier:
    """A small model after some steps of Adam on 120 recordings."""
    recordings, targets = simulated(120, 1000)
    waveforms = [prepare_waveform(recording, PREPROCESS).counts for recording in recordings]
    model = classifier(labels=BLOCKS, hidden_size=64, intermediate_size=128).train()
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        rows = rng.choice(len(recordings), batch, replace=False)
        inputs = np.stack([model_input(waveforms[row], float(rng.uniform(0, 5)), PREPROCESS) for row in rows])
        logits = model(torch.from_numpy(inputs)).logits
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(targets[rows]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()
