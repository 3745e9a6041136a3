"""What the PDF says, as poppler reads it, and a batch as a zip file."""

import csv
import io
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.errors import InputError
from serve.paper.layout import PaperStyle
from serve.pdf import BatchItem, PatientFields, batch_zip, report_pdf
from serve.printing.batch import pdf_names
from serve.report.check import contradictions
from serve.report.facts import Facts, LabelFact, MeasurementFact
from serve.report.text import plain_report
from tests.serve.paper.sheets import page_text, spikes

AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
FACTS = Facts(
    model="demo",
    fingerprint="3fa9c177b02e55aa",
    task="multi_label",
    labels=(
        LabelFact(name="NORM", title="normal ECG", probability=0.03, threshold=0.5, positive=False, uncertainty=None),
        LabelFact(
            name="AFIB", title="atrial fibrillation", probability=0.87, threshold=0.35, positive=True, uncertainty=0.04
        ),
    ),
    measurements=(
        MeasurementFact(
            name="heart_rate", value=131.4, unit="bpm", normal_low=60.0, normal_high=100.0, reason=None, leads=("II",)
        ),
        MeasurementFact(
            name="pr", value=None, unit="ms", normal_low=120.0, normal_high=200.0, reason="no P wave before the QRS"
        ),
        MeasurementFact(name="axis", value=-41.0, unit="deg", normal_low=-30.0, normal_high=90.0, reason=None),
    ),
    findings=(Finding(kind="noisy", severity="warning", lead="V2", detail="Noise of 0.2 mV."),),
    out_of_scope=(),
    abstained=False,
    abstain_reason=None,
)


def made(facts: Facts = FACTS, patient: PatientFields | None = None, text: str | None = None, **how: Any) -> bytes:
    report = plain_report(facts) if text is None else text
    return report_pdf(patient or PatientFields(), spikes(), 500.0, STANDARD_LEADS, facts, report, printed_at=AT, **how)


def test_accents_and_greek_letters_come_through(tmp_path: Path) -> None:
    patient = PatientFields(
        name="Ærøskøbing Ångström Müller Ωμέγα",
        patient_id="Ж-17",
        note="χολή, Łódź, Çelik, ﬁn",
        clinician="Mu\u0308ller",
    )
    text = page_text(made(patient=patient), tmp_path)
    assert text.count("Ærøskøbing Ångström Müller Ωμέγα") >= 2  # on the ECG, on the results, and at each foot
    assert "Ж-17" in text
    assert "χολή, Łódź, Çelik" in text
    assert "Müller" in text.split("Clinician")[1][:40]


def test_everything_that_was_found_is_told(tmp_path: Path) -> None:
    text = page_text(made(), tmp_path)
    for wanted in (
        *("atrial fibrillation (AFIB)", "87% ± 4%", "35%", "present", "quiver", "131/min", "60 to 100/min", "↑ high"),
        *("-41°", "↓ low", "not measurable: no P wave", "V2: Noise of 0.2 mV.", "3fa9c177b02e55aa", "2026-01-02 03:04"),
        *("25 mm/s", "10 mm/mV", "no display filter"),
    ):
        assert wanted in text, wanted
    assert text.index("Noise of 0.2 mV") < text.index("Probability")


def test_each_page_says_that_it_is_no_diagnosis(tmp_path: Path) -> None:
    long = "A sentence that fills the report. " * 400
    pages = page_text(made(text=long, style=PaperStyle(speed_mm_s=50)), tmp_path).split("\f")[:-1]
    assert len(pages) >= 4
    assert all("this is not a diagnosis" in page for page in pages)
    assert all(f"{number}/{len(pages)}" in page for number, page in enumerate(pages, start=1))


def test_a_withheld_answer_shows_no_probability(tmp_path: Path) -> None:
    severe = Finding(kind="flat", severity="severe", lead="V1", detail="Flat for 10 s.")
    facts = replace(FACTS, abstained=True, abstain_reason="a lead is flat", out_of_scope=("paced",), findings=(severe,))
    text = page_text(made(facts), tmp_path)
    assert "87%" not in text
    ecg, results = text.split("\f")[:2]
    assert "Answer withheld" in ecg
    assert "Out of scope: paced" in ecg
    assert results.index("answer is withheld") < results.index("Conditions")
    assert results.index("Flat for 10 s.") < results.index("Conditions")
    assert results.index("a pacemaker was active") < results.index("Conditions")
    assert "0.87" not in page_text(made(replace(facts, task="regression")), tmp_path)


