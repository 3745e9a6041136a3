"""Measurements as they are sent and shown: each with its normal range."""

from typing import Any

from hubert_ecg.ecg.measure import Measurements, normal_range
from serve.schemas import MeasurementOut

MEASURED = ("heart_rate", "pr", "qrs", "qt", "qtc_bazett", "qtc_fridericia", "axis")


def measured(measurements: Measurements, sex: str | None) -> list[MeasurementOut]:
    """In the order of `MEASURED`; the sex decides about the upper limit of QTc."""
    found: list[MeasurementOut] = []
    for name in MEASURED:
        measurement: Any = getattr(measurements, name)
        low, high = normal_range(name, sex)
        found.append(
            MeasurementOut(
                name=name,
                value=measurement.value,
                unit=measurement.unit,
                normal_low=low,
                normal_high=high,
                leads=list(measurement.leads),
                reason=measurement.reason,
            )
        )
    return found
