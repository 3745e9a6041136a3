"""The data statement counts what the data hold, and both statements' commands and links are real."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.population import lines
from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.storage.card import FOR_RESEARCH

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text() for name in ("data_statement", "model_card")}


@pytest.fixture
def ptbxl_tables(shared_dir: Path, tmp_path: Path) -> Path:
    """The tables of the shared recordings of PTB-XL, without their signals."""
    for file in json.loads((shared_dir / "data" / "ptbxl.json").read_text())["files"]:
        (tmp_path / Path(file["path"]).name).write_text(file["text"])
    return tmp_path


def test_the_data_statement_counts_what_is_there(ptbxl_tables: Path) -> None:
    listing = PtbxlSource(input=str(ptbxl_tables), val_fold=8, test_fold=9).listing()
    assert "\n".join(lines(listing)) in PAGES["data_statement"], "run python -m benchmarks.population and paste it"


SCP = """,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
NORM,1.0,,,NORM,NORM
AFIB,,,1.0,,
"""
DATABASE = """ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_hr,sample
1,7,17,1,{'NORM': 100.0},1,a,natural
2,7,80,0,{'AFIB': 0.0},1,b,enriched
3,8,300,,{},2,c,natural
"""


def test_people_and_labels_are_counted_by_fold(tmp_path: Path) -> None:
    (tmp_path / "scp_statements.csv").write_text(SCP)
    (tmp_path / "ptbxl_database.csv").write_text(DATABASE)
    listing = PtbxlSource(input=str(tmp_path), val_fold=1, test_fold=2).listing()
    said = {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in lines(listing))}
    assert said["recordings"] == ["2", "1", "3"]
    assert said["of these drawn at random"] == ["1", "1", "2"]
    assert said["patients"] == ["1", "1", "2"]
    assert said["age 0 to 17"] == ["1", "0", "1"]
    assert said["age 80 and more"] == ["1", "1", "2"]
    assert said["age, median (quartiles)"][1] == "90 (90 to 90)"
    assert (said["female"], said["male"], said["sex unknown"]) == (["1", "0", "1"], ["1", "0", "1"], ["0", "1", "1"])
    assert said["AFIB"] == ["1", "0", "1"]


def test_the_card_says_what_every_checkpoint_says() -> None:
    assert FOR_RESEARCH in " ".join(PAGES["model_card"].split())


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_what_is_named_exists(page: str) -> None:
    root = DOCS.parent
    for place in re.findall(r"\]\((\w+\.md)\)", page):
        assert (DOCS / place).exists(), place
    for place in re.findall(r"`((?:hubert_ecg|benchmarks|jobs|docs)/[\w/]*(?:\.\w+)?)`|(jobs/configs/\w+\.yaml)", page):
        assert (root / "".join(place)).exists(), place
    for room, script in re.findall(r"python -m (jobs|benchmarks)\.(\w+)", page):
        assert (root / room / f"{script}.py").exists() or (root / room / script / "__main__.py").exists(), script
