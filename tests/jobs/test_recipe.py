"""Recipes: every one parses into real settings, says what it is for, and refuses what it does not know."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.proof.recipes import RECIPES as RECIPES_OF_PROOF
from hubert_ecg.datasets.ptbxl import _TITLES
from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.models.config import SIZES
from hubert_ecg.pipeline.finetune import FinetuneConfig
from hubert_ecg.pipeline.prepare import PrepareConfig
from hubert_ecg.predictor import CropConfig
from hubert_ecg.training.auxiliary import AuxiliaryConfig
from jobs.recipe import _stage, check_wanted, read_recipe, variables_of
from tests.training.padded import write_waveforms

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


EACH = """
variables: {out: /y, sizes: [tiny], seeds: [0, 1], checkpoints: []}
stages:
  - each: {size: sizes, seed: seeds}
    stages:
      - finetune: {waveforms: W, label_set: rhythm, size: "${size}", seed: "${seed}", output: "${out}/${size}${seed}"}
  - each: {checkpoint: checkpoints, head: [linear, mlp]}
    stages:
      - finetune: {waveforms: W, label_set: rhythm, checkpoint: "${checkpoint}", head: "${head}", output: "${out}/c"}
"""


def test_stages_come_once_per_combination(tmp_path: Path) -> None:
    (tmp_path / "each.yaml").write_text(EACH)
    made = [_stage(*stage)[1] for stage in read_recipe(tmp_path / "each.yaml", {})]
    assert [(c.output, c.size, c.seed) for c in made] == [("/y/tiny0", "tiny", 0), ("/y/tiny1", "tiny", 1)]
    replaced = {"sizes": "small,base", "seeds": "7", "checkpoints": "/c"}
    made = [_stage(*stage)[1] for stage in read_recipe(tmp_path / "each.yaml", replaced)]
    assert [c.output for c in made] == ["/y/small7", "/y/base7", "/y/c", "/y/c"]
    assert [(c.checkpoint, c.head) for c in made[2:]] == [("/c", "linear"), ("/c", "mlp")]
    assert read_recipe(tmp_path / "each.yaml", {"seeds": ""}) == []


@pytest.mark.parametrize(
    ("each", "said"), [("{seed: out}", "out is no list"), ("{seed: none}", "'none'"), ("seeds", "no attribute")]
)
def test_lists_that_are_none_are_named(tmp_path: Path, each: str, said: str) -> None:
    (tmp_path / "each.yaml").write_text(EACH.replace("{size: sizes, seed: seeds}", each))
    with pytest.raises(ConfigError, match=said):
        read_recipe(tmp_path / "each.yaml", {})


def test_a_split_or_tag_that_a_later_stage_would_miss_is_named_before_anything_trains(tmp_path: Path) -> None:
    """Whole PTB-XL carries no tags, and a recipe that judges on one would find out only after its trainings."""
    waveforms = str(tmp_path / "w")
    write_waveforms(tmp_path / "w", splits=("train", "val", "train"))
    stages = [
        ("dump", ["--waveforms", waveforms, "--output", "f", "--split", "all"]),
        ("calibrate", ["--waveforms", waveforms, "--output", "c", "--checkpoint", "m", "--label_set", "x"]),
        ("evaluate", ["--waveforms", "others", "--output", "e", "--checkpoint", "m", "--label_set", "x"]),
    ]
    later = [(verb, _stage(verb, arguments)[1]) for verb, arguments in stages]
    check_wanted(waveforms, later)
    of_test = _stage("evaluate", [*stages[2][1][2:], "--waveforms", waveforms])[1]
    with pytest.raises(InputError, match=r"wanted recordings with split test for a later stage, evaluate, got none"):
        check_wanted(waveforms, [*later, ("evaluate", of_test)])
    with pytest.raises(InputError, match=r"with tag natural for a later stage, calibrate, got none \(tags: \{\}\)"):
        check_wanted(waveforms, [("calibrate", replace(later[1][1], tag="natural"))])


def test_words_that_are_no_variables_are_named() -> None:
    assert variables_of(["a=1", "b=c=d"]) == {"a": "1", "b": "c=d"}
    with pytest.raises(ConfigError, match="wanted name=value, got seeds"):
        variables_of(["a=1", "seeds"])


LABEL_SETS = set(_TITLES) - {"conditions"}
"""The six of PTB-XL's own benchmark."""


