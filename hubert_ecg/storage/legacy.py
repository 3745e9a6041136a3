"""The original project's `.pt` checkpoints: pickles, read without running anything that they name.

A pickle is a program that may call whatever it can name. This reader looks no name up: it knows the few that such a
checkpoint needs, gives harmless stand-ins for them, and refuses the file at the first other name. Nothing is imported.
The configuration object becomes a dictionary.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from hubert_ecg.errors import CheckpointError

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DTYPE_NAMES = {str(dtype).removeprefix("torch.") for dtype in _DTYPES.values()}
_INERT = {
    # Numbers that trainers keep beside the weights (best scores, random states) and nothing here reads.
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@dataclass(frozen=True, kw_only=True)
class LegacyCheckpoint:
    """What a `.pt` file holds, as plain data."""

    config: dict[str, Any]
    """Attributes of the pickled configuration object."""
    weights: dict[str, torch.Tensor]
    """Weight name -> tensor on the CPU, names as they are in the file."""
    extras: dict[str, Any]
    """The other entries that are finite numbers, strings, truth values or lists of integers."""


def read_legacy(data: bytes, name: str) -> LegacyCheckpoint:
    """Read the bytes of a `.pt` file; `name` is for messages.

    Raises CheckpointError when it is no such file, is damaged, or names anything that a checkpoint has no need of.
    """
    try:
        content = _unpickle(data, name)
    except CheckpointError:
        raise
    except Exception as error:  # A damaged pickle can fail in any way; whatever it is, the file is what is wrong.
        raise CheckpointError(
            f"{name}: wanted a checkpoint of the original project, got a file that cannot be read "
            f"({type(error).__name__}: {error}); download it again"
        ) from error
    config = content.get("model_config") if isinstance(content, dict) else None
    weights = content.get("model_state_dict") if isinstance(content, dict) else None
    if isinstance(config, _PlainObject):
        config = config.attributes()
    if not isinstance(config, dict) or not isinstance(weights, dict):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{name}: wanted entries model_config and model_state_dict, got {found}")
    not_tensors = [str(key) for key, value in weights.items() if not isinstance(value, torch.Tensor)]
    if not_tensors:
        raise CheckpointError(f"{name}: wanted tensors in model_state_dict, got something else: {not_tensors[:8]}")
    extras = {
        key: value
        for key, value in content.items()
        if isinstance(value, int | str)
        or (isinstance(value, float) and math.isfinite(value))
        or (isinstance(value, list) and all(isinstance(v, int) for v in value))
    }
    return LegacyCheckpoint(config=config, weights=dict(weights), extras=extras)


class _PlainObject:
    """Base of the stand-ins for objects: takes any arguments and state, and does nothing with them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.__dict__["state"] = state

    def attributes(self) -> dict[str, Any]:
        """The pickled attributes, if they came as a dictionary of names."""
        state = self.__dict__.get("state")
        return dict(state) if isinstance(state, dict) else {}


class _Unpickler(pickle.Unpickler):
    """Resolves names by its own table, never by import."""

    STANDARD: ClassVar[set[tuple[str, str]]] = {("collections", "OrderedDict")}

    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, root: str, name: str) -> None:
        super().__init__(file)
        self._archive, self._root, self._name = archive, root, name
        self._storages: dict[str, torch.Tensor] = {}
        # Made for each file, so that no pickle can leave a mark on what the next one gets.
        self._object = type("PlainObject", (_PlainObject,), {})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.STANDARD:
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _StorageType(_DTYPES[name])
        if module == "torch" and name in _DTYPE_NAMES:
            return name
        if module == "torch" and name == "Size":
            return tuple
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _fresh(_rebuild_tensor if name == "_rebuild_tensor_v2" else _rebuild_parameter)
        if name.endswith("Config") or (module, name) in _INERT:
            return self._object
        raise CheckpointError(
            f"{self._name}: refused, because it names {module}.{name}, which no checkpoint needs and which could run "
            f"code; nothing was run. Get the file from a source you trust"
        )

    def persistent_load(self, pid: Any) -> torch.Tensor:
        kind, storage_type, key, _location, count = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise CheckpointError(f"{self._name}: wanted tensor storages, got {kind!r}; download it again")
        if key not in self._storages:
            dtype = storage_type.dtype
            raw = bytearray(self._archive.read(f"{self._root}data/{key}"))
            storage = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            if len(storage) != count:
                raise CheckpointError(f"{self._name}: storage {key}: wanted {count} numbers, got {len(storage)}")
            self._storages[key] = storage
        return self._storages[key]


@dataclass(frozen=True)
class _StorageType:
    """Stands in for torch's storage classes, which say the type of the numbers."""

    dtype: torch.dtype


def _unpickle(data: bytes, name: str) -> Any:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise CheckpointError(
            f"{name}: wanted a checkpoint written by torch.save (a zip archive), got something else; check the path"
        )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # torch stores without compression; a compressed member could unpack to far more than the file's own size.
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise CheckpointError(f"{name}: wanted an archive as torch.save writes it, got a compressed one")
        pickles = [member for member in archive.namelist() if member.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise CheckpointError(f"{name}: wanted one data.pkl in the archive, got {len(pickles)}; check the path")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise CheckpointError(f"{name}: wanted little-endian numbers, got a file from a big-endian machine")
        return _Unpickler(io.BytesIO(archive.read(pickles[0])), archive, root, name).load()


def _rebuild_tensor(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    if math.prod(size) > len(storage):  # Overlapping strides would let a small file ask for any amount of memory.
        raise ValueError(f"a tensor of shape {size} in a storage of {len(storage)} numbers")
    return torch.as_strided(storage, size, stride, offset).clone()


def _rebuild_parameter(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
    return tensor


def _fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """A new callable for each look-up: a pickle may set attributes on what it is given."""
    return lambda *args: function(*args)
