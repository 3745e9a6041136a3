"""A setting of the chosen source may be given without the source's name."""

import pytest

from jobs.prepare import spelled_out


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("--source manifest --train A --val B", "--source manifest --manifest.train A --manifest.val B"),
        ("--source=manifest --label_start_index=4", "--source=manifest --manifest.label_start_index=4"),
        ("--source ptbxl --rate_hz 100 --shard_size 8", "--source ptbxl --ptbxl.rate_hz 100 --shard_size 8"),
        ("--simulator.seed 3", "--simulated.simulator.seed 3"),
        ("--source ptbxl --ptbxl.rate_hz 100", "--source ptbxl --ptbxl.rate_hz 100"),
        ("--source ptbxl --no_such_flag 1", "--source ptbxl --no_such_flag 1"),
        ("--source ptbxl --input --train", "--source ptbxl --input --train"),
        ("--source nowhere --rate_hz 100", "--source nowhere --rate_hz 100"),
    ],
)
def test_source_settings_are_spelled_out(given: str, wanted: str) -> None:
    assert spelled_out(given.split()) == wanted.split()
