"""Search spaces: all that are shipped hold real settings, a user's is found, and what is wrong is named."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.finetune import FinetuneConfig
from hubert_ecg.pipeline.search_plan import TuneConfig, draw_trials
from hubert_ecg.pipeline.search_settings import make_settings, setting_names
from hubert_ecg.pipeline.search_space import Space, find_space, known_spaces, read_space
from hubert_ecg.pipeline.search_stages import stage_runs

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "tune_spaces").glob("*.yaml"))
GIVEN: dict[str, dict[str, Any]] = {
    "finetune": {"label_set": "x", "checkpoint": "C"},
    "scratch": {"label_set": "x"},
    "pretrain": {"label_set": "x", "pretrain.labels": "L"},
    "targets": {"label_set": "x", "dump.checkpoint": "C"},
    "cluster": {"label_set": "x"},
    "cluster_probe": {"label_set": "x"},
}
"""What each shipped space has to be told; its opening lines say so."""

TEXT = """
stages: [finetune]
settings: {steps: 50}
search:
  optimiser.lr: {loguniform: [1.0e-5, 1.0e-2]}
  optimiser.weight_decay: {uniform: [0.0, 0.3, 0.1]}
  train_blocks: {randint: [0, 3]}
  what: {options: {all: {}, low rank: {lora.rank: 4}}}
