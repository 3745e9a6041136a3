"""One shard of prepare without Ray: what is kept, set aside, found, hashed, and shown on the report's page."""

import base64
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubert_ecg.datasets.deidentify import hash_id, hash_ids
from hubert_ecg.datasets.files_folder import FilesSource
from hubert_ecg.datasets.manifest import ManifestSource
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.ecg.quality import QualityConfig
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.pipeline.prepare_page import write_page
from hubert_ecg.pipeline.prepare_shard import LISTING, ShardWork
from hubert_ecg.pipeline.prepare_summary import merge
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest

SALT = b"a hospital's secret"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good, short, one flat lead, one lead missing, unreadable; the names of files name people."""
    folder = tmp_path_factory.mktemp("archive")
    ecg = simulate_condition(["NORM"], seed=1)[0].samples
    flat = ecg.copy()
    flat[7] = 0.2
    np.save(folder / "good.npy", ecg)
    np.save(folder / "short.npy", ecg[:, :1500])
    np.save(folder / "flat.npy", flat)
    (folder / "smith_john.npy").write_bytes(b"no array at all")
    np.savetxt(
        folder / "eleven.csv", ecg[:11].T, delimiter=",", header="I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5", comments=""
    )
    names = ["good.npy", "short.npy", "flat.npy", "smith_john.npy", "eleven.csv"]
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "patient_id", "age", "sex", "split", "AFIB"])
        writer.writerows([name, f"patient of {name}", 60, "f", "train", 0] for name in names)
    return folder


def run(archive: Path, output: Path, *, salt: bytes | None = None, **settings: Any) -> tuple[dict[str, Any], Manifest]:
    source = ManifestSource(input=str(archive), label_start_index=5)
    listing = source.listing()
    if salt is not None:
        listing = hash_ids(listing, salt)
    files.write_table(str(output / LISTING), listing.table, row_group_size=256)
    work = ShardWork(
        directory=str(output),
        source=source,
        preprocess=replace(PreprocessConfig(), **settings.pop("preprocess", {})),
        quality=QualityConfig(),
        policy=settings.pop("policy", "warn"),
        label_tasks={"manifest": "multi_label"},
        salt=salt,
    )
    described: dict[str, Any] = {"verb": "prepare", "config": {}, "inputs": {}, "fingerprint": "", "rows": 0}
    return work({"part": 0}), Manifest(directory=str(output), parts=1, **described)


def muse_xml(patient_id: str, recording: Recording) -> str:
    """A resting ECG as a GE cart exports it, 5 uV per step."""

    def packed(row: np.ndarray) -> str:
        return base64.b64encode(np.rint(row * 200).astype("<i2").tobytes()).decode()

    leads = "".join(
        f"<LeadData><LeadID>{name}</LeadID><LeadAmplitudeUnitsPerBit>5</LeadAmplitudeUnitsPerBit>"
        f"<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadSampleCountTotal>{len(row)}</LeadSampleCountTotal>"
        f"<WaveFormData>{packed(row)}</WaveFormData></LeadData>"
        for name, row in zip(recording.lead_names, recording.samples, strict=True)
        if name in ("I", "II") or name.startswith("V")
    )
    return (
        f"<RestingECG><PatientDemographics><PatientID>{patient_id}</PatientID></PatientDemographics><Waveform>"
        f"<WaveformType>Rhythm</WaveformType><SampleBase>{recording.sampling_rate_hz:g}</SampleBase>"
        f"<SampleExponent>0</SampleExponent>{leads}</Waveform></RestingECG>"
    )


def rows_of(manifest: Manifest) -> dict[str, dict[str, Any]]:
    return {row["record_id"]: row for row in files.read_table(manifest.part(0)).to_pylist()}


def test_what_cannot_be_used_is_set_aside_with_its_reason(archive: Path, tmp_path: Path) -> None:
    receipt, manifest = run(archive, tmp_path)
    assert {entry["record_id"]: entry["reason"] for entry in receipt["set_aside"]} == {
        "short": "too short",
        "smith_john": "unreadable",
        "eleven": "missing leads",
    }
    rows = rows_of(manifest)
    assert set(rows) == {"good", "flat"}
    assert rows["good"]["valid_samples"] == [1000] * 12
    assert ("flat", "V2") in {(finding["kind"], finding["lead"]) for finding in rows["flat"]["findings"]}


def test_short_recordings_and_missing_leads_can_be_asked_for(archive: Path, tmp_path: Path) -> None:
    _, manifest = run(archive, tmp_path, preprocess={"missing_leads": "zero", "min_duration_s": 2.0})
    rows = rows_of(manifest)
    assert set(rows) == {"good", "flat", "short", "eleven"}
    assert rows["short"]["valid_samples"] == [300] * 12
    assert rows["eleven"]["valid_samples"] == [1000] * 11 + [0]
    assert "missing lead" in {finding["kind"] for finding in rows["eleven"]["findings"]}


def test_severe_findings_set_aside_when_asked(archive: Path, tmp_path: Path) -> None:
    receipt, manifest = run(archive, tmp_path, policy="set_aside")
    reasons = {entry["record_id"]: entry["reason"] for entry in receipt["set_aside"]}
    assert reasons["flat"] == "quality: flat"
    assert set(rows_of(manifest)) == {"good"}


def test_a_lead_that_zeros_stand_for_is_no_severe_finding(archive: Path, tmp_path: Path) -> None:
    """`--missing_leads zero --findings set_aside` keeps the recording of eleven leads, V6 being masked."""
    _, manifest = run(archive, tmp_path, policy="set_aside", preprocess={"missing_leads": "zero"})
    row = rows_of(manifest)["eleven"]
    assert [(f["kind"], f["severity"], f["lead"]) for f in row["findings"]] == [("missing lead", "warning", "V6")]
    assert row["valid_samples"][11] == 0


def test_with_a_salt_no_id_and_no_file_name_is_left(archive: Path, tmp_path: Path) -> None:
    receipt, manifest = run(archive, tmp_path, salt=SALT)
    rows = rows_of(manifest)
    assert set(rows) == {hash_id("good", SALT), hash_id("flat", SALT)}
    assert rows[hash_id("good", SALT)]["patient_id"] == hash_id("patient of good.npy", SALT)
    written = b"".join(path.read_bytes() for path in (tmp_path / "parts").iterdir()) + repr(receipt).encode()
    for name in (b"smith", b"patient of", b"good.npy", str(archive).encode()):
        assert name not in written
    reason = next(entry for entry in receipt["set_aside"] if entry["record_id"] == hash_id("smith_john", SALT))
    assert reason["detail"] == f"{hash_id('smith_john', SALT)}: unreadable"


def test_the_page_holds_what_was_read_and_runs_nothing(archive: Path, tmp_path: Path) -> None:
    receipt, manifest = run(archive, tmp_path)
    poisoned = {"record_id": "<script>alert(1)</script>", "reason": "unreadable", "detail": "a & b"}
    report = {
        "source": "files",
        "listed": 5,
        "prepared": 2,
        "set_aside_by_reason": {"unreadable": 1},
        "set_aside": [poisoned],
        "left_out": {"other files": 3},
        "splits": receipt["splits"],
        "summary": merge([receipt["summary"]]),
    }
    write_page(str(tmp_path / "report.html"), manifest, report, PreprocessConfig())
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", ""), "the page must not ask for anything from elsewhere"
    assert "3 other files" in page
    assert "lead V2" in page
    assert page.count("<svg") == len(receipt["summary"]["examples"]) > 0
    assert "<b>1</b>" in page, "the bar of what was set aside"


def test_a_patient_that_only_files_name_stands_in_one_split(tmp_path: Path) -> None:
    """Five recordings of one person under unrelated names: hashing the names alone would scatter them."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for index in range(5):
        (folder / f"{index}.xml").write_text(muse_xml("p7", simulate_condition(["NORM"], seed=index)[0]))
    source = FilesSource(input=str(folder), split=SplitConfig(val_fraction=0.3, test_fraction=0.3))
    files.write_table(str(tmp_path / LISTING), source.listing().table, row_group_size=256)
    assert len(set(files.read_table(str(tmp_path / LISTING))["split"].to_pylist())) > 1
    work = ShardWork(
        directory=str(tmp_path),
        source=source,
        preprocess=PreprocessConfig(),
        quality=QualityConfig(),
        policy="keep",
        label_tasks={},
    )
    work({"part": 0})
    described: dict[str, Any] = {"verb": "prepare", "config": {}, "inputs": {}, "fingerprint": "", "rows": 0}
    rows = rows_of(Manifest(directory=str(tmp_path), parts=1, **described))
    assert {row["patient_id"] for row in rows.values()} == {"p7"}
    assert len({row["split"] for row in rows.values()}) == 1
