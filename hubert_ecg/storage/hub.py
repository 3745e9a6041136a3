"""Checkpoints of the Hugging Face hub: `owner/name` or `owner/name@revision`, downloaded once and then kept."""

import re
from pathlib import Path

from hubert_ecg.errors import CheckpointError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_FILES = ["config.json", "model.safetensors", "checkpoint.json"]


def is_hub_id(place: str) -> bool:
    """Whether this can only be meant for the hub: it has the form of a hub id, and no such path is here."""
    return _HUB_ID.fullmatch(place) is not None and not Path(place).exists() and not Path(place).parent.is_dir()


def download(place: str) -> tuple[str, dict[str, str]]:
    """The local directory of a hub checkpoint, and where it comes from: hub id and commit.

    Uses huggingface_hub's cache, token and endpoint. Raises CheckpointError when it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = place.partition("@")
    try:
        directory = snapshot_download(name, revision=revision or None, allow_patterns=_FILES)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{place}: wanted a checkpoint, got no such path here and no such model of the Hugging Face hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); check the path, or the "
            f"name, the revision and the connection"
        ) from error
    return directory, {"hub_id": name, "commit": Path(directory).name}
