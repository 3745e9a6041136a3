"""The folder of the recordings that results are of: rows and files of PTB-XL, and how each recording was drawn."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.subset import CHOSEN, make_subset
from hubert_ecg.datasets.ptbxl import DATABASE, STATEMENTS, PtbxlSource
from hubert_ecg.errors import InputError


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Three recordings in the official layout, without signals."""
    folder = tmp_path / "whole"
    names = [f"records100/00000/{number:05}_lr" for number in (1, 2, 3)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".hea", ".dat"):
            (folder / f"{name}{suffix}").write_text(name)
    columns = {
        "ecg_id": [1, 2, 3],
        "patient_id": [7.0, 8.0, 9.0],
        "age": 56.0,
        "sex": 1,
        "scp_codes": "{'NORM': 100.0}",
    }
    pd.DataFrame(columns | {"strat_fold": [1, 8, 9], "filename_lr": names}).to_csv(folder / DATABASE, index=False)
    statements = {"diagnostic": 1.0, "form": None, "rhythm": None, "diagnostic_class": "NORM"}
    pd.DataFrame(statements | {"diagnostic_subclass": "NORM", "description": "normal"}, index=["NORM"]).to_csv(
        folder / STATEMENTS
    )
    return folder


def chosen(tmp_path: Path, rows: str) -> Path:
    path = tmp_path / "chosen.csv"
    path.write_text(f"ecg_id,sample\n{rows}")
    return path


def test_chosen_recordings_are_listed_with_how_they_were_drawn(whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "subset"
    assert make_subset(whole, output, chosen(tmp_path, "3,enriched\n2,natural\n")) == 2
    listing = PtbxlSource(input=str(output), val_fold=8, test_fold=9, rate_hz=100).listing().table
    assert listing["record_id"].to_pylist() == ["2", "3"]
    assert listing["tags"].to_pylist() == [["natural"], ["enriched"]]
    assert (output / "records100/00000/00003_lr.dat").read_text() == "records100/00000/00003_lr"


def test_what_is_not_all_there_is_refused_and_nothing_written(whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "subset"
    with pytest.raises(InputError, match="1 of their rows"):
        make_subset(whole, output, chosen(tmp_path, "3,natural\n4,natural\n"))
    (whole / "records100/00000/00003_lr.dat").unlink()
    with pytest.raises(InputError, match="00003_lr.dat"):
        make_subset(whole, output, chosen(tmp_path, "3,natural\n"))
    assert not output.exists()
    with pytest.raises(InputError, match="new folder"):
        make_subset(whole, tmp_path, chosen(tmp_path, "2,natural\n"))


def test_the_committed_choice_is_what_the_data_statement_says() -> None:
    rows = pd.read_csv(CHOSEN)
    assert rows["ecg_id"].is_unique
    assert rows["sample"].value_counts().to_dict() == {"natural": 3960, "enriched": 900}
