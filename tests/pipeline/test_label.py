"""label: codes against scikit-learn, ensembles, tokens without a code, and codebooks that do not belong."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import Normalizer
from waveform_tables import Row, exploding_checkpoint, noise, noisy_rows, save_model, write_waveforms

from hubert_ecg.clustering.codebook import Codebook, normalise_with
from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.ecg.preprocess import PreprocessConfig, attention_mask, model_input, token_mask
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.crops import WaveformShard
from hubert_ecg.pipeline.extract import Extractor, LatentSource, describe_descriptor, describe_latent
from hubert_ecg.pipeline.label import LabelConfig, label
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.storage.codebooks import save_codebook

pytestmark = pytest.mark.usefixtures("ray_cluster")

PREPROCESS = PreprocessConfig()
STARTS = (0.0, 2.5, 5.0)


def mfcc_book(directory: Path, num_clusters: int = 20, **overrides: object) -> Codebook:
    """A codebook whose centroids are rows of noise that no test labels."""
    describe = DescriptorConfig(name="mfcc")
    inputs = np.stack([model_input(noise(1000 + i), 0.0, PREPROCESS) for i in range(4)])
    rows = normalise_with(describe.compute(inputs).reshape(-1, describe.dim), "l2")
    chosen = np.random.default_rng(0).choice(len(rows), num_clusters, replace=False)
    made: dict = {"centroids": rows[chosen], "descriptor": describe.to_dict()} | overrides
    book = Codebook(**made)
    save_codebook(str(directory), book)
    return book


def latent_book(directory: Path, checkpoint: Path, layer: int, num_clusters: int = 6) -> Codebook:
    rows = np.random.default_rng(layer).standard_normal((num_clusters, 32)).astype(np.float32)
    book = Codebook(
        centroids=normalise_with(rows, "l2"),
        descriptor={"name": "latent", "layer": layer, "precision": "float32"},
        layer=layer,
        checkpoint_fingerprint=LatentSource.open(str(checkpoint)).fingerprint,
    )
    save_codebook(str(directory), book)
    return book


def labelled(manifest: Manifest, name: str) -> tuple[list[str], list[list[float]], list[np.ndarray]]:
    """(record ids, crop starts, codes [crop, token]) of a whole code table."""
    parts = [files.read_table(manifest.part(part)) for part in range(manifest.parts)]
    ids = [record for part in parts for record in part["record_id"].to_pylist()]
    starts = [row for part in parts for row in part["crop_starts_s"].to_pylist()]
    codes = [np.array(row, np.uint16).reshape(-1, 93) for part in parts for row in part[f"codes.{name}"].to_pylist()]
    return ids, starts, codes


def nearest_by_sklearn(rows: np.ndarray, book: Codebook) -> np.ndarray:
    """[row, dim] -> [row]: the nearest centroid in float64 after scikit-learn's Normalizer."""
    unit = Normalizer().transform(rows.astype(np.float64))
    return ((unit[:, None] - book.centroids[None].astype(np.float64)) ** 2).sum(-1).argmin(1)