def test_what_no_model_has_judged_is_not_said_to_be_free_of_conditions(tmp_path: Path) -> None:
    (item,) = items("a.npy")
    facts = replace(FACTS, labels=(), unanswered="The service cannot be reached")
    archive = zipfile.ZipFile(io.BytesIO(batch_zip([replace(item, facts=facts)], printed_at=AT)))
    ecg, results, _ = page_text(archive.read("001_a.pdf"), tmp_path).split("\f")
    summary = page_text(archive.read("summary.pdf"), tmp_path)
    assert "No model has judged this ECG" in ecg
    assert "The service cannot be reached." in results
    assert "Conditions" not in results
    assert summary.count("no model has judged") == 2  # what the model sees, and to beware of
    assert "threshold" not in ecg + results + summary


def test_a_contradiction_is_flagged_before_the_text_and_in_it(tmp_path: Path) -> None:
    wrong = "There is no atrial fibrillation."
    text = f"The rate is fast. {wrong}"
    found = contradictions(text, FACTS)
    assert found
    shown = page_text(made(text=text, contradictions=found), tmp_path)
    assert "contradicts the results above" in shown
    assert f"⚠ {wrong}" in shown
    assert "⚠ The rate is fast" not in shown


@pytest.mark.parametrize("name", ["王伟", "דנ", "عم"], ids=["Chinese", "Hebrew", "Arabic"])
def test_a_name_that_cannot_be_printed_is_refused_and_in_a_text_it_is_boxes(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"patient, Name: wanted characters .* got {name}"):
        made(patient=PatientFields(name=name))
    assert "by ▯▯." in page_text(made(text=f"Written by {name}."), tmp_path)


def test_equal_arguments_give_equal_bytes_and_odd_texts_do_no_harm() -> None:
    odd = "**bold** <b>&amp; \x00\u202e \\ {nb} --- __x__\n\n|a|b|"
    patient = PatientFields(note="x" * 3000)
    assert made(text=odd, patient=patient) == made(text=odd, patient=patient)


def test_regression_and_single_lead_are_printed(tmp_path: Path) -> None:
    age = LabelFact(name="age", title="age", probability=61.37, threshold=None, positive=None, uncertainty=None)
    facts = replace(FACTS, task="regression", labels=(age,), measurements=None, findings=())
    pdf = report_pdf(PatientFields(), np.full((1, 700), np.nan), 100.0, ["MLII"], facts, "", printed_at=AT)
    assert "61.37" in page_text(pdf, tmp_path)


def items(*names: str) -> list[BatchItem]:
    return [
        BatchItem(
            name=name,
            samples_mv=spikes(),
            sampling_rate_hz=500.0,
            leads=STANDARD_LEADS,
            facts=FACTS,
            report_text="",
        )
        for name in names
    ]


def test_a_batch_is_a_pdf_each_and_a_summary(tmp_path: Path) -> None:
    made_of = items("=HYPERLINK(1).npy", "b.npy")
    packed = batch_zip(made_of, printed_at=AT)
    assert packed == batch_zip(made_of, printed_at=AT)
    archive = zipfile.ZipFile(io.BytesIO(packed))
    assert archive.namelist() == ["summary.pdf", "summary.csv", "001_HYPERLINK_1.pdf", "002_b.pdf"]
    assert "atrial fibrillation (87%)" in page_text(archive.read("summary.pdf"), tmp_path)
    rows = list(csv.DictReader(io.StringIO(archive.read("summary.csv").decode("utf-8-sig"))))
    assert [row["recording"] for row in rows] == ["'=HYPERLINK(1).npy", "b.npy"]
    assert (rows[0]["present"], rows[0]["probability AFIB"], rows[0]["axis deg"]) == ("AFIB", "0.87", "-41.0")
    assert "atrial fibrillation" in page_text(archive.read("002_b.pdf"), tmp_path)


def test_a_withheld_answer_has_no_numbers_in_the_summary() -> None:
    (item,) = items("a.npy")
    withheld = replace(item, facts=replace(FACTS, abstained=True, abstain_reason="+noise"))
    archive = zipfile.ZipFile(io.BytesIO(batch_zip([withheld], printed_at=AT)))
    (row,) = csv.DictReader(io.StringIO(archive.read("summary.csv").decode("utf-8-sig")))
    assert (row["withheld"], row["present"], row["probability AFIB"]) == ("'+noise", "", "")


def test_file_names_are_safe_and_unique() -> None:
    names = ["../../etc/passwd", "C:\\x\\Müller.dat", "a.npy", "a.npy", "", "...", "王.npy", "x" * 300]
    safe = pdf_names(names)
    assert safe[:4] == ["001_passwd.pdf", "002_Muller.pdf", "003_a.pdf", "004_a.pdf"]
    assert safe[4:7] == ["005_recording.pdf", "006_recording.pdf", "007_recording.pdf"]
    assert len(set(safe)) == len(safe)
    assert max(map(len, safe)) < 80
