"""Codebooks on disk: `codebook.safetensors` (arrays) and `codebook.json` (everything else), no pickles."""

from safetensors.numpy import load, save

from hubert_ecg.clustering.codebook import Codebook
from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import files

ARRAYS = "codebook.safetensors"
DESCRIPTION = "codebook.json"


def save_codebook(directory: str, codebook: Codebook) -> None:
    """Write both files; the description last, so that a half-written codebook is not found."""
    arrays, description = codebook.to_storage()
    files.write_bytes(files.join(directory, ARRAYS), save(arrays))
    files.write_json(files.join(directory, DESCRIPTION), description)


def load_codebook(directory: str) -> Codebook:
    """ArtifactError when there is no codebook in the directory."""
    path = files.join(files.absolute(directory), DESCRIPTION)
    if not files.exists(path):
        raise ArtifactError(
            f"{directory}: wanted a codebook ({DESCRIPTION}), got none there; name one of the folders that "
            f"jobs.cluster wrote, such as K/k100"
        )
    arrays = load(files.read_bytes(files.join(files.absolute(directory), ARRAYS)))
    return Codebook.from_storage(arrays, files.read_json(path))
