"""Reading pickled checkpoints: nothing that a file names is ever run, looked up or imported."""

import io
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hubert_ecg.errors import CheckpointError
from hubert_ecg.storage.checkpoint import load_checkpoint
from hubert_ecg.storage.legacy import read_legacy


class ToyConfig:
    """Stands for the original's configuration class, which is not there when a checkpoint is read."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.args


def written(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def checkpoint(**more: Any) -> dict[str, Any]:
    weights = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(2, dtype=torch.float16))
    return {"model_config": ToyConfig(hidden_size=8, conv_dim=(1, 2)), "model_state_dict": weights} | more


def test_configuration_weights_and_numbers_come_as_plain_data() -> None:
    extras = {"global_step": 7, "best": 0.5, "sizes": [3, 4], "infinite": float("inf"), "linear": True}
    result = read_legacy(written(checkpoint(**extras, auroc=np.float64(0.5), optimizer={"state": {}})), "x.pt")
    assert result.config == {"hidden_size": 8, "conv_dim": (1, 2)}
    assert set(result.weights) == {"a", "b"}
    assert torch.equal(result.weights["a"], torch.arange(6.0).reshape(2, 3))
    assert result.weights["b"].dtype == torch.float16
    assert result.extras == {"global_step": 7, "best": 0.5, "sizes": [3, 4], "linear": True}


def test_views_parameters_and_shared_storages() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    weights = {"column": base[:, 1], "rows": base[1:], "parameter": torch.nn.Parameter(base.T), "empty": base[:0]}
    result = read_legacy(written(checkpoint(model_state_dict=weights)), "x.pt").weights
    for name, tensor in weights.items():
        assert torch.equal(result[name], tensor.detach())
    result["rows"][0] = -1
    assert result["column"].tolist() == [1.0, 5.0, 9.0]


@pytest.mark.parametrize("where", ["model_config", "model_state_dict", "optimizer_state_dict", "weight"])
def test_a_planted_command_is_refused_and_not_run(tmp_path: Path, where: str) -> None:
    mark = tmp_path / "it ran"
    bomb = Call(os.system, f'touch "{mark}"')
    content = checkpoint()
    if where == "weight":
        content["model_state_dict"]["a"] = bomb
    else:
        content[where] = bomb
    path = tmp_path / "bad.pt"
    path.write_bytes(written(content))
    with pytest.raises(CheckpointError, match=r"bad\.pt: refused, because it names \w+\.system"):
        load_checkpoint(path)
    assert not mark.exists()
    # The trap itself works: the ordinary unpickler falls into it.
    pickle.loads(pickle.dumps(bomb))  # noqa: S301
    assert mark.exists()


@pytest.mark.parametrize(
    "function",
    [eval, exec, getattr, __import__, open, torch.load, torch.hub.load, np.load, pickle.loads, type, object],
    ids=lambda f: f.__name__,
)
def test_every_other_name_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(CheckpointError, match="refused"):
        read_legacy(written(checkpoint(extra=Call(function, "x"))), "x.pt")


def test_nothing_is_imported() -> None:
    assert "antigravity" not in sys.modules
    data = archive(b"\x80\x02cantigravity\nfly\n.")
    with pytest.raises(CheckpointError, match=r"refused, because it names antigravity\.fly"):
        read_legacy(data, "x.pt")
    with pytest.raises(CheckpointError, match="wanted entries"):
        read_legacy(archive(b"\x80\x02cantigravity\nPlaneConfig\n."), "x.pt")
    assert "antigravity" not in sys.modules


def test_a_file_cannot_change_what_the_next_one_gets() -> None:
    # BUILD with a slot state sets attributes on whatever lies on the stack, here on what stands for the names.
    for name in (b"torch._utils\n_rebuild_tensor_v2", b"x\nToyConfig", b"collections\nOrderedDict"):
        attack = b"\x80\x02c" + name + b"\nN}X\x08\x00\x00\x00__init__K\x01s\x86b."
        with pytest.raises(CheckpointError):
            read_legacy(archive(attack), "x.pt")
        assert read_legacy(written(checkpoint()), "x.pt").config == {"hidden_size": 8, "conv_dim": (1, 2)}


def archive(program: bytes, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as target:
        target.writestr("archive/data.pkl", program)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "zip archive"),
        (b"not a checkpoint at all", "zip archive"),
        (pickle.dumps({"model_config": {}}), "zip archive"),
        (archive(b"\x80\x02}."), "wanted entries model_config and model_state_dict"),
        (archive(b"\x80\x02"), "cannot be read"),
        (archive(b""), "cannot be read"),
        (archive(b"\x80\x02}." * 1000, compression=zipfile.ZIP_DEFLATED), "compressed"),
    ],
)
def test_other_and_damaged_files(data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_legacy(data, "x.pt")


def test_a_small_file_cannot_ask_for_much_memory() -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_legacy(written(checkpoint(model_state_dict={"a": torch.zeros(1).expand(1 << 40)})), "x.pt")


def test_truncated_and_flipped_files_end_in_one_kind_of_error() -> None:
    data = written(checkpoint())
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for position in generator.integers(0, len(data), 4):
            damaged[position] ^= 1 << int(generator.integers(8))
        cut = int(generator.integers(len(data) // 2, len(data) + 1))
        try:
            read_legacy(bytes(damaged[:cut]), "x.pt")
        except CheckpointError:
            refused += 1
    assert refused > 100
