"""A codebook applies itself: normalisation, codes, refusals, fingerprint, and the way to storage and back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import Normalizer

from hubert_ecg.clustering import kmeans
from hubert_ecg.clustering.codebook import Codebook, normalise_with
from hubert_ecg.clustering.nearest import nearest, normalise_rows
from hubert_ecg.errors import ConfigError, InputError

DESCRIPTOR = {"name": "mfcc", "sampling_rate_hz": 100}


def _rows(num_rows: int = 600, dim: int = 8, seed: int = 0) -> np.ndarray:
    """Raw descriptor rows: columns of very different level and size, as decibels beside ratios."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((num_rows, dim)) * np.logspace(-1, 1.5, dim) + np.linspace(-30, 10, dim)).astype(
        np.float32
    )


def _codebook(num_clusters: int = 12) -> Codebook:
    rows = normalise_rows(_rows())
    state, _ = kmeans.fit(rows, num_clusters, kmeans.KMeansConfig(batch_size=200, max_steps=10))
    return Codebook(centroids=state.centroids.astype(np.float32), descriptor=DESCRIPTOR)


def test_original_fault_fitted_on_normalised_rows_but_predicted_on_raw_ones() -> None:
    rows, codebook = _rows(), _codebook()
    normalised = Normalizer().fit_transform(rows.astype(np.float64))
    distances = ((normalised[:, None] - codebook.centroids[None].astype(np.float64)) ** 2).sum(axis=-1)
    expected = distances.argmin(axis=1)
    np.testing.assert_array_equal(codebook.assign(rows), expected)
    assert (nearest(rows, codebook.centroids) != expected).mean() > 0.02, "raw rows would get other codes"


@settings(max_examples=30, deadline=None)
@given(gain=st.floats(1e-3, 1e3))
def test_l2_codes_do_not_depend_on_a_rows_length(gain: float) -> None:
    rows, codebook = _rows(50), _codebook()
    assert (codebook.assign(rows * np.float32(gain)) == codebook.assign(rows)).mean() > 0.97


def test_codes_keep_the_shape_of_the_rows() -> None:
    codebook, rows = _codebook(), _rows(60)
    codes = codebook.assign(rows.reshape(3, 4, 5, 8))
    assert (codes.shape, codes.dtype) == ((3, 4, 5), np.uint16)
    np.testing.assert_array_equal(codes.reshape(-1), codebook.assign(rows))
    same, distances = codebook.assign_with_distances(rows.reshape(12, 5, 8))
    np.testing.assert_array_equal(same.reshape(-1), codes.reshape(-1))
    expected = ((normalise_rows(rows) - codebook.centroids[codebook.assign(rows)]) ** 2).sum(axis=1)
    np.testing.assert_allclose(distances.reshape(-1), expected, atol=1e-6)
    assert codebook.assign(np.zeros((0, 8), np.float32)).shape == (0,)


def test_standardise_by_hand() -> None:
    codebook = Codebook(
        centroids=np.array([[0, 0], [2, 0]], np.float32),
        descriptor=DESCRIPTOR,
        normalisation="standardise",
        mean=np.array([10, 5], np.float32),
        std=np.array([100, 0], np.float32),
    )
    rows = np.array([[10, 5], [290, 5], [100, 5]], np.float32)
    np.testing.assert_allclose(codebook.normalise(rows), [[0, 0], [2.8, 0], [0.9, 0]], atol=1e-6)
    assert codebook.assign(rows).tolist() == [0, 1, 0]


def test_none_leaves_rows_alone() -> None:
    codebook = Codebook(centroids=np.array([[0, 0], [20, 0]], np.float32), descriptor=DESCRIPTOR, normalisation="none")
    assert codebook.assign(np.array([[9, 0], [11, 0]], np.float32)).tolist() == [0, 1]


@pytest.mark.parametrize("normalisation", ["l2", "none"])
def test_rows_that_are_not_finite_are_refused_with_their_number(normalisation: str) -> None:
    codebook = replace(_codebook(), normalisation=normalisation)  # type: ignore[arg-type]
    rows = _rows(20)
    rows[3, 1], rows[7, 0], rows[7, 4] = np.nan, np.inf, -np.inf
    with pytest.raises(InputError, match="2 of 20 rows are not finite"):
        codebook.assign(rows)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"wanted rows of 8 columns, got shape \(5, 9\)"):
        _codebook().assign(np.zeros((5, 9), np.float32))


def test_the_largest_code_fits() -> None:
    centroids = np.arange(65_535, dtype=np.float32)[:, None]
    codebook = Codebook(centroids=centroids, descriptor=DESCRIPTOR, normalisation="none")
    assert codebook.assign(np.array([[65_534.2], [70_000], [300]], np.float32)).tolist() == [65_534, 65_534, 300]
    with pytest.raises(ConfigError, match="1 to 65535 clusters"):
        Codebook(centroids=np.zeros((65_536, 1), np.float32), descriptor=DESCRIPTOR)


def test_fingerprint_follows_what_decides_codes_and_nothing_else() -> None:
    codebook = _codebook()
    assert len(codebook.fingerprint) == 16
    int(codebook.fingerprint, 16)
    changed = codebook.centroids.copy()
    changed[0, 0] = np.nextafter(changed[0, 0], 2)
    others = [
        replace(codebook, centroids=changed),
        replace(codebook, centroids=codebook.centroids[::-1].copy()),
        replace(codebook, normalisation="none"),
        replace(codebook, descriptor={**DESCRIPTOR, "sampling_rate_hz": 500}),
        replace(codebook, layer=4),
        replace(codebook, checkpoint_fingerprint="00ff"),
    ]
    assert len({codebook.fingerprint, *(other.fingerprint for other in others)}) == 7
    counted = replace(codebook, counts=np.arange(12), inertia=3.0, descriptor=dict(reversed(DESCRIPTOR.items())))
    assert counted.fingerprint == codebook.fingerprint


def test_storage_there_and_back() -> None:
    codebook = Codebook(
        centroids=np.array([[0, 1], [2, 3]], np.float32),
        descriptor=DESCRIPTOR,
        normalisation="standardise",
        mean=np.array([1, 2], np.float32),
        std=np.array([3, 4], np.float32),
        layer=7,
        checkpoint_fingerprint="abc",
        counts=np.array([5, 6]),
        inertia=1.5,
    )
    for original in (codebook, _codebook()):
        arrays, described = original.to_storage()
        back = Codebook.from_storage(arrays, json.loads(json.dumps(described)))
        assert back.fingerprint == original.fingerprint
        assert back.counts.tolist() == original.counts.tolist()
        assert (back.layer, back.inertia) == (original.layer, original.inertia)
        np.testing.assert_array_equal(back.assign(np.ones((2, back.dim))), original.assign(np.ones((2, back.dim))))
    with pytest.raises(InputError, match="do not make one"):
        Codebook.from_storage({"centroids": codebook.centroids}, {"sorcery": True})


@pytest.mark.parametrize(
    "changes",
    [
        {"normalisation": "max"},
        {"normalisation": "standardise"},
        {"mean": np.zeros(8, np.float32)},
        {"counts": np.zeros(3, np.int64)},
        {"centroids": np.zeros(8, np.float32)},
    ],
)
def test_codebooks_that_contradict_themselves_are_refused(changes: dict) -> None:
    with pytest.raises(ConfigError):
        replace(_codebook(), **changes)


def test_normalising_for_a_fit_without_statistics_is_refused() -> None:
    with pytest.raises(ConfigError, match="mean and deviation"):
        normalise_with(_rows(), "standardise")
