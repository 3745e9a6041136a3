"""The Makefile: what needs an environment makes it, and one that is half made does not pass for one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECIDES = ("pyproject.toml", "constraints.txt")


def said(folder: Path, target: str) -> str:
    """The commands that make would run."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    done = subprocess.run(
        ["make", "-n", target], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("target", ["serve", "app", "cluster-local", "demo", "fast"])
def test_an_environment_whose_installation_was_broken_off_is_installed_again(tmp_path: Path, target: str) -> None:
    """Its Python is there from the first second on."""
    for name in ("Makefile", *DECIDES):
        shutil.copy(ROOT / name, tmp_path)
    stamps = [tmp_path / ".venv" / name for name in (".installed", ".usable")]
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    assert "pip install" in said(tmp_path, target)
    for stamp in stamps:
        stamp.touch()
        os.utime(stamp, (2e9, 2e9))
    assert "pip install" not in said(tmp_path, target)
    os.utime(tmp_path / "constraints.txt", (2.1e9, 2.1e9))
    assert "pip install" in said(tmp_path, target)
