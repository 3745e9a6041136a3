"""From a recording to probabilities: the one inference path of evaluation, batch prediction and the service."""

from hubert_ecg.predictor.crops import CropConfig
from hubert_ecg.predictor.prediction import Outputs, Prediction
from hubert_ecg.predictor.predictor import Predictor

__all__ = ["CropConfig", "Outputs", "Prediction", "Predictor"]
