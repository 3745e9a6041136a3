"""How fast the stages are and how many bytes an ECG takes: the figures behind --dry_run and benchmarks/capacity.py.

They were measured on 2 cores of an AMD EPYC with AVX2, by the benchmarks named beside them (benchmarks/results), or are
stated to be assumptions. Other machines differ, by a factor of two easily.
"""

from dataclasses import dataclass

from hubert_ecg.pipeline.prepare_shard import AHEAD

SAMPLES_PER_CROP = 6000
"""12 leads of 5 s at 100 Hz."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds, operations and bytes; every one can be replaced by the reader's own."""

    prepare_core_s: float = 6.5e-3
    """One core, one ECG of 10 s, 500 or 100 Hz, all of jobs.prepare (benchmarks.prepare)."""
    simulate_core_s: float = 0.03
    """One core, one simulated ECG of 10 s at 500 Hz (timed over 20 of them)."""
    request_s: float = 0.025
    """From a request of an object store to its answer. An assumption."""
    requests_per_ecg: int = 4
    """A header and a signal file, each asked for its size and then its content (tests/storage/test_weak_store.py)."""
    descriptor_core_s: float = 1 / (3 * 1570)
    """One core, one crop: 39 MFCC and the nearest of 100 clusters (benchmarks.dump: jobs.label, 1,570 ECGs of three
    crops per second). The other descriptors are faster."""
    core_flops: float = 0.13e9 * 3 * 66
    """Operations per second of one core in a model: `tiny` at 66 ECGs of three crops per second (benchmarks.dump)."""
    gpu_flops: float = 0.3 * 121e12
    """Of one GPU in bfloat16: 30 % of the peak of an L4. An assumption; benchmarks.model measures it."""
    gpu_float32_flops: float = 0.3 * 30.3e12
    """The same in float32, in which predict, evaluate, calibrate, explain and probe compute: 30 % of that peak of an
    L4. An assumption."""
    kmeans_core_flops: float = 1.0e10
    """Of one core in k-means. An assumption, a quarter of what it reaches in a model."""
    interval_core_s: float = 5e-8
    """One core, one recording and label in one resampling of an evaluation (timed with 100,000 recordings of 5
    labels)."""
    training_passes: float = 3.0
    """Forward and backward passes of a step, in forward passes."""
    measure_core_s: float = 0.1
    """One core, intervals of one ECG of 10 s at 500 Hz (timed over nine simulated ones)."""
    raw_bytes: float = 120_000.0
    """One ECG of 12 leads, 10 s, 500 Hz as 16-bit WFDB."""
    waveform_bytes: float = 17_000.0
    """One ECG of 10 s at 100 Hz in a waveform table: between 10 and 24 kB (architecture of the tables)."""
    code_bytes: float = 2.0
    """One token of one codebook in a label table."""
    feature_bytes: float = 4.0
    """One number of a feature table."""

    def gpu_speed(self, precision: str) -> float:
        """Operations per second of one GPU in a precision of 32 or 16 bits."""
        return self.gpu_float32_flops if precision == "float32" else self.gpu_flops

    def prepare_s(self, *, remote: bool) -> float:
        """One worker, one ECG in jobs.prepare: its computing, or where that is longer the wait for the store, of which
        it asks for several recordings at a time."""
        return max(self.prepare_core_s, self.requests_per_ecg * self.request_s / AHEAD if remote else 0.0)
