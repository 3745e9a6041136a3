"""benchmarks.capacity: the page quotes what it prints, its commands parse, and its figures follow from its numbers."""

import math
import re
import shlex
from dataclasses import replace

import pytest
import yaml

from benchmarks.capacity import BOOT_H, CROPS, SIZE, Site, interval_hours, lines, site_of, stages
from hubert_ecg.models import model_config
from hubert_ecg.models.flops import forward_flops
from hubert_ecg.pipeline.rates import SAMPLES_PER_CROP
from serve.__main__ import _flags, read_config, settings_of
from tests.job_commands import ROOT, parsed

PAGE = (ROOT / "docs" / "cluster.md").read_text()


def test_the_page_quotes_what_the_script_prints() -> None:
    assert "\n".join(lines(Site())) in PAGE, "run python -m benchmarks.capacity again and paste what it prints"


def test_its_commands_parse_and_form_a_chain() -> None:
    made: set[str] = set()
    for stage in stages(Site()):
        config = parsed(f"python -m jobs.{stage.command}")
        for role in ("waveforms", "features", "labels", "checkpoint"):
            value = getattr(config, role, None)
            assert value is None or value in made, stage.command
        for book in getattr(config, "codebooks", []):
            assert re.sub(r"/k\d+$", "", book) in made
        made.add(config.output)


def test_commands_of_the_page_parse() -> None:
    for verb, flags in re.findall(r"^python -m jobs\.submit (\w+) (.*)$", PAGE, re.M):
        parsed(f"python -m jobs.{verb} {flags}")
    for name in re.findall(r"`((?:deploy|docs|hubert_ecg|cluster\.yaml|Dockerfile)[\w/.]*)`", PAGE):
        assert (ROOT / name).exists(), name


def test_the_page_goes_on_to_a_served_model() -> None:
    """The checkpoint that is served is the one that was calibrated and judged; the flags of the service are real."""
    by_verb = {stage.command.split()[0]: parsed(f"python -m jobs.{stage.command}") for stage in stages(Site())}
    assert by_verb["evaluate"].checkpoint == by_verb["predict"].checkpoint == by_verb["calibrate"].output
    [command] = re.findall(r"^HUBERT_ECG_API_KEYS=\S+ python -m serve (.*)$", PAGE, re.M)
    flags = _flags(shlex.split(command))
    settings = settings_of(read_config(flags.config), flags.checkpoint, flags.set)
    assert settings.checkpoints == {"default": by_verb["calibrate"].output}
    manifest = yaml.safe_load((ROOT / "deploy" / "kuberay" / "rayservice.yaml").read_text())
    served = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"][0]["args"]["checkpoints"]["default"]
    assert served.rpartition("/")[2] == by_verb["calibrate"].output.rpartition("/")[2]
    assert "kubectl apply -f deploy/kuberay/rayservice.yaml" in PAGE


def test_figures_by_hand() -> None:
    site = Site(
        ecgs=1_000_000, cpu_nodes=2, cpu_vcpus=10, core_share=0.5, prepare_core_ms=3.6, cpu_price=1, head_price=1
    )
    prepare = stages(site)[0]
    # Four requests of 25 ms, eight recordings at a time: 12.5 ms each on 20 workers, where computing takes 7.2 ms.
    assert prepare.hours == pytest.approx(1_000_000 * 12.5e-3 / 20 / 3600 + BOOT_H)
    asked = 4 * 0.40 + (2 * 1_000_000 / 256 + 2000) / 1e6 * 5
    assert prepare.dollars(site) == pytest.approx(prepare.hours * 3 + asked)
    near = stages(replace(site, request_ms=1))[0]
    assert near.hours == pytest.approx(1_000_000 * 3.6e-3 / 10 / 3600 + BOOT_H)
    twice = stages(Site(gpu_nodes=4))
    for one, other in zip(stages(Site()), twice, strict=True):
        if one.on_gpus:
            alone = BOOT_H + (interval_hours(Site()) if one.name == "evaluate" else 0)
            assert math.isclose((one.hours - alone) / 2, other.hours - alone)
        else:
            assert one.hours == other.hours


def test_predictions_are_reckoned_in_the_precision_that_they_are_made_in() -> None:
    """float32, which a GPU computes several times slower than it trains."""
    site = Site(ecgs=1_000_000, gpu_nodes=1, gpus_each=1, gpu_tflops=100, gpu_float32_tflops=10)
    by_name = {stage.name: stage.hours for stage in stages(site)}
    flops = forward_flops(model_config(SIZE, 100), SAMPLES_PER_CROP)
    assert by_name["predict all"] == pytest.approx(1_000_000 * CROPS * flops / 10e12 / 3600 + BOOT_H)
    assert by_name["calibrate"] - BOOT_H == pytest.approx((by_name["predict all"] - BOOT_H) / 10)
    latents = by_name["label by latents"] - BOOT_H
    assert latents == pytest.approx((by_name["predict all"] - BOOT_H) / 10 * 9 / 12)


def test_numbers_of_the_reader_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert site_of(["--ecgs", "500", "--gpu_price", "1.5"]).gpu_price == 1.5
    with pytest.raises(SystemExit):
        site_of(["--ecgs", "0"])
    assert "--ecgs: wanted more than 0" in capsys.readouterr().err
