"""Recipes: every one parses into real settings, says what it is for, and refuses what it does not know."""

from pathlib import Path

import pytest

from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.finetune import FinetuneConfig
from hubert_ecg.pipeline.prepare import PrepareConfig
from jobs.recipe import _stage, read_recipe

CONFIGS = Path(__file__).resolve().parents[2] / "jobs" / "configs"
RECIPES = sorted(CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_and_opens_with_what_it_is(path: Path) -> None:
    variables = {} if path.stem == "demo" else {"input": "/data/archive"}
    stages = read_recipe(path, variables)
    assert len(stages) >= 4
    for verb, arguments in stages:
        _, config = _stage(verb, arguments)
        assert not any("$" in str(value) for value in vars(config).values())
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("Expected result", "ardware", "uration", "Command: "):
        assert any(word in line for line in head), word


def test_variables_are_filled_in() -> None:
    values = {"input": "/x", "out": "/y", "val_fold": "9", "test_fold": "10", "tag": "null"}
    stages = read_recipe(CONFIGS / "ptbxl_superclass.yaml", values)
    assert _stage(*stages[-1])[1].tag is None
    prepare: PrepareConfig = _stage(*stages[0])[1]
    assert (prepare.input, prepare.output, prepare.ptbxl.val_fold) == ("/x", "/y/waveforms", 9)
    pretrained, scratch = (_stage(*stage)[1] for stage in stages if stage[0] == "finetune")
    assert isinstance(pretrained, FinetuneConfig)
    assert (pretrained.checkpoint, scratch.checkpoint) == ("/y/pretrained", None)
    same = {"steps", "batch_size", "optimiser", "head", "seed", "train_conv_stem", "label_set"} - {"train_conv_stem"}
    assert {name: getattr(pretrained, name) for name in same} == {name: getattr(scratch, name) for name in same}


def test_what_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"add input=\.\.\. to the command"):
        read_recipe(CONFIGS / "ptbxl_superclass.yaml", {})
    with pytest.raises(ConfigError, match="has no variable fold; its variables are input, out"):
        read_recipe(CONFIGS / "ptbxl_superclass.yaml", {"input": "/x", "fold": "3"})
    (tmp_path / "bad.yaml").write_text("stages_: []")
    with pytest.raises(ConfigError, match="wanted a recipe with `stages`"):
        read_recipe(tmp_path / "bad.yaml", {})
