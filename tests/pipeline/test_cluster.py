"""jobs.cluster on a real Ray cluster: equal to the serial fit, over any shards, resumed, judged; what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_tables import directions, write_features, write_labels
from sklearn.metrics import (
    calinski_harabasz_score,
    davies_bouldin_score,
    mutual_info_score,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.preprocessing import Normalizer

from hubert_ecg.clustering import kmeans
from hubert_ecg.clustering.kmeans import KMeansConfig
from hubert_ecg.clustering.nearest import normalise_rows
from hubert_ecg.clustering.sums import block_sums
from hubert_ecg.errors import ArtifactError, ConfigError, InputError
from hubert_ecg.pipeline.cluster import ClusterConfig, cluster
from hubert_ecg.pipeline.kmeans_fit import advance
from hubert_ecg.pipeline.kmeans_rows import scan
from hubert_ecg.pipeline.ray_cluster import remote
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import begin, open_artifact
from hubert_ecg.storage.codebooks import load_codebook, load_states, save_states

TOKENS = 10
ROWS = directions(4200, 6, 25)
FIT = KMeansConfig(batch_size=500, max_steps=50, seeding_rows=800, n_init=2, seed=3, max_no_improvement=None)


def run(tmp_path: Path, name: str = "k", **settings: Any) -> str:
    if not (tmp_path / "f").exists():
        write_features(str(tmp_path / "f"), ROWS, tokens=TOKENS, shards=3)
    defaults: dict[str, Any] = {"features": str(tmp_path / "f"), "kmeans": FIT, "silhouette_rows": 500}
    if "evaluate" not in settings:
        defaults["num_clusters"] = [8, 20]
    return cluster(ClusterConfig(output=str(tmp_path / name), **(defaults | settings))).directory


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("shards", [1, 2, 7])
def test_the_job_equals_the_serial_fit_however_the_table_is_cut(tmp_path: Path, shards: int) -> None:
    write_features(str(tmp_path / "f"), ROWS, tokens=TOKENS, shards=shards)
    # A budget of a few batches makes several reads of the table.
    out = run(tmp_path, batches_mb=1, kmeans=replace(FIT, batch_size=2000))
    rows = normalise_rows(ROWS)
    for k in (8, 20):
        state, inertia = kmeans.fit(rows, k, replace(FIT, batch_size=2000))
        book = load_codebook(f"{out}/k{k}")
        np.testing.assert_array_equal(book.centroids, state.centroids.astype(np.float32))
        np.testing.assert_array_equal(book.counts, state.counts)
        assert book.inertia == inertia


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("settings", [{"seeding": "k-means||"}, {"max_no_improvement": 3}, {"lloyd_passes": 0}])
def test_other_settings_equal_the_serial_fit(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = replace(FIT, **settings)
    out = run(tmp_path, kmeans=config)
    for k in (8, 20):
        state, _ = kmeans.fit(normalise_rows(ROWS), k, config)
        np.testing.assert_array_equal(load_codebook(f"{out}/k{k}").centroids, state.centroids.astype(np.float32))


@pytest.mark.usefixtures("ray_cluster")
def test_standardise_takes_its_statistics_from_all_rows(tmp_path: Path) -> None:
    book = load_codebook(run(tmp_path, normalisation="standardise", num_clusters=[5]) + "/k5")
    np.testing.assert_allclose(book.mean, ROWS.mean(axis=0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(book.std, ROWS.std(axis=0, dtype=np.float64), rtol=1e-5)


@pytest.mark.usefixtures("ray_cluster")
def test_tokens_not_recorded_or_not_finite_are_left_out_and_the_latter_reported(tmp_path: Path) -> None:
    rows, recorded = ROWS.copy(), np.ones(len(ROWS), bool)
    recorded[35:40] = recorded[1200:1290] = False
    rows[~recorded] = 0
    rows[37] = np.nan  # not recorded: nobody's business
    rows[61, 2], rows[64], rows[2005, 0] = np.inf, np.nan, np.nan
    write_features(str(tmp_path / "f"), rows, tokens=TOKENS, shards=3, recorded=recorded)
    out = run(tmp_path)
    kept = recorded.copy()
    kept[[61, 64, 2005]] = False
    state, inertia = kmeans.fit(normalise_rows(rows[kept]), 8, FIT)
    book = load_codebook(f"{out}/k8")
    np.testing.assert_array_equal(book.centroids, state.centroids.astype(np.float32))
    assert book.inertia == inertia
    assert files.read_json(f"{out}/set_aside.json") == {"r6": 2, "r200": 1}
    facts = open_artifact(out).facts
    assert facts["rows"] == kept.sum()
    assert facts["set_aside"] == {"rows": 3, "recordings": 2, "first": ["r200", "r6"]}


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("saves", [1, 40, 101, 102])
def test_a_run_that_was_cut_short_goes_on_to_the_same_codebooks(tmp_path: Path, saves: int) -> None:
    """After the seeding, among the mini-batches, after them, and after the first full pass."""
    undisturbed = run(tmp_path)
    features, config = open_artifact(str(tmp_path / "f")), open_artifact(undisturbed).config
    begin(str(tmp_path / "cut"), verb="cluster", config=config, inputs={"features": features.fingerprint})
    step_by_step = advance(scan(features, "l2"), [8, 20], FIT, {}, batches_mb=1, seconds_per_task=0)
    for _, states in zip(range(saves), step_by_step, strict=False):
        save_states(str(tmp_path / "cut"), states)
    step_by_step.close()
    assert len(load_states(str(tmp_path / "cut"))) == 2
    again = run(tmp_path, "cut")
    assert open_artifact(again).fingerprint == open_artifact(undisturbed).fingerprint
    for k in ("k8", "k20"):
        one, other = load_codebook(f"{undisturbed}/{k}"), load_codebook(f"{again}/{k}")
        np.testing.assert_array_equal(one.centroids, other.centroids)
    assert files.list_names(f"{again}/state") == []


def test_states_are_kept_to_the_last_bit_and_only_the_newest(tmp_path: Path) -> None:
    state = kmeans.KMeansState.start(ROWS[:4] / 3)
    state = replace(state, step=7, smoothed_inertia=0.1 + 0.2, best_inertia=1 / 3, lloyd_passes=1)
    for step in (6, 7):
        save_states(str(tmp_path), {4: replace(state, step=step, centroids=state.centroids * step)})
    back = load_states(str(tmp_path))[4]
    np.testing.assert_array_equal(back.centroids, state.centroids * 7)
    assert (back.step, back.smoothed_inertia, back.best_inertia) == (7, state.smoothed_inertia, state.best_inertia)
    assert len(files.list_names(str(tmp_path / "state"))) == 2


@pytest.mark.usefixtures("ray_cluster")
def test_figures_equal_sklearn_on_all_rows(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    labels = [[names[r % 3]] if r % 7 else [] for r in range(len(ROWS) // TOKENS)]
    waveforms = write_labels(str(tmp_path / "w"), labels, shards=3, names=names)
    write_features(str(tmp_path / "f"), ROWS, tokens=TOKENS, shards=3, inputs={"waveforms": waveforms.fingerprint})
    out = run(tmp_path, waveforms=str(tmp_path / "w"), label_set="kind", silhouette_rows=len(ROWS))
    unit = Normalizer().fit_transform(ROWS.astype(np.float64))
    table = open_artifact(out).facts["quality"]
    assert [row["num_clusters"] for row in table] == [8, 20]
    for row in table:
        book = load_codebook(f"{out}/{row['codebook']}")
        distances = ((unit[:, None] - book.centroids[None]) ** 2).sum(-1)
        codes = distances.argmin(1)
        assert row["rows"] == len(ROWS)
        assert row["inertia"] == pytest.approx(distances.min(1).sum(), rel=1e-5)
        assert row["inertia_per_row"] == pytest.approx(distances.min(1).mean(), rel=1e-5)
        assert row["calinski_harabasz"] == pytest.approx(calinski_harabasz_score(unit, codes), rel=1e-4)
        assert row["davies_bouldin"] == pytest.approx(davies_bouldin_score(unit, codes), rel=1e-4)
        assert row["silhouette"] == pytest.approx(silhouette_score(unit, codes), rel=1e-4)
        known = np.repeat([bool(of) for of in labels], TOKENS)
        truth = np.repeat([names.index(of[0]) if of else -1 for of in labels], TOKENS)[known]
        assert row["nmi"] == pytest.approx(normalized_mutual_info_score(truth, codes[known]))
        entropy = -sum(p * np.log(p) for p in np.bincount(truth) / len(truth))
        assert row["pnmi"] == pytest.approx(mutual_info_score(truth, codes[known]) / entropy)
        commonest = [np.bincount(truth[codes[known] == c]).max() for c in np.unique(codes[known])]
        assert row["purity"] == pytest.approx(sum(commonest) / known.sum())
    lines = Path(out, "quality.csv").read_text().splitlines()
    assert len(lines) == 3
    assert "davies_bouldin" in lines[0]
    assert Path(out, "quality.png").read_bytes().startswith(b"\x89PNG")
    assert files.read_table(open_artifact(out).part(0)).num_rows == 2


@pytest.mark.usefixtures("ray_cluster")
def test_having_no_label_can_be_an_answer(tmp_path: Path) -> None:
    labels = [["a"] if r % 2 else [] for r in range(len(ROWS) // TOKENS)]
    waveforms = write_labels(str(tmp_path / "w"), labels, shards=1, names=["a"], none_is_negative=True)
    inputs = {"waveforms": waveforms.fingerprint}
    # What recordings with the label look like tells them apart from those without.
    rows = np.where(np.repeat([bool(of) for of in labels], TOKENS)[:, None], ROWS + [1000, 0, 0, 0, 0, 0], ROWS)
    write_features(str(tmp_path / "f"), rows.astype(np.float32), tokens=TOKENS, shards=1, inputs=inputs)
    out = run(tmp_path, waveforms=str(tmp_path / "w"), label_set="kind")
    assert all(row["pnmi"] > 0.8 for row in open_artifact(out).facts["quality"])


@pytest.mark.usefixtures("ray_cluster")
def test_evaluate_judges_codebooks_on_other_rows_and_fits_nothing(tmp_path: Path) -> None:
    """Codebooks of two layers, each on the table of its layer."""
    for layer in (3, 7):
        described = {"name": "latent", "layer": layer}
        inputs = {"waveforms": "w", "checkpoint": "c0ffee"}
        for name, seed in (("train", 0), ("test", layer)):
            rows = directions(2000, 6, 25, seed=seed) if name == "test" else ROWS
            path = str(tmp_path / f"{name}{layer}")
            write_features(path, rows, tokens=TOKENS, shards=2, descriptor=described, inputs=inputs)
        run(tmp_path, f"k{layer}", features=str(tmp_path / f"train{layer}"))
    before = {path: path.read_bytes() for path in tmp_path.glob("k*/k*/*")}
    tables = [str(tmp_path / f"test{layer}") for layer in (7, 3)]
    books = [str(tmp_path / "k3"), str(tmp_path / "k7" / "k8")]
    out = run(tmp_path, "judged", evaluate=books, features=tables)
    assert {path: path.read_bytes() for path in tmp_path.glob("k*/k*/*")} == before
    figures = {(row["layer"], row["num_clusters"]): row for row in open_artifact(out).facts["quality"]}
    assert set(figures) == {(3, 8), (3, 20), (7, 8)}
    for (layer, k), row in figures.items():
        book = load_codebook(str(tmp_path / f"k{layer}" / f"k{k}"))
        unit = normalise_rows(directions(2000, 6, 25, seed=layer))
        assert row["inertia"] == block_sums(unit, book.centroids).inertia(book.centroids)
    assert Path(out, "quality.png").stat().st_size > 5000
    assert run(tmp_path, "judged", evaluate=books, features=tables) == out


@pytest.mark.usefixtures("ray_cluster")
def test_a_task_keeps_numpy_to_the_cores_it_asked_for() -> None:
    import ray

    def threads() -> list[int]:
        import scipy.linalg  # noqa: F401
        from threadpoolctl import threadpool_info

        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    found = ray.get(remote(threads).remote())
    assert found
    assert set(found) == {1}


def test_codebooks_are_not_judged_on_rows_of_another_kind(tmp_path: Path, ray_cluster: None) -> None:
    book = run(tmp_path) + "/k8"
    kinds = {
        "sampling_rate_hz 100 \\(the table's is 500\\)": ({"name": "mfcc", "sampling_rate_hz": 500}, {}),
        "name mfcc \\(the table's is mixed\\)": ({"name": "mixed", "sampling_rate_hz": 100}, {}),
        "layer None \\(the table's is 4\\)": ({"name": "mfcc", "sampling_rate_hz": 100, "layer": 4}, {}),
        "checkpoint None \\(the table's is c1\\)": ({"name": "mfcc", "sampling_rate_hz": 100}, {"checkpoint": "c1"}),
    }
    for number, (said, (descriptor, inputs)) in enumerate(kinds.items()):
        table = str(tmp_path / f"f{number}")
        write_features(table, ROWS, tokens=TOKENS, shards=1, descriptor=descriptor, inputs=inputs)
        with pytest.raises(ArtifactError, match=said):
            run(tmp_path, "judged", evaluate=book, features=table)
    assert not (tmp_path / "judged").exists()


def test_what_cannot_be_fitted_is_refused(tmp_path: Path) -> None:
    """The first two before Ray starts."""
    with pytest.raises(InputError, match="at least 4201 rows for as many clusters, got 4200"):
        run(tmp_path, num_clusters=[4201], kmeans=KMeansConfig())
    assert not (tmp_path / "k").exists()
    waveforms = write_labels(str(tmp_path / "w"), [["a"]], shards=1, names=["a"])
    with pytest.raises(ArtifactError, match="name the table that the features were dumped from"):
        run(tmp_path, waveforms=waveforms.directory, label_set="kind")
    with pytest.raises(ConfigError, match=r"wanted one of \['kind'\], got 'rhythm'"):
        run(tmp_path, waveforms=waveforms.directory, label_set="rhythm")


@pytest.mark.usefixtures("ray_cluster")
def test_rows_that_are_not_finite_do_not_count_towards_the_number_of_clusters(tmp_path: Path) -> None:
    rows = ROWS[:40].copy()
    rows[:30] = np.nan
    write_features(str(tmp_path / "f"), rows, tokens=TOKENS, shards=2)
    with pytest.raises(InputError, match="at least 20 rows for as many clusters, got 10"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_clusters": None}, "got both or neither"),
        ({"start": 1, "end": 2, "step": 1}, "got both or neither"),
        ({"num_clusters": [1]}, "at least 2"),
        ({"num_clusters": [5, 5]}, "different numbers"),
        ({"num_clusters": [60_000]}, "seeding_rows: wanted at least 60000"),
        ({"features": ["a", "b"]}, "one table to fit to, got 2"),
        ({"evaluate": "K"}, "leave out --num_clusters"),
        ({"label_set": "kind"}, "wanted both"),
        ({"silhouette_rows": 0}, "silhouette_rows: wanted at least 1"),
        ({"save_interval_s": -1.0}, "wanted 0 or more"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ClusterConfig(**({"features": "F", "output": "K", "num_clusters": [100]} | settings))


def test_the_manifest_is_plain_json_without_nan(tmp_path: Path, ray_cluster: None) -> None:
    """All rows alike: most figures are undefined."""
    write_features(str(tmp_path / "f"), np.ones((200, 6), np.float32), tokens=TOKENS, shards=2)
    out = run(tmp_path)
    figures = json.loads(Path(out, "manifest.json").read_text())["facts"]["quality"]
    assert [row["davies_bouldin"] for row in figures] == [None, None]
    assert [row["perplexity"] for row in figures] == [1, 1]
