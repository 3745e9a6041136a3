"""Which training recordings give their labels, when a training is to make do with a share of them."""

import hashlib

import numpy as np

from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest


def labelled_share(
    waveforms: Manifest, selected: tuple[np.ndarray, ...], fraction: float, seed: int
) -> tuple[np.ndarray, ...]:
    """Rows per shard of whole patients, drawn with the seed until they hold `fraction` of the selected recordings.

    Patients are drawn, not recordings: labels are collected patient by patient, and two recordings of one person say
    less than those of two. The seed puts the patients in an order that depends on their ids and nothing else, and a
    share is the beginning of it. So a smaller share of one seed lies within every larger one, however the table is cut
    into shards. A recording without patient id is a patient of its own. At least one patient is drawn.
    """
    if fraction == 1:
        return selected
    owners = [_owners(waveforms, part, rows) for part, rows in enumerate(selected)]
    recordings: dict[str, int] = {}
    for owner in (owner for of_shard in owners for owner in of_shard):
        recordings[owner] = recordings.get(owner, 0) + 1
    wanted = max(1, round(fraction * sum(recordings.values())))
    drawn: set[str] = set()
    taken = 0
    for owner in sorted(recordings, key=lambda owner: _draw(owner, seed)):
        if taken >= wanted:
            break
        drawn.add(owner)
        taken += recordings[owner]
    return tuple(
        rows[np.array([owner in drawn for owner in of_shard], bool)]
        for rows, of_shard in zip(selected, owners, strict=True)
    )


def _owners(waveforms: Manifest, part: int, rows: np.ndarray) -> list[str]:
    """Per row its patient, or itself; the prefixes keep the two kinds of ids apart."""
    table = files.read_table(waveforms.part(part), ["record_id", "patient_id"]).take(rows)
    pairs = zip(table["patient_id"].to_pylist(), table["record_id"].to_pylist(), strict=True)
    return [f"recording {record}" if patient is None else f"patient {patient}" for patient, record in pairs]


def _draw(owner: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {owner}".encode(), digest_size=8).digest()
