"""Imports point down only, siblings do not import one another, and heavy packages stay in their rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = [
    {"errors"},
    {"ecg"},
    {"formats", "clustering", "evaluation", "models"},
    {"storage", "autoload"},
    {"datasets", "training", "predictor"},
    {"pipeline"},
    {"tune_spaces"},
    {"jobs", "serve"},
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}

TORCH_ROOMS = {"models", "storage", "training", "predictor", "pipeline", "tune_spaces", "jobs", "serve"}
ROOMS_OF_PACKAGE = {
    "ray": {"pipeline", "tune_spaces", "jobs", "serve"},
    "torch": TORCH_ROOMS,
    "transformers": TORCH_ROOMS,
    "streamlit": {"serve"},
    "fastapi": {"serve"},
    "openai": {"serve"},
    "fpdf": {"serve"},
}


def sources() -> list[Path]:
    folders = [ROOT / name for name in ("hubert_ecg", "jobs", "serve", "tune_spaces")]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "hubert_ecg" else parts[0]


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            # `from hubert_ecg.clustering import quality` reaches into a room as much as the longer spelling does.
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "hubert_ecg" and len(parts) > 1:
            rooms.add(parts[1])
        elif parts[0] in RANK:
            rooms.add(parts[0])
    return rooms & set(RANK)


def test_every_module_lies_in_a_known_room() -> None:
    rooms = {room_of(path) for path in sources()} - {"__init__"}
    assert rooms <= set(RANK)
    assert {"ecg", "models", "pipeline", "jobs"} <= rooms


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_only(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":  # the package itself imports lazily, from anywhere; see the test below
        return
    upward = {other for other in imported_rooms(path) if other != room and RANK[other] >= RANK[room]}
    assert not upward, f"{path} ({room}) imports {upward}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_stay_in_their_rooms(path: Path) -> None:
    tops = {module.split(".")[0] for module in imported_modules(path)}
    misplaced = {name for name in tops & set(ROOMS_OF_PACKAGE) if room_of(path) not in ROOMS_OF_PACKAGE[name]}
    assert not misplaced


def test_what_ships_and_what_measures_does_not_import_the_tests() -> None:
    for path in [*sources(), *(ROOT / "benchmarks").glob("*.py")]:
        assert "tests" not in {module.split(".")[0] for module in imported_modules(path)}, path


def test_import_of_the_package_is_light() -> None:
    heavy = "{'numpy', 'torch', 'ray', 'transformers', 'pandas', 'librosa', 'matplotlib'}"
    code = f"import sys, hubert_ecg; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_an_upward_import_is_found(tmp_path: Path) -> None:
    path = tmp_path / "lower.py"
    path.write_text(
        "from hubert_ecg.pipeline import prepare\nimport jobs.cli\nfrom hubert_ecg.ecg.tokens import TokenGrid\n"
    )
    assert imported_rooms(path) == {"pipeline", "jobs", "ecg"}
