"""What is wrong with flags and settings files is said in a line."""

from pathlib import Path

import pytest

from hubert_ecg.errors import ConfigError
from serve.__main__ import read_config, settings_of


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"caf\xe9: 1", b"applications:\n- name: x\n  args:\n", b"[]"])
def test_what_is_no_settings_file(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "config.yaml"
    place.write_bytes(content)
    with pytest.raises(ConfigError, match="wanted a Serve configuration"):
        read_config(place)


def test_a_value_that_is_no_yaml() -> None:
    config = {"applications": [{"args": {"checkpoints": {"c": "/c"}}}]}
    with pytest.raises(ConfigError, match=r"--set num_crops: wanted a value as in YAML, got \["):
        settings_of(config, [], ["num_crops=["])