def test_the_ptbxl_benchmark_keeps_the_test_fold_for_the_evaluations() -> None:
    given = {"input": "/x", "out": "/y", "published": "/p", "seeds": "3"}
    stages = [(verb, _stage(verb, flags)[1]) for verb, flags in read_recipe(CONFIGS / "ptbxl_benchmark.yaml", given)]
    of_verb = {wanted: [config for verb, config in stages if verb == wanted] for wanted, _ in stages}
    for prepared in of_verb["prepare"]:
        assert (prepared.ptbxl.val_fold, prepared.ptbxl.test_fold) == (8, 9)
    assert [config.split for config in of_verb["dump"]] == ["train"]
    assert {config.split for config in of_verb["calibrate"]} == {"val"}
    assert {config.split for config in of_verb["evaluate"]} == {"test"}
    assert {(config.label_set, config.seed) for config in of_verb["finetune"]} == {
        (label_set, 3) for label_set in LABEL_SETS
    }
    assert len(of_verb["finetune"]) == len(of_verb["calibrate"]) == len(of_verb["evaluate"]) == 6 * 3
    assert len({config.output for _, config in stages}) == len(stages)
    tuned, calibrated, judged = (of_verb[verb] for verb in ("finetune", "calibrate", "evaluate"))
    assert {config.checkpoint for config in calibrated} == {config.output for config in tuned}
    assert {config.checkpoint for config in judged} == {config.output for config in calibrated}
    assert {config.checkpoint for config in tuned} == {None, "/y/pretrained", "/p"}
    assert {config.waveforms for config in tuned if config.checkpoint == "/p"} == {"/y/waveforms_published"}


def test_the_ptbxl_benchmark_goes_without_a_published_checkpoint() -> None:
    stages = read_recipe(CONFIGS / "ptbxl_benchmark.yaml", {"input": "/x", "label_sets": "form"})
    assert [verb for verb, _ in stages] == [
        *("prepare", "dump", "cluster", "label", "pretrain", "finetune", "finetune"),
        *("calibrate", "evaluate", "calibrate", "evaluate", "compare"),
    ]


def test_the_first_label_set_of_the_benchmark_is_tuned_as_in_the_recipe_whose_result_it_quotes() -> None:
    one = read_recipe(CONFIGS / "ptbxl_superclass.yaml", {"input": "/x"})
    many = read_recipe(CONFIGS / "ptbxl_benchmark.yaml", {"input": "/x", "label_sets": "superclass"})
    places = {"output", "waveforms", "checkpoint", "labels"}
    for verb in ("dump", "pretrain", "finetune"):
        settings = [
            sorted(
                str({k: v for k, v in vars(_stage(v, flags)[1]).items() if k not in places})
                for v, flags in stages
                if v == verb
            )
            for stages in (one, many)
        ]
        assert settings[0] == settings[1], verb


def test_the_residual_recipe_is_that_of_the_benchmark() -> None:
    """As far as both have the same settings; the test fold is for the evaluation alone."""
    made = read_recipe(CONFIGS / "ptbxl_residual.yaml", {"input": "/x", "out": "/y"})
    prepared, tuned, calibrated, judged = (_stage(verb, flags)[1] for verb, flags in made)
    wanted = RECIPES_OF_PROOF["resnet_auxiliary_augment"]
    found = tuned.augment
    assert (found.mixup, found.rotation_deg, found.recording_gain, found.lead_dropout, found.gain, found.noise) == (
        *(wanted.augmentation.mixup, wanted.augmentation.rotation_deg, wanted.augmentation.gain),
        *(wanted.augmentation.lead_dropout, 0, wanted.augmentation.noise_mv),
    )
    assert (tuned.optimiser.lr, tuned.optimiser.weight_decay) == (wanted.lr, wanted.weight_decay)
    assert (tuned.epochs, tuned.batch_size, prepared.crop_s) == (wanted.epochs, wanted.batch_size, wanted.crop_s)
    assert tuned.auxiliary == AuxiliaryConfig(label_sets=("all",), demographics=True, weight=wanted.auxiliary)
    assert SIZES[tuned.size]["final_dropout"] == wanted.dropout
    assert (prepared.range_mv, prepared.ptbxl.val_fold, prepared.ptbxl.test_fold) == (5, 8, 9)
    assert (tuned.size, tuned.train_tag, calibrated.split, judged.split) == ("residual", "natural", "val", "test")
    assert (calibrated.tag, judged.tag) == ("natural", "natural")
    assert calibrated.crops == judged.crops == CropConfig(num_crops=7)
    assert (calibrated.checkpoint, judged.checkpoint) == (tuned.output, calibrated.output)
