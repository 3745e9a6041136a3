"""From recordings in memory to the JSON body that asks about them, in which nothing identifies.

Sent are the samples with their rate and leads, age, sex and whether a pacemaker was active.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import ConfigError

_DECIMALS = 6
"""Of mV: a nanovolt is less than any recorder tells apart."""


def json_body(recordings: Sequence[Recording], asked: Mapping[str, Any]) -> bytes:
    """Recordings with the options of the request. Raises ConfigError for options that only files need."""
    options = {name: value for name, value in asked.items() if value is not None and name != "paced"}
    unfit = sorted({"sampling_rate_hz", "units", "leads"} & set(options))
    if unfit:
        raise ConfigError(f"{unfit[0]}: a Recording says it itself; leave the argument out")
    paced = {"paced": True} if asked.get("paced") else {}
    numbers = [as_numbers(recording) | paced for recording in recordings]
    return json.dumps({**options, "recordings": numbers}, separators=(",", ":"), allow_nan=False).encode()


def as_numbers(recording: Recording) -> dict[str, Any]:
    """The fields of one recording in a request. Ids are left out: they may name a person."""
    rows = np.round(recording.samples.astype(np.float64), _DECIMALS)
    fields: dict[str, Any] = {
        "samples": [_with_nulls(row) for row in rows],
        "sampling_rate_hz": float(recording.sampling_rate_hz),
        "leads": list(recording.lead_names),
        "units": "mV",
    }
    if recording.age_years is not None:
        fields["age_years"] = float(recording.age_years)
    if recording.sex in ("female", "male"):
        fields["sex"] = recording.sex
    return fields


def _with_nulls(row: np.ndarray) -> list[float | None]:
    values: list[float | None] = row.tolist()
    for place in np.flatnonzero(~np.isfinite(row)).tolist():
        values[place] = None
    return values
