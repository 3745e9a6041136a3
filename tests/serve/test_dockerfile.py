"""The container's steps: those of the Makefile, and they work in a folder that holds only what is copied."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from dockerfile_parse import DockerfileParser

from tests.serve.service import ROOT, free_port, save_classifier, wait_until_ready


def instructions() -> list[tuple[str, str]]:
    parser = DockerfileParser(path=str(ROOT / "Dockerfile"))
    return [(each["instruction"], each["value"]) for each in parser.structure if each["instruction"] != "COMMENT"]


def copied() -> list[str]:
    """What goes into the image, by its place in the repository."""
    return [name for verb, value in instructions() if verb == "COPY" for name in shlex.split(value)[:-1]]


def test_what_is_copied_is_there_and_holds_all_packages() -> None:
    assert all((ROOT / name).exists() for name in copied())
    assert {"hubert_ecg", "jobs", "serve", "tune_spaces", "constraints.txt", "pyproject.toml"} <= set(copied())


def test_its_commands_are_those_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    runs = [value for verb, value in instructions() if verb == "RUN" and value.startswith("make")]
    [command] = [value for verb, value in instructions() if verb == "CMD"]
    assert [shlex.split(run)[1] for run in runs] == ["install"]
    assert command == '["make", "serve"]'
    assert {"install", "serve"} <= targets


def test_it_is_sound() -> None:
    verbs = [verb for verb, _ in instructions()]
    values = dict(instructions())
    assert verbs[0] == "FROM"
    assert re.fullmatch(r"python:3\.11-slim-[a-z]+", values["FROM"])
    assert values["USER"] not in ("root", "0")
    assert verbs.index("USER") < verbs.index("CMD")
    assert "HEALTHCHECK" in verbs
    assert "ADD" not in verbs
    for verb, value in instructions():
        if verb == "RUN" and "apt-get install" in value:
            assert "--no-install-recommends" in value
            assert "rm -rf /var/lib/apt/lists" in value


@pytest.mark.slow
def test_its_steps_work_in_a_clean_folder(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    for name in copied():
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, app / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    subprocess.run(["make", "install", "PYTHON=python3.11"], cwd=app, env=environment, check=True)
    checkpoint, port = save_classifier(tmp_path / "checkpoint"), free_port()
    settings = {"CHECKPOINT": checkpoint, "HOST": "127.0.0.1", "SERVE_FLAGS": f"--port {port}"}
    process = subprocess.Popen(["make", "serve"], cwd=app, env=environment | settings)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False).json()["models"][0]["default"]
    finally:
        process.terminate()
        process.wait(120)
