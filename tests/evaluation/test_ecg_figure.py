"""The picture of an ECG: curves where the samples say, gaps and shades where they belong."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.recording import STANDARD_LEADS
from hubert_ecg.evaluation.ecg_figure import ecg_svg

SVG = "{http://www.w3.org/2000/svg}"
Points = list[list[tuple[int, int]]]


def panels(svg: str) -> dict[str, ET.Element]:
    """Lead -> its panel, of a picture that must be well-formed."""
    groups = ET.fromstring(svg).findall(f"{SVG}g")
    return dict(zip(STANDARD_LEADS, groups, strict=True))


def curve(panel: ET.Element) -> Points:
    """[stretch][point] (x, y) in units of 4 ms and 0.01 mV, y downwards from 1.5 mV."""
    path = panel.find(f"{SVG}path")
    assert path is not None
    stretches = []
    for start, steps in re.findall(r"M(-?\d+ -?\d+)l([-\d ]+)", path.attrib["d"]):
        moves = np.array([start.split(), *np.array(steps.split()).reshape(-1, 2)], int)
        stretches.append([(int(x), int(y)) for x, y in moves.cumsum(axis=0)])
    return stretches


def shades(panel: ET.Element) -> list[tuple[int, int]]:
    rects = [rect for rect in panel.findall(f"{SVG}rect") if "fill-opacity" in rect.attrib]
    return [(int(rect.attrib["x"]), int(rect.attrib["width"])) for rect in rects]


def finding(severity: str = "warning", **where: object) -> Finding:
    return Finding(kind="flat", severity=severity, detail="d", **where)  # type: ignore[arg-type]


def test_a_step_of_one_millivolt_is_ten_millimetres_high_and_a_gap_is_left_open() -> None:
    samples = np.zeros((12, 100), np.float32)
    samples[1, 50] = 1.0
    samples[1, 60:70] = np.nan
    first, second = curve(panels(ecg_svg(samples, 100))["II"])
    assert first[49:52] == [(122, 150), (125, 50), (128, 150)]
    assert (first[-1], second[0]) == ((148, 150), (175, 150))


def test_a_lead_larger_than_its_row_is_drawn_smaller_and_says_so() -> None:
    samples = np.zeros((12, 100), np.float32)
    samples[0, 50] = 3.0
    panel = panels(ecg_svg(samples, 100))["I"]
    assert min(y for _, y in curve(panel)[0]) == 0
    assert panel.findtext(f"{SVG}text") == "I (1/2.0)"


def test_thinning_keeps_every_spike() -> None:
    samples = np.zeros((12, 5000), np.float32)
    samples[:, 1234] = 1.0
    points = curve(panels(ecg_svg(samples, 500))["V6"])[0]
    assert len(points) <= 1000
    peak = min(points, key=lambda point: point[1])
    assert peak[1] == 50
    assert peak[0] == pytest.approx(1234 / 500 * 250, abs=5)


def test_a_lead_of_nothing_and_one_sample_are_drawn() -> None:
    samples = np.full((12, 20), np.nan, np.float32)
    samples[3, 4] = 0.2
    found = panels(ecg_svg(samples, 100))
    assert curve(found["I"]) == []
    assert found["aVR"].find(f"{SVG}path").attrib["d"] == "M10 150h1"  # type: ignore[union-attr]


def test_shades_lie_where_the_findings_are_in_the_recording() -> None:
    samples = np.zeros((12, 1000), np.float32)
    found = [
        finding(lead="V2", start_s=31.0, end_s=33.0),
        finding(start_s=25.0, end_s=32.0),
        finding(lead="V2", start_s=1.0, end_s=2.0),
        finding(severity="info", lead="V2"),
        finding(),
    ]
    drawn = panels(ecg_svg(samples, 100, start_s=30.0, findings=found))
    assert shades(drawn["V2"]) == [(250, 500), (0, 500)]
    assert shades(drawn["I"]) == [(0, 500)]


def test_attributions_are_bands_of_colour_behind_the_curve() -> None:
    attributions = np.zeros((12, 200))
    attributions[1, 40:80] = 1.0
    attributions[1, 120:160] = -0.5
    attributions[4, 100] = 0.02  # too little to be seen
    drawn = panels(ecg_svg(np.zeros((12, 1000)), 500, attributions=attributions, attribution_rate_hz=100))
    for lead, panel in drawn.items():
        rects = [rect.attrib for rect in panel.findall(f"{SVG}rect") if rect.get("class") == "attribution"]
        if lead != "II":
            assert not rects
            continue
        found = [(r["x"], r["width"], r["fill"], r["fill-opacity"]) for r in rects]
        assert found[0] == ("100", "10", "#d55e00", "0.70")
        assert found[-1] == ("390", "10", "#0072b2", "0.35")
        assert len(found) == 20
        children = list(panel)
        curve_place = next(place for place, child in enumerate(children) if child.tag == f"{SVG}path")
        assert all(place < curve_place for place, child in enumerate(children) if child.get("class"))


def test_without_attributions_there_is_no_colour() -> None:
    plain = ecg_svg(np.zeros((12, 500)), 100)
    assert ecg_svg(np.zeros((12, 500)), 100, attributions=np.zeros((12, 500))) == plain
