"""HuBERT-ECG on Ray: self-supervised learning on the 12-lead ECG, from a raw archive to a checked prediction.

    import hubert_ecg
    recording = hubert_ecg.read("patient.npy", sampling_rate_hz=500)
    print(hubert_ecg.load("runs/demo/classifier").predict(recording))

Importing this package is light: torch, ray and the rest are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

from hubert_ecg import autoload

if TYPE_CHECKING:
    from hubert_ecg.ecg.recording import Recording
    from hubert_ecg.predictor import Predictor
    from hubert_ecg.training.dataset import ECGDataset

autoload.install()

__all__ = ["ECGDataset", "Recording", "load", "read"]


def load(checkpoint: str, *, num_crops: int = 3) -> "Predictor":
    """A fine-tuned checkpoint, ready to predict. `num_crops` crops of 5 s are averaged per recording."""
    from hubert_ecg.predictor import CropConfig, Predictor

    return Predictor.load(checkpoint, crops=CropConfig(num_crops=num_crops))


def read(path: str, *, sampling_rate_hz: float | None = None) -> "Recording":
    """A recording from a file of any known format; the rate in Hz only where the file does not say it (.npy)."""
    from hubert_ecg.formats import read_recording

    return read_recording(path, sampling_rate_hz=sampling_rate_hz)


def __getattr__(name: str) -> Any:
    if name == "Recording":
        from hubert_ecg.ecg.recording import Recording

        return Recording
    if name == "ECGDataset":
        from hubert_ecg.training.dataset import ECGDataset

        return ECGDataset
    raise AttributeError(f"module 'hubert_ecg' has no attribute {name!r}")