"""


def space_of(text: str, folder: Path) -> Space:
    path = folder / "mine.yaml"
    path.write_text(text)
    return read_space(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_value_of_every_shipped_space_makes_real_settings(path: Path) -> None:
    space = read_space(path)
    tied = [d for d in space.with_settings(GIVEN[path.stem]).dimensions]
    first = {d.name: d.extremes()[0] for d in tied}
    for dimension in tied:
        for value in dimension.extremes():
            settings = space.with_settings(GIVEN[path.stem]).settings(first | {dimension.name: value})
            runs = stage_runs(space.stages, settings, waveforms="W", shared="S", own="O")
            assert [run.verb for run in runs] == list(space.stages)
    head = path.read_text().splitlines()
    assert head[0].startswith("# ")
    assert any(line.startswith(f"# python -m jobs.tune --space {path.stem} --waveforms W") for line in head)


def test_stages_of_a_trial_read_what_those_before_them_write() -> None:
    space = read_space(find_space("targets")).with_settings(GIVEN["targets"])
    params = {"descriptor": "layer 1", "cluster.num_clusters": "[100]"}
    dump, cluster, label, pretrain, finetune = (
        run.config
        for run in stage_runs(space.stages, space.settings(params), waveforms="W", shared="/s", own="/o/fold-0")
    )
    assert (dump.waveforms, dump.descriptor, dump.layer, dump.checkpoint) == ("W", "latent", 1, "C")
    assert cluster.features == dump.output
    assert cluster.ks == [100]
    assert label.codebooks == [f"{cluster.output}/k100"]
    assert label.checkpoint == "C"
    assert pretrain.labels == label.output
    assert (finetune.checkpoint, finetune.output) == ("/o/fold-0/pretrain", "/o/fold-0/finetune")
    other = space.settings(params | {"cluster.num_clusters": "[50]"})
    again = [run.config for run in stage_runs(space.stages, other, waveforms="W", shared="/s", own="/o")]
    # The features serve both trials; the codebooks do not.
    assert again[0].output == dump.output
    assert again[1].output != cluster.output


def test_a_misspelt_setting_is_refused_with_the_nearest_real_name(tmp_path: Path) -> None:
    cases = {
        "stages: [finetune]\nsearch: {optimizer.lr: {choice: [1]}}": "did you mean optimiser.lr",
        "stages: [finetune]\nsettings: {batchsize: 3}\nsearch: {steps: {choice: [1]}}": "did you mean batch_size",
        "stages: [finetun]\nsearch: {steps: {choice: [1]}}": "did you mean finetune",
        "stages: [dump, cluster]\nsearch: {dump.descripter: {choice: [mfcc]}}": "did you mean dump.descriptor",
        "stages: [finetune]\nsearch: {a: {options: {b: {lora.rnk: 3}}}}": "did you mean lora.rank",
        "stages: [finetune]\nsaerch: {a: 3}\nsearch: {steps: {choice: [1]}}": "did you mean search",
        "stages: [finetune]\nsearch: {output: {choice: [M]}}": "the search sets it by itself",
        "stages: [pretrain, finetune]\nsearch: {checkpoint: {choice: [C]}}": "the search sets it by itself",
        "stages: [finetune, pretrain]\nsearch: {steps: {choice: [1]}}": "in the order dump, cluster, label, pretrain",
        "stages: [finetune]\nsearch: {steps: {normal: [1, 2]}}": "wanted one of uniform, loguniform",
        "stages: [finetune]\nsearch: {optimiser.lr: {loguniform: [0, 1]}}": "low below high",
        "stages: [finetune]\nsearch: {steps: {randint: [1.5, 3]}}": "low below high, or",
    }
    for text, said in cases.items():
        with pytest.raises(ConfigError, match=said) as raised:
            space_of(text, tmp_path)
        assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match=r"wanted a file, or one of .*did you mean finetune"):
        find_space("fintune")


def test_a_users_file_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(known_spaces())
    assert before == {path.stem for path in SHIPPED}
    (tmp_path / "tune_spaces").mkdir()
    (tmp_path / "tune_spaces" / "ours.yaml").write_text(TEXT)
    assert set(known_spaces()) - before == {"ours"}
    assert read_space(find_space("ours")).fixed == {"finetune": {"steps": 50}}
    assert find_space("tune_spaces/ours.yaml") == find_space("ours")


def test_draws_lie_where_they_should_and_follow_from_the_seed(tmp_path: Path) -> None:
    space = space_of(TEXT, tmp_path)
    config = TuneConfig(space="-", output="-", waveforms="-", num_samples=600)
    drawn = draw_trials(space, config)
    assert drawn == draw_trials(space, config)
    assert {round(trial["optimiser.weight_decay"], 9) for trial in drawn} == {0.0, 0.1, 0.2, 0.3}
    assert {trial["train_blocks"] for trial in drawn} == {0, 1, 2, 3}
    assert {type(trial["train_blocks"]) for trial in drawn} == {int}
    logs = np.log10([trial["optimiser.lr"] for trial in drawn])
    assert -5 <= logs.min() < logs.max() <= -2
    # Uniform in the exponent: of 600 draws, each third has 200, give or take five standard deviations of 11.5.
    counts = np.histogram(logs, bins=[-5, -4, -3, -2])[0]
    assert np.abs(counts - 200).max() < 58
    assert space.settings(drawn[0])["finetune"]["steps"] == 50
    low_rank = next(trial for trial in drawn if trial["what"] == "low rank")
    assert space.settings(low_rank)["finetune"]["lora.rank"] == 4


def test_a_grid_is_crossed_and_refuses_ranges(tmp_path: Path) -> None:
    text = "stages: [finetune]\nsearch: {head: {choice: [linear, mlp]}, train_blocks: {grid: [0, 1, 2]}}"
    space = space_of(text, tmp_path)
    grid = draw_trials(space, TuneConfig(space="-", output="-", waveforms="-", searcher="grid"))
    assert [tuple(trial.values()) for trial in grid] == [(h, b) for h in ("linear", "mlp") for b in (0, 1, 2)]
    crossed = draw_trials(space, TuneConfig(space="-", output="-", waveforms="-", num_samples=4))
    assert [trial["train_blocks"] for trial in crossed] == [0, 1, 2] * 4
    with pytest.raises(ConfigError, match="got ranges of optimiser.lr, optimiser.weight_decay, train_blocks"):
        draw_trials(space_of(TEXT, tmp_path), TuneConfig(space="-", output="-", waveforms="-", searcher="grid"))


def test_what_the_user_fixes_is_not_searched(tmp_path: Path) -> None:
    space = space_of(TEXT, tmp_path)
    fixed = space.with_settings({"optimiser.lr": 0.5, "what": "low rank", "steps": 7})
    assert [dimension.name for dimension in fixed.dimensions] == ["optimiser.weight_decay", "train_blocks"]
    assert fixed.fixed == {"finetune": {"steps": 7, "optimiser.lr": 0.5, "lora.rank": 4}}
    with pytest.raises(ConfigError, match="'what' searches it together with others; fix that to one of"):
        space.with_settings({"lora.rank": 8})
    with pytest.raises(ConfigError, match=r"--settings what: wanted one of \['all', 'low rank'\], got 'none'"):
        space.with_settings({"what": "none"})
    with pytest.raises(ConfigError, match="did you mean label_set"):
        space.with_settings({"labelset": "x"})


def test_settings_are_made_as_a_command_line_makes_them() -> None:
    made = make_settings(
        FinetuneConfig,
        {"waveforms": "W", "output": "M", "label_set": "x", "optimiser.lr": "3e-4", "workers.cpus_each": 0.5},
        verb="finetune",
    )
    assert math.isclose(made.optimiser.lr, 3e-4)
    assert made == FinetuneConfig(
        waveforms="W", output="M", label_set="x", optimiser=made.optimiser, workers=made.workers
    )
    assert {"optimiser.lr", "lora.rank", "workers.num", "steps"} <= set(setting_names(FinetuneConfig))
    for wrong, said in (({"steps": "many"}, "value: many"), ({"optimiser.lr": -1.0}, "learning rate above 0")):
        with pytest.raises(ConfigError, match=said):
            make_settings(FinetuneConfig, {"waveforms": "W", "output": "M", "label_set": "x"} | wrong, verb="finetune")
    with pytest.raises(ConfigError, match="required: label_set"):
        make_settings(FinetuneConfig, {"waveforms": "W", "output": "M"}, verb="finetune")
