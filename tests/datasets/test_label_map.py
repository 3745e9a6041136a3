"""Label maps: what hangs together is one label, what is unknown is left out; shipped ones agree with the codes."""

import pytest

from hubert_ecg.datasets.cinc_codes import CONDITION_CODES, SCORED
from hubert_ecg.datasets.label_map import SHIPPED, JudgedLabel, LabelMap
from hubert_ecg.errors import InputError


def parse(*pairs: str) -> LabelMap:
    return LabelMap.parse("\n".join(["# a comment, with a comma", "checkpoint,data", *pairs]), "map.csv")


def test_several_to_one_and_one_to_several() -> None:
    mapped = parse("CLBBB,1", "CLBBB,2", "IRBBB,3", "CRBBB,3", "GONE,4", "AFIB, 5")
    assert mapped.judged(["AFIB", "CRBBB", "CLBBB", "IRBBB", "NORM"]) == (
        JudgedLabel(name="AFIB", checkpoint=("AFIB",), data=("5",)),
        JudgedLabel(name="CRBBB|IRBBB", checkpoint=("CRBBB", "IRBBB"), data=("3",)),
        JudgedLabel(name="CLBBB", checkpoint=("CLBBB",), data=("1", "2")),
    )


def test_chains_are_followed_to_their_ends() -> None:
    (label,) = parse("a,1", "b,2", "b,1", "c,2").judged(["a", "b", "c"])
    assert (label.checkpoint, label.data) == (("a", "b", "c"), ("1", "2"))


def test_a_map_about_other_labels_is_refused() -> None:
    with pytest.raises(InputError, match="wanted rows about the classifier's labels, X, got rows about a"):
        parse("a,1").judged(["X"])


@pytest.mark.parametrize("text", ["", "checkpoint,data\n", "a,1\n", "checkpoint,data\na\n", "checkpoint,data\na,\n"])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="wanted a row `checkpoint,data`"):
        LabelMap.parse(text, "map.csv")


def test_the_shipped_maps_agree_with_the_challenges_codes() -> None:
    conditions, superclasses = (LabelMap.shipped(name) for name in SHIPPED)
    by_label: dict[str, set[str]] = {}
    for label, code in conditions.pairs:
        by_label.setdefault(label, set()).add(code)
    assert by_label == {label: set(codes) for label, codes in CONDITION_CODES.items()}
    assert len(set(superclasses.pairs)) == len({code for _, code in superclasses.pairs}) == len(superclasses.pairs)
    assert {label for label, _ in superclasses.pairs} == {"MI", "CD", "HYP"}
    blocks = {
        code for name in ("BBB", "CLBBB|LBBB", "CRBBB|RBBB", "IRBBB", "IAVB", "LAnFB") for code in SCORED[name][1]
    }
    assert blocks <= {code for label, code in superclasses.pairs if label == "CD"}
