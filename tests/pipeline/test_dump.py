"""dump: which recordings are taken, what a row is, padding, features that are not numbers."""

from pathlib import Path

import numpy as np
import pytest
from waveform_tables import Row, exploding_checkpoint, noise, noisy_rows, write_waveforms

from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.ecg.preprocess import PreprocessConfig, attention_mask, model_input, token_mask
from hubert_ecg.errors import ArtifactError, ConfigError, InputError
from hubert_ecg.pipeline.dump import DumpConfig, dump
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest

pytestmark = pytest.mark.usefixtures("ray_cluster")

PREPROCESS = PreprocessConfig()


def dumped(manifest: Manifest) -> tuple[list[str], np.ndarray, np.ndarray, list[list[bool] | None]]:
    """(record ids, crop starts, features [row, token, dim], token masks) of a whole feature table."""
    parts = [files.read_table(manifest.part(part)) for part in range(manifest.parts)]
    ids = [name for part in parts for name in part["record_id"].to_pylist()]
    starts = np.concatenate([part["crop_start_s"].to_numpy() for part in parts])
    features = np.concatenate([tables.stack_rows(part["features"]) for part in parts if part.num_rows])
    masks = [mask for part in parts for mask in part["token_mask"].to_pylist()]
    return ids, starts, features.reshape(len(ids), 93, -1), masks


@pytest.mark.parametrize("descriptor", ["time_frequency", "mfcc", "mixed"])
def test_rows_are_the_descriptor_of_each_crop_in_order(tmp_path: Path, descriptor: str) -> None:
    """Recordings of three lengths: 12 s has three of the declared crops, 10 s too, 6 s only the first."""
    lengths = [1000, 600, 1200, 1000, 600]
    rows = [Row(record_id=f"r{i}", counts=noise(i, length)) for i, length in enumerate(lengths)]
    waveforms = write_waveforms(str(tmp_path / "w"), rows)
    starts = (0.0, 2.5, 5.0)
    config = DumpConfig(
        waveforms=waveforms.directory,
        descriptor=descriptor,  # type: ignore[arg-type]
        crop_starts_s=starts,
        batch_size=7,
        output=str(tmp_path / "f"),
    )
    ids, got_starts, features, masks = dumped(dump(config))
    wanted = [(row, start) for row in rows for start in starts if start + 5 <= row.counts.shape[1] / 100]
    assert len(wanted) == 3 * 3 + 2
    assert [(name, start) for name, start in zip(ids, got_starts, strict=True)] == [
        (row.record_id, start) for row, start in wanted
    ]
    describe = DescriptorConfig(name=descriptor)  # type: ignore[arg-type]
    expected = np.stack(
        [describe.compute(model_input(row.counts, start, PREPROCESS)[None])[0] for row, start in wanted]
    )
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-3)
    assert masks == [None] * len(wanted)


@pytest.mark.parametrize("shards", [2, 7])
def test_what_is_dumped_does_not_depend_on_the_number_of_shards(tmp_path: Path, shards: int) -> None:
    rows = noisy_rows(40)
    picked = {"split": "all", "start_fraction": 0.2, "end_fraction": 0.9, "sample_fraction": 0.5, "seed": 3}
    results = []
    for count in (1, shards):
        waveforms = write_waveforms(str(tmp_path / f"w{count}"), rows, shards=count)
        config = DumpConfig(waveforms=waveforms.directory, output=str(tmp_path / f"f{count}"), **picked)  # type: ignore[arg-type]
        results.append(dumped(dump(config)))
    one, other = results
    assert one[0] == other[0]
    assert 5 < len(one[0]) < 25  # half of 28
    np.testing.assert_allclose(one[2], other[2], rtol=1e-4, atol=1e-3)


def test_spans_that_meet_share_no_recording_and_miss_none(tmp_path: Path) -> None:
    rows = noisy_rows(20)
    waveforms = write_waveforms(str(tmp_path / "w"), rows, shards=3)
    spans = [(0.0, 0.3), (0.3, 0.31), (0.31, 1.0)]
    got = []
    for number, (start, end) in enumerate(spans):
        where = {"waveforms": waveforms.directory, "output": str(tmp_path / f"f{number}")}
        config = DumpConfig(**where, start_fraction=start, end_fraction=end)  # type: ignore[arg-type]
        if number == 1:  # from the fourth of 14 training recordings to before the fourth
            with pytest.raises(
                InputError, match="wanted at least one recording, got none of split train: 0 were drawn"
            ):
                dump(config)
            continue
        got.append(dumped(dump(config))[0])
    assert [len(ids) for ids in got] == [4, 10]
    assert got[0] + got[1] == [row.record_id for row in rows if row.split == "train"]


