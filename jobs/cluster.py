"""`python -m jobs.cluster`: see hubert_ecg/pipeline/cluster.py."""

from hubert_ecg.pipeline.cluster import ClusterConfig, cluster
from jobs.cli import run_job


def next_command(c: ClusterConfig) -> str:
    if c.evaluate is not None:
        return f"see {c.output}/quality.csv and {c.output}/quality.png"
    return f"python -m jobs.label --waveforms W --codebooks '[{c.output}/k{c.ks[0]}]' --output L"


if __name__ == "__main__":
    run_job("cluster", ClusterConfig, cluster, next_command)