@pytest.mark.parametrize("shards", [1, 3])
def test_codes_are_the_nearest_centroids_in_order(tmp_path: Path, shards: int) -> None:
    """Recordings of 10, 6, 12 and 3 s; the last is padded, and its padding has no code."""
    config = PreprocessConfig(min_duration_s=3.0)
    lengths = [1000, 600, 1200, 300, 1000]
    rows = [Row(record_id=f"r{i}", counts=noise(i, length)) for i, length in enumerate(lengths)]
    waveforms = write_waveforms(str(tmp_path / "w"), rows, shards=shards, preprocess=config)
    book = mfcc_book(tmp_path / "k20")
    manifest = label(
        LabelConfig(waveforms=waveforms.directory, codebooks=[str(tmp_path / "k20")], output=str(tmp_path / "l"))
    )
    ids, starts, codes = labelled(manifest, "k20")
    assert ids == [row.record_id for row in rows]
    assert starts == [[0, 2.5, 5], [0], [0, 2.5, 5], [0], [0, 2.5, 5]]
    describe = DescriptorConfig(name="mfcc")
    used = np.zeros(20, np.int64)
    for row, of_row, got in zip(rows, starts, codes, strict=True):
        for start, of_crop in zip(of_row, got, strict=True):
            inputs = model_input(row.counts, start, config)[None]
            mask = attention_mask(np.full((1, 12), row.counts.shape[1]), [None], start, config)
            tokens = token_mask(mask, config)
            expected = nearest_by_sklearn(describe.compute(inputs, tokens)[0], book)
            np.testing.assert_array_equal(of_crop, np.where(tokens[0], expected, tables.NO_CODE))
            used += np.bincount(expected[tokens[0]], minlength=20)
    assert (codes[3] == tables.NO_CODE).any()
    shares = used[used > 0] / used.sum()
    usage = manifest.facts["codebooks"]["k20"]["usage"]
    assert usage["used"] == (used > 0).sum()
    assert usage["perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_an_ensemble_has_the_codes_that_each_codebook_gives_alone(tmp_path: Path) -> None:
    """Two codebooks of descriptors and two of different layers, each against its own feature."""
    rows = noisy_rows(5)
    waveforms = write_waveforms(str(tmp_path / "w"), rows, shards=2)
    save_model(tmp_path / "c")
    books = {
        "k20": mfcc_book(tmp_path / "k20"),
        "k9": mfcc_book(tmp_path / "k9", num_clusters=9),
        "l0": latent_book(tmp_path / "l0", tmp_path / "c", 0),
        "l2": latent_book(tmp_path / "l2", tmp_path / "c", 2),
    }
    manifest = label(
        LabelConfig(
            waveforms=waveforms.directory,
            codebooks=[str(tmp_path / name) for name in books],
            checkpoint=str(tmp_path / "c"),
            crop_starts_s=(0.0, 5.0),
            output=str(tmp_path / "l"),
        )
    )
    shard = WaveformShard.read(write_waveforms(str(tmp_path / "one"), rows), 0, PREPROCESS)
    source = LatentSource.open(str(tmp_path / "c"))
    features = {
        "k20": describe_descriptor("mfcc", PREPROCESS),
        "k9": describe_descriptor("mfcc", PREPROCESS),
        "l0": describe_latent(source, PREPROCESS, 0, "float32"),
        "l2": describe_latent(source, PREPROCESS, 2, "float32"),
    }
    (crops,) = shard.crops((0.0, 5.0), 64)
    for name, book in books.items():
        codes = np.concatenate(labelled(manifest, name)[2]).reshape(-1)
        (of_tokens,) = Extractor([features[name]]).compute(crops)
        expected = nearest_by_sklearn(of_tokens.reshape(5 * 2 * 93, -1), book)
        assert (codes == expected).mean() > 0.999  # Latents of other batches may round a tie the other way.
    assert manifest.config["precision"] == {"l0": "float32", "l2": "float32"}


def test_a_recording_whose_features_are_not_finite_has_no_codes_and_is_named(tmp_path: Path) -> None:
    exploding_checkpoint(tmp_path / "c")
    flat = np.zeros((12, 1000), np.int16)
    rows = [Row(record_id="loud", counts=noise(0)), Row(record_id="flat", counts=flat)]
    waveforms = write_waveforms(str(tmp_path / "w"), rows)
    latent_book(tmp_path / "l0", tmp_path / "c", 0)
    manifest = label(
        LabelConfig(
            waveforms=waveforms.directory,
            codebooks=[str(tmp_path / "l0")],
            checkpoint=str(tmp_path / "c"),
            output=str(tmp_path / "l"),
        )
    )
    ids, starts, (loud, of_flat) = labelled(manifest, "l0")
    assert ids == ["loud", "flat"]
    assert starts == [list(STARTS)] * 2
    assert (loud == tables.NO_CODE).all()
    assert (of_flat < 6).all()
    assert manifest.facts["set_aside"] == {"not finite": 1}
    assert manifest.facts["set_aside_recordings"][0]["record_id"] == "loud"


def test_codebooks_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    waveforms = write_waveforms(str(tmp_path / "w"), noisy_rows(2))
    save_model(tmp_path / "c")
    save_model(tmp_path / "other", num_hidden_layers=2)
    latent_book(tmp_path / "l1", tmp_path / "c", 1)
    mfcc_book(tmp_path / "rate", descriptor=DescriptorConfig(name="mfcc", sampling_rate_hz=50).to_dict())
    mfcc_book(tmp_path / "width", descriptor=DescriptorConfig(name="mfcc", delta_width=7).to_dict())
    mfcc_book(tmp_path / "dim", descriptor=DescriptorConfig(name="mixed").to_dict())

    def refused(book: str, **settings: str) -> str:
        where = {"waveforms": waveforms.directory, "output": str(tmp_path / "l")}
        with pytest.raises((ArtifactError, ConfigError)) as caught:
            label(LabelConfig(**where, codebooks=[str(tmp_path / book)], **settings))  # type: ignore[arg-type]
        return str(caught.value)

    assert "made from layer 1 of a checkpoint; name that checkpoint" in refused("l1")
    assert "name the checkpoint that the codebook was made from" in refused("l1", checkpoint=str(tmp_path / "other"))
    assert "'sampling_rate_hz': 50" in refused("rate")
    assert "'delta_width': 7" in refused("width")
    assert "wants features of 39 columns, these waveforms give 29" in refused("dim")
    assert "wanted a codebook" in refused("missing")
    assert not (tmp_path / "l").exists()