def test_padding_is_marked_and_changes_nothing(tmp_path: Path) -> None:
    """3 s recorded and lead II missing: other contents of what is not recorded give the same features."""
    config = PreprocessConfig(min_duration_s=3.0, missing_leads="zero")
    counts, valid = noise(1, 500), (300, 0, *[300] * 10)
    counts[1], counts[:, 300:] = 0, 0
    garbage = counts.copy()
    garbage[1], garbage[:, 300:] = noise(2, 500)[1], noise(3, 500)[:, 300:]
    rows = [
        Row(record_id="whole", counts=noise(0)),
        Row(record_id="padded", counts=counts, valid_samples=valid),
        Row(record_id="garbage", counts=garbage, valid_samples=valid),
        Row(record_id="beats", counts=noise(4), attended_s=(0.5, 1.9, 2.6, 4.0)),
    ]
    waveforms = write_waveforms(str(tmp_path / "w"), rows, preprocess=config)
    ids, _, features, masks = dumped(dump(DumpConfig(waveforms=waveforms.directory, output=str(tmp_path / "f"))))
    assert ids == ["whole", "padded", "garbage", "beats"]
    assert masks[0] is None
    expected = token_mask(attention_mask(np.array(valid), None, 0.0, config), config)
    assert masks[1] == masks[2] == expected.tolist()
    assert 0 < sum(masks[1] or []) < 93
    spans = np.array([[0.5, 1.9], [2.6, 4.0]], np.float32)
    assert masks[3] == token_mask(attention_mask(np.full(12, 1000), spans, 0.0, config), config).tolist()
    # BLAS adds up rows of a batch in an order of its own, which the last bits show.
    np.testing.assert_allclose(features[1], features[2], atol=1e-4)
    assert (features[1][~expected] == 0).all()
    assert (features[1][expected] != 0).any(axis=1).all()
    cepstral = slice(0, 13)
    unmasked = DescriptorConfig(name="mfcc").compute(model_input(rows[3].counts, 0.0, config)[None])[0]
    counted = np.array(masks[3])
    np.testing.assert_allclose(features[3][counted, cepstral], unmasked[counted, cepstral], rtol=1e-4, atol=1e-3)


def test_a_recording_whose_features_are_not_finite_is_set_aside_by_name(tmp_path: Path) -> None:
    exploding_checkpoint(tmp_path / "c")
    flat = np.zeros((12, 1000), np.int16)
    rows = [
        Row(record_id="loud", counts=noise(0)),
        Row(record_id="flat", counts=flat),
        Row(record_id="late", counts=np.concatenate([flat[:, :500], noise(1, 500)], axis=1)),
    ]
    waveforms = write_waveforms(str(tmp_path / "w"), rows)
    model = {"descriptor": "latent", "checkpoint": str(tmp_path / "c"), "layer": 0}
    config = DumpConfig(waveforms=waveforms.directory, output=str(tmp_path / "f"), crop_starts_s=(0.0, 5.0), **model)  # type: ignore[arg-type]
    manifest = dump(config)
    ids, starts, features, _ = dumped(manifest)
    assert ids == ["flat", "flat"]
    assert starts.tolist() == [0, 5]
    assert np.isfinite(features).all()
    assert manifest.facts["set_aside"] == {"not finite": 2}
    assert [entry["record_id"] for entry in manifest.facts["set_aside_recordings"]] == ["loud", "late"]
    only_bad = write_waveforms(str(tmp_path / "w2"), rows[:1])
    with pytest.raises(InputError, match="1 were drawn, 1 of them had features that are not finite"):
        dump(DumpConfig(waveforms=only_bad.directory, output=str(tmp_path / "f2"), **model))  # type: ignore[arg-type]


def test_an_empty_split_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    waveforms = write_waveforms(str(tmp_path / "w"), noisy_rows(2))
    with pytest.raises(ArtifactError, match="no recording in split val"):
        dump(DumpConfig(waveforms=waveforms.directory, split="val", output=str(tmp_path / "f")))
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"descriptor": "latent"}, "--checkpoint and --layer too"),
        ({"precision": "bfloat16"}, "belong to `latent` only"),
        ({"start_fraction": 0.5, "end_fraction": 0.5}, "wanted 0 <= start < end <= 1"),
        ({"sample_fraction": 0.0}, "wanted a share"),
        ({"crop_starts_s": (2.5,)}, "the first 0"),
        ({"batch_size": 0}, "--batch_size"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DumpConfig(waveforms="w", output="f", **settings)
