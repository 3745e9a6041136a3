"""Where a benchmark ran: the machine, what it was busy with, and the versions that matter."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import gpu
from hubert_ecg.storage.artifact import code_version

VECTORS = {"avx512_bf16": "AVX512-BF16", "avx512f": "AVX512", "avx2": "AVX2"}
"""Flags of a processor that decide how fast it multiplies, the best first -> what they are called."""
PACKAGES = ("numpy", "scipy", "torch", "transformers", "ray", "pyarrow", "scikit-learn", "librosa")


def machine() -> str:
    """Processor, its best vector instructions, cores that this process may use, and GPUs."""
    rows = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((row.split(":", 1)[1].strip() for row in rows if "model name" in row), platform.processor())
    flags = next((row.split(":", 1)[1].split() for row in rows if row.startswith("flags")), [])
    vectors = next((f" with {name}" for flag, name in VECTORS.items() if flag in flags), "")
    return ", ".join([cpu + vectors, f"{len(os.sched_getaffinity(0))} cores", *gpu.names()])


def surroundings() -> dict[str, Any]:
    """As JSON values; taken before the work, so that `load` is that of others."""
    return {
        "machine": machine(),
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).date().isoformat(),
        "code": code_version(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
    }
