"""A pre-training into an object store, interrupted there, and a fine-tuning from it into the store."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_training import ROOT, command, config, write_inputs

from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import open_artifact
from hubert_ecg.storage.checkpoint import load_checkpoint


@pytest.mark.slow
def test_trainings_write_to_an_object_store_and_go_on_there(s3_bucket: str, tmp_path: Path) -> None:
    inputs, place = write_inputs(tmp_path), f"{s3_bucket}/c"
    made = config(inputs, place, WorkersConfig(threads_each=1), steps=12, validation_interval=6, keep_checkpoints=2)
    driver = subprocess.Popen(command(made), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert driver.stderr is not None
    for line in driver.stderr:
        if re.search(r"step 6/12: train_loss", line):
            driver.kill()
    driver.wait()
    assert not files.exists(f"{place}/manifest.json")
    again = subprocess.run(command(made), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    print(f"\nkilled, then: {re.findall('going on after.*', again.stderr)}")
    manifest = open_artifact(place)
    _, info = load_checkpoint(place, expect="ssl")
    assert manifest.facts["checkpoint"] == info.fingerprint
    assert {"history.csv", "training.csv", "curves.png"} <= set(files.list_names(place))
    assert files.list_names(f"{place}/tensorboard")
    assert len(files.list_directories(f"{place}/trainer/run")) <= 2

    tuned = f"{s3_bucket}/m"
    flags = f"--waveforms {inputs}/w --checkpoint {place} --label_set classes --output {tuned} --steps 4 "
    flags += "--batch_size 4 --validation_interval 2"
    subprocess.run([sys.executable, "-m", "jobs.finetune", *flags.split()], cwd=ROOT, check=True)
    _, info = load_checkpoint(tuned, expect="classifier")
    assert info.label_names == ("AFIB", "CRBBB", "NORM")
    assert not list(tmp_path.glob("s3:*"))
