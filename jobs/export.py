"""`python -m jobs.export`: see hubert_ecg/pipeline/export.py."""

from hubert_ecg.pipeline.export import ExportConfig, export
from jobs.cli import run_job


def next_command(c: ExportConfig) -> str:
    return f"onnxruntime.InferenceSession('{c.output}/model.onnx'), or python -m jobs.inspect {c.output}"


if __name__ == "__main__":
    run_job("export", ExportConfig, export, next_command)
