"""A model as ONNX, for runtimes without torch, checked against torch.

Shapes: B recordings, L leads, S samples, N labels.
"""

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hubert_ecg.errors import CheckpointError, ResourceError
from hubert_ecg.models.classifier import HubertECGClassifier
from hubert_ecg.models.ssl import HubertECG

TOLERANCE = 1e-4
"""Largest difference between an output of the exported graph and torch's."""
_CHECKED_BATCHES = (1, 3)


class _Graph(nn.Module):
    """What is exported: arrays in, arrays out."""

    def __init__(self, model: HubertECG | HubertECGClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, ecg: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if isinstance(self.model, HubertECGClassifier):
            logits_BN = self.model(ecg).logits
            return logits_BN, self.model.probabilities(logits_BN)
        return (self.model.encode(ecg).last_hidden_state,)


def output_names(model: HubertECG | HubertECGClassifier) -> tuple[str, ...]:
    """Names of the graph's outputs, in order."""
    return ("logits", "probabilities") if isinstance(model, HubertECGClassifier) else ("last_hidden_state",)


def to_onnx(model: HubertECG | HubertECGClassifier, num_samples: int) -> bytes:
    """The model in evaluation mode, float32: input `ecg` [B, L * S] with any B and `num_samples` = L * S samples.

    A classifier gives `logits` and `probabilities` [B, N], a pre-training model `last_hidden_state`. There is no
    attention mask: every sample counts.

    Raises ResourceError where the packages for it are not installed, CheckpointError when the graph computes anything
    else than torch does.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ResourceError(f"export: {error.name} is not installed; pip install 'hubert-ecg[export]'") from error
    graph = _Graph(model.eval()).eval()
    example = torch.randn(2, num_samples, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), _quiet(), tempfile.TemporaryDirectory(prefix="hubert-ecg-") as folder:
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=["ecg"],
            output_names=list(output_names(model)),
            dynamic_shapes={"ecg": {0: torch.export.Dim("batch", min=1, max=65536)}},
            verbose=False,
        )
        path = Path(folder, "model.onnx")
        assert program is not None
        program.save(os.fspath(path), external_data=False)
        data = path.read_bytes()
    _check(graph, onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]), num_samples)
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what the exporter says of packages that it could also have used, and of torch's own future."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def _check(graph: _Graph, session: Any, num_samples: int) -> None:
    """CheckpointError unless both give the same numbers, for batches of other sizes than the one exported from."""
    for batch in _CHECKED_BATCHES:
        ecg = torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            wanted = [output.numpy() for output in graph(ecg)]
        got = session.run(None, {"ecg": ecg.numpy()})
        worst = max(float(np.abs(a - b).max()) for a, b in zip(wanted, got, strict=True))
        if not worst <= TOLERANCE:
            raise CheckpointError(
                f"export: wanted the graph's outputs within {TOLERANCE} of torch's, got a difference of {worst:.2g} "
                f"for a batch of {batch}; use the checkpoint with torch"
            )
