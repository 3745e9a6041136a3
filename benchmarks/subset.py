"""The recordings that the results are of, out of a whole PTB-XL: 4,860 of its folds 1 to 9.

    python -m benchmarks.subset --input PTB-XL --output FOLDER

FOLDER is laid out as PTB-XL is, at 100 Hz, and is what the other benchmarks take as --input. Its `ptbxl_database.csv`
has the rows of benchmarks/ptbxl_subset.csv and one column more: `sample`, which is `natural` for 440 recordings of
each fold that were drawn at random, and `enriched` for 900 that were added for atrial fibrillation or flutter, bundle
branch block or first-degree AV block. The records are links into PTB-XL.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from hubert_ecg.datasets.ptbxl import DATABASE, STATEMENTS
from hubert_ecg.errors import InputError
from hubert_ecg.pipeline.commands import guarded, set_up_logging

CHOSEN = Path(__file__).with_name("ptbxl_subset.csv")
SUFFIXES = (".hea", ".dat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", metavar="PTB-XL", type=Path, required=True, help="PTB-XL in its official layout")
    parser.add_argument("--output", metavar="FOLDER", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    count = make_subset(options.input, options.output)
    print(f"{options.output}: {count:,} recordings; give it to the benchmarks as --input")


def make_subset(ptbxl: Path, output: Path, chosen: Path = CHOSEN) -> int:
    """How many recordings the new folder has. Raises InputError unless all that are chosen are there."""
    if output.exists():
        raise InputError(f"{output}: wanted a new folder, got one that exists; remove it or name another one")
    for name in (DATABASE, STATEMENTS):
        if not (ptbxl / name).exists():
            raise InputError(f"{ptbxl / name}: no such file; wanted the folder of PTB-XL")
    database, wanted = pd.read_csv(ptbxl / DATABASE), pd.read_csv(chosen)
    rows = database.drop(columns="sample", errors="ignore").merge(wanted, on="ecg_id")
    files = [name + suffix for name in rows["filename_lr"] for suffix in SUFFIXES]
    missing = [name for name in files if not (ptbxl / name).exists()]
    lacks = (
        f"{missing[0]} and {len(missing) - 1} other files" if missing else f"{len(wanted) - len(rows)} of their rows"
    )
    if missing or len(rows) < len(wanted):
        said = f"wanted the {len(wanted):,} recordings of {chosen.name} at 100 Hz, got none of {lacks}"
        raise InputError(f"{ptbxl}: {said}")
    for name in files:
        link = output / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((ptbxl / name).absolute())
    (output / STATEMENTS).write_bytes((ptbxl / STATEMENTS).read_bytes())
    rows.to_csv(output / DATABASE, index=False)
    return len(rows)


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(main))
