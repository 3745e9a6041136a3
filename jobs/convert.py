"""`python -m jobs.convert`: see hubert_ecg/pipeline/convert.py."""

from hubert_ecg.pipeline.convert import ConvertConfig, convert
from jobs.cli import run_job


def next_command(c: ConvertConfig) -> str:
    if c.to == "huggingface":
        return f"import hubert_ecg, transformers; transformers.AutoModel.from_pretrained('{c.output}')"
    return f"python -m jobs.inspect {c.output}"


if __name__ == "__main__":
    run_job("convert", ConvertConfig, convert, next_command)
