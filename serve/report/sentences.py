"""A text as the sentences that a check looks at one by one: mark-up gone, lists and table rows each on their own."""

import re
from collections.abc import Iterator

_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|approx|ca|vs|Dr|Fig|resp|p|no)\.|\b[A-Z]\.)$", re.IGNORECASE)
_OWN_LINE = re.compile(r"^\s*(?:[-*•|]|\d+[.)]\s|#{1,6}\s)")
_MARKS = re.compile(r"\*\*|__|`|^\s*(?:[*•]|#{1,6}|-(?!\d)|\d+[.)](?=\s))\s*", re.MULTILINE)
_BOUNDARY = re.compile(r"(?<=[.!?])[\"”’)]?\s+(?=[\"“‘(]?[A-Z0-9+−-])")


def paragraphs(text: str) -> Iterator[list[str]]:
    """The sentences of each paragraph, list item and table row."""
    plain = text.replace("\r\n", "\n").replace("\u2212", "-").replace("\u00a0", " ").replace("\u202f", " ")
    plain = plain.replace("\u2019", "'").replace("\u2011", "-")
    for block in re.split(r"\n\s*\n", plain):
        for piece in _pieces(block):
            words = re.sub(r"\s+", " ", _MARKS.sub("", piece)).strip()
            if words:
                yield list(_sentences(words))


def _pieces(block: str) -> Iterator[str]:
    lines: list[str] = []
    for line in block.split("\n"):
        if _OWN_LINE.match(line) and lines:
            yield "\n".join(lines)
            lines = []
        lines.append(line)
        if line.lstrip().startswith("|"):
            yield line
            lines = []
    yield "\n".join(lines)


def _sentences(words: str) -> Iterator[str]:
    start = 0
    for boundary in _BOUNDARY.finditer(words):
        if not _ABBREVIATION.search(words[start : boundary.start()]):
            yield words[start : boundary.end()].strip()
            start = boundary.end()
    yield words[start:]
