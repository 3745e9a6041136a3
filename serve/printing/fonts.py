"""The font of the PDFs: DejaVu Sans as matplotlib ships it, so that no font has to be on the machine or be downloaded.

It has Latin with every accent, Greek, Cyrillic, and signs such as ± ° µ Δ; it has no Chinese, Japanese or Korean. Its
Hebrew and Arabic are not used: letters are set from left to right as they come, which would print them backwards.
"""

import unicodedata
from functools import lru_cache
from pathlib import Path

from fpdf import FPDF

from hubert_ecg.errors import InputError

FAMILY = "DejaVu"
_FILES = {"": "DejaVuSans.ttf", "B": "DejaVuSans-Bold.ttf"}
_REPLACEMENT = "\N{WHITE VERTICAL RECTANGLE}"
_MOST_SHOWN = 8


def add_fonts(pdf: FPDF) -> None:
    """Make the font known to a document, regular and bold; what is embedded is only what is used of it."""
    for style, name in _FILES.items():
        pdf.add_font(FAMILY, style, _folder() / name)


def unprintable(text: str) -> str:
    """The characters of a text, each once, that cannot be printed."""
    return "".join(dict.fromkeys(each for each in printable_form(text) if each != "\n" and each not in _known()))


def printable_form(text: str) -> str:
    """The text with letters and their accents put together, line ends made alike, and control characters gone."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\t", " "))
    return "".join(each for each in text if each == "\n" or unicodedata.category(each) not in ("Cc", "Cf", "Cs"))


def required(text: str, what: str) -> str:
    """The printable form of what must not be printed wrongly, a name say. Raises InputError for a character of it that
    cannot be printed."""
    if missing := unprintable(text):
        shown = f"{missing[:_MOST_SHOWN]} …" if len(missing) > _MOST_SHOWN else missing
        raise InputError(
            f"{what}: wanted characters that the PDF can hold (Latin, Greek, Cyrillic), got {shown}; write it in one "
            "of these, or leave it empty and write it on the print"
        )
    return printable_form(text)


def lenient(text: str) -> str:
    """The printable form with an empty box for each character that cannot be printed."""
    missing = set(unprintable(text))
    return "".join(_REPLACEMENT if each in missing else each for each in printable_form(text))


def _folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    """Characters that both weights have, but for letters that are written from right to left."""
    from fontTools.ttLib import TTFont

    tables = [TTFont(_folder() / name, lazy=True).getBestCmap() for name in _FILES.values()]
    both = map(chr, set(tables[0]).intersection(*tables[1:]))
    return frozenset(each for each in both if unicodedata.bidirectional(each) not in ("R", "AL"))
