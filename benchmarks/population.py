"""Who was recorded: recordings, patients, age, sex and labels of each fold of PTB-XL, as docs/data_statement.md says.

    python -m benchmarks.population --input FOLDER

Counted from the tables of the data set, before any signal is read. Nothing is measured.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd

from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.datasets.source import Listing
from hubert_ecg.storage.tables import LABEL_PREFIX

LABEL_SETS = ("superclass", "conditions", "rhythm")
"""Those that are small enough for a page."""
QUARTILES = (25, 50, 75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", metavar="FOLDER", required=True, help="PTB-XL in its official layout")
    parser.add_argument("--val_fold", type=int, default=8, help="any fold that is there")
    parser.add_argument("--test_fold", type=int, default=9, help="any other")
    options = parser.parse_args()
    source = PtbxlSource(input=options.input, val_fold=options.val_fold, test_fold=options.test_fold)
    print("\n".join(lines(source.listing())))


def lines(listing: Listing) -> Iterator[str]:
    """Markdown: one table of people, and one of labels per label set; a column per fold."""
    frame = listing.table.to_pandas()
    folds = {str(fold): rows for fold, rows in frame.groupby("fold")} | {"all": frame}
    yield from _table("fold", folds, {name: [count(rows) for rows in folds.values()] for name, count in PEOPLE.items()})
    for name in LABEL_SETS:
        counts = [Counter(label for labels in rows[LABEL_PREFIX + name] for label in labels) for rows in folds.values()]
        labels = {label: [str(each[label]) for each in counts] for label in listing.label_sets[name].labels}
        none = [str(sum(len(labels) == 0 for labels in rows[LABEL_PREFIX + name])) for rows in folds.values()]
        yield ""
        yield from _table(f"`{name}`, recordings of fold", folds, labels | {"none of these": none})


def _table(head: str, folds: dict[str, pd.DataFrame], rows: dict[str, list[str]]) -> Iterator[str]:
    yield f"| {' | '.join([head, *folds])} |"
    yield f"|{'---|' * (len(folds) + 1)}"
    for name, cells in rows.items():
        yield f"| {' | '.join([name, *cells])} |"


def _recordings(rows: pd.DataFrame) -> str:
    return str(len(rows))


def _patients(rows: pd.DataFrame) -> str:
    return str(rows["patient_id"].nunique())


def _natural(rows: pd.DataFrame) -> str:
    """Recordings that were drawn at random, where the data set tells."""
    return str(sum("natural" in tags for tags in rows["tags"]))


def _age(rows: pd.DataFrame) -> str:
    """Median and quartiles over recordings; those over 89 count as 90."""
    lower, median, upper = np.percentile(rows["age_years"].dropna(), QUARTILES)
    return f"{median:.0f} ({lower:.0f} to {upper:.0f})"


def _band(first: float, last: float, rows: pd.DataFrame) -> str:
    return str(int(rows["age_years"].between(first, last, inclusive="left").sum()))


def _sex(sex: str | None, rows: pd.DataFrame) -> str:
    return str(int(rows["sex"].isna().sum() if sex is None else (rows["sex"] == sex).sum()))


def _unknown_age(rows: pd.DataFrame) -> str:
    return str(int(rows["age_years"].isna().sum()))


def _bands(edges: Sequence[float]) -> Iterator[tuple[str, tuple[float, float]]]:
    for first, last in pairwise(edges):
        name = f"age {first:g} to {last - 1:g}" if np.isfinite(last) else f"age {first:g} and more"
        yield name, (first, last)


PEOPLE: dict[str, Callable[[pd.DataFrame], str]] = {
    "recordings": _recordings,
    "of these drawn at random": _natural,
    "patients": _patients,
    "age, median (quartiles)": _age,
    **{name: partial(_band, *band) for name, band in _bands((0, 18, 40, 60, 80, np.inf))},
    "age unknown": _unknown_age,
    "female": partial(_sex, "female"),
    "male": partial(_sex, "male"),
    "sex unknown": partial(_sex, None),
}
"""Row of the table -> what it says of the recordings of a fold."""


if __name__ == "__main__":
    main()
