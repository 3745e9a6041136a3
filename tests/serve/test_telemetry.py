"""Shares of positives over the latest predictions."""

from serve.telemetry import RECENT, Telemetry


def test_the_share_is_of_the_latest_predictions() -> None:
    telemetry = Telemetry()
    for turn in range(RECENT + 250):
        telemetry.predicted("m", ["A", "B"], ["A"] if turn < 500 else ["B"])
    shares = {label: telemetry.share.labels("m", label)._value.get() for label in "AB"}
    assert shares == {"A": 0.25, "B": 0.75}
