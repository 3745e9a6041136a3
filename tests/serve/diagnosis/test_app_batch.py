"""The table of a batch, and the file that a spreadsheet opens."""

import csv
import io
import zipfile

from hubert_ecg.ecg.recording import Recording
from serve.diagnosis.batch_table import batch_csv, batch_frame, batch_items
from serve.diagnosis.session import Session
from serve.diagnosis.trouble import single_lead
from serve.pdf import batch_zip
from tests.serve.diagnosis.answers import answer, finding
from tests.serve.diagnosis.ecg_files import samples_mv


def held() -> Session:
    session = Session()
    recording = Recording(samples=samples_mv(), sampling_rate_hz=500)
    for name in ("Müller.edf", "=HYPERLINK(1)", "lead.npy"):
        session.add(name, recording)
    session.outcomes = {
        0: answer(),
        1: answer(findings=[finding("severe", lead=None)], abstained=True, abstain_reason="noise"),
        2: single_lead("II"),
    }
    return session


def test_a_row_per_ecg_with_answer_quality_numbers_and_trouble() -> None:
    frame = batch_frame(held())
    assert list(frame["ECG"]) == ["Müller.edf", "=HYPERLINK(1)", "lead.npy"]
    assert list(frame["Model"]) == ["atrial fibrillation (87%)", "answer withheld", "no model has judged this ECG"]
    assert list(frame["Quality"])[:2] == ["good", "unusable"]
    assert frame["AFIB"].tolist()[0] == 0.87
    assert frame["AFIB"].isna().tolist() == [False, True, True]
    assert frame["Heart rate (/min)"].tolist()[:2] == [121, 121]
    # What cannot be answered is still measured.
    assert 40 < frame["Heart rate (/min)"].tolist()[2] < 160
    assert "One lead" in frame["Note"].tolist()[2]


def test_the_csv_reads_back_with_accents_and_no_formula() -> None:
    content = batch_csv(held())
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert [row["recording"] for row in rows] == ["Müller.edf", "'=HYPERLINK(1)", "lead.npy"]
    assert [row["present"] for row in rows] == ["AFIB", "", ""]
    assert [row["withheld"] for row in rows] == ["", "noise", "One lead is not enough for the model"]
    assert float(rows[0]["probability AFIB"]) == 0.87


def test_the_zip_holds_a_pdf_for_each_and_summaries() -> None:
    with zipfile.ZipFile(io.BytesIO(batch_zip(batch_items(held())))) as archive:
        names = archive.namelist()
        assert all(archive.read(name).startswith(b"%PDF") for name in names if name.endswith(".pdf"))
    assert len([name for name in names if name.endswith(".pdf")]) == 4


def test_of_a_batch_with_no_answers_there_is_a_table_too() -> None:
    session = held()
    session.outcomes = {}
    assert list(batch_frame(session)["Model"]) == ["no model has judged this ECG"] * 3
