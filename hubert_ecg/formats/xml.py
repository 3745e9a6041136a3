"""Read an XML file of bounded size: no entities, nothing fetched, namespaces dropped; and look things up in it."""

import math
from xml.etree.ElementTree import Element, ParseError

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.bounded import read_bounded


def read_xml(path: str, root_name: str) -> Element:
    """The root element, which must be called `root_name`; tags and attributes without their namespaces.

    A document type may be named, as GE MUSE does, but is never fetched; entities of its own are refused.
    Raises RecordingError: `missing file`, `too large`, `unreadable`, `unknown format` (another root element).
    """
    from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
    from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

    content = read_bounded(path)
    try:
        root = fromstring(content)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise RecordingError(
            "unreadable", f"{path}: wanted an XML document without entities; {error!r:.200}"
        ) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in [name for name in element.attrib if "}" in name]:
            element.attrib[name.rpartition("}")[2]] = element.attrib.pop(name)
    if root.tag != root_name:
        raise RecordingError(
            "unknown format", f"{path}: wanted an XML document of {root_name}, got one of {root.tag[:60]}"
        )
    return root


def text_at(element: Element | None, path: str) -> str:
    """Text of the first element at `path` below this one, stripped; empty where there is none."""
    found = element.find(path) if element is not None else None
    return (found.text or "").strip() if found is not None else ""


def attribute_at(element: Element | None, path: str, name: str) -> str:
    """Attribute of the first element at `path` below this one, stripped; empty where there is none."""
    found = element.find(path) if element is not None else None
    return found.get(name, "").strip() if found is not None else ""


def number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def required_number(text: str, what: str) -> float:
    """A finite number. Raises RecordingError (`unreadable`) that names `what`."""
    value = number(text)
    if value is None:
        raise RecordingError("unreadable", f"{what}: wanted a finite number, got {text[:40]!r}")
    return value
