"""Torch on the ranks of Ray Train, whose processes take SIGTERM as a request to save first."""

from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

from hubert_ecg.pipeline.stopping import take_sigterm_as_a_request


class StoppableTorchConfig(TorchConfig):
    """As its base; Ray pickles it, so that it cannot be made inside a function that imports Ray."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _StoppableTorch


class _StoppableTorch(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(take_sigterm_as_a_request)
