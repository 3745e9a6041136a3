"""The SVG sheet: true millimetres, curves where the samples say, gaps, shades and the filter."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.errors import InputError
from serve.paper.display_filter import display_filter
from serve.paper.layout import PaperStyle
from serve.paper.svg import paper_svg

SVG = "{http://www.w3.org/2000/svg}"


def curves(svg: str) -> list[tuple[str, list[np.ndarray]]]:
    """(lead, its pieces [point, 2] in mm) of each strip, of a picture that must be well-formed."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        path = group.find(f"{SVG}path")
        assert path is not None
        pieces = []
        for start, steps in re.findall(r"M(-?\d+ -?\d+)(?:l([-\d ]+)|h1)", path.attrib["d"]):
            numbers = [int(each) for each in f"{start} {steps}".split()]
            pieces.append(np.array(numbers).reshape(-1, 2).cumsum(axis=0) / 100)
        found.append((group.attrib["data-lead"], pieces))
    return found


def rects(svg: str, kind: str) -> list[tuple[float, float, str]]:
    """(x, width in mm, colour) of the shades of a kind."""
    found = [rect.attrib for rect in ET.fromstring(svg).iter(f"{SVG}rect") if rect.get("class") == kind]
    return [(int(r["x"]) / 100, int(r["width"]) / 100, r["fill"]) for r in found]


def test_a_step_of_one_millivolt_after_one_second_lies_25_mm_in_and_10_mm_up() -> None:
    samples = np.zeros((12, 5000))
    samples[0, 500:] = 1.0
    svg = paper_svg(samples + 300.0, 500, STANDARD_LEADS)
    root = ET.fromstring(svg)
    assert (root.attrib["width"], root.attrib["viewBox"].split()[2]) == ("272mm", "27200")
    lead, (points,) = curves(svg)[0]
    assert lead == "I"
    # The lead's median is the upper level, which is 0 therefore.
    assert points[499].tolist() == [39.95, 30.0]
    assert points[500].tolist() == [40.0, 20.0]
    assert points[-1].tolist() == [77.5, 20.0]


@pytest.mark.parametrize(("gain", "high"), [(5, 5.0), (10, 10.0), (20, 20.0)])
def test_gain_and_speed_scale_the_curve(gain: int, high: float) -> None:
    samples = np.zeros((1, 1000))
    samples[0, 100] = 1.0
    _, (points,) = curves(paper_svg(samples, 100, ["II"], PaperStyle(gain_mm_mv=gain, speed_mm_s=50)))[0]
    assert points[100].tolist() == [65.0, 20.0 - high]


def test_a_gap_is_left_open_and_a_lead_of_nothing_is_named_only() -> None:
    samples = np.zeros((2, 1000))
    samples[0, 300:400] = np.nan
    samples[1] = np.inf
    svg = paper_svg(samples, 100, ["I", "II"], PaperStyle(layout="12x1"))
    (_, (before, after)), (name, nothing) = curves(svg)
    assert (before[-1, 0], after[0, 0]) == (15 + 2.99 * 25, 15 + 4.0 * 25)
    assert (name, nothing) == ("II", [])
    assert ">II</text>" in svg


def test_a_spike_between_the_points_of_a_fast_recording_is_drawn() -> None:
    samples = np.zeros((1, 20_000))
    samples[0, 12_345] = 1.0
    _, (points,) = curves(paper_svg(samples, 2000, ["II"]))[0]
    assert len(points) <= 5001
    assert points[:, 1].min() == 10.0
    assert points[points[:, 1].argmin(), 0] == pytest.approx(15 + 12_345 / 2000 * 25, abs=0.1)


def test_a_short_recording_ends_where_it_ends() -> None:
    svg = paper_svg(np.zeros((12, 1000)), 500, STANDARD_LEADS, PaperStyle(layout="12x1"))
    assert max(points[:, 0].max() for _, pieces in curves(svg) for points in pieces) == 15 + 1.998 * 25
    assert "0.0-2.0 s of 2.0 s" in svg


def test_the_foot_names_scale_filter_and_place() -> None:
    samples = np.random.default_rng(0).normal(size=(12, 15_000))
    off = paper_svg(samples, 500, STANDARD_LEADS, start_s=20.0)
    assert "25 mm/s   10 mm/mV   no display filter   500 Hz   20.0-30.0 s of 30.0 s" in off
    on = paper_svg(samples, 500, STANDARD_LEADS, PaperStyle(filtered=True, gain_mm_mv=20, speed_mm_s=50))
    assert "50 mm/s   20 mm/mV   display filter 0.5-40 Hz" in on
    assert curves(off)[0][1][0].tolist() != curves(on)[0][1][0].tolist()


def test_shades_lie_behind_the_lead_and_time_that_they_are_about() -> None:
    attributions = np.zeros((12, 1000))
    attributions[6, 600:620] = 1.0  # V1, 6.0 to 6.2 s
    attributions[6, 100:120] = 1.0  # outside V1's column
    attributions[1, 600:620] = -1.0  # II: in the rhythm strip only
    findings = [Finding(kind="flat", severity="severe", detail="d", lead="V4", start_s=8.0, end_s=9.0)]
    svg = paper_svg(np.zeros((12, 5000)), 500, STANDARD_LEADS, attributions=attributions, findings=findings)
    shades = rects(svg, "attribution")
    assert [(x, width) for x, width, colour in shades if colour == "#d55e00"] == [
        (140 + 25.0 + k, 1.0) for k in range(5)
    ]
    assert [(x, width) for x, width, colour in shades if colour == "#0072b2"] == [(165.0 + k, 1.0) for k in range(5)]
    assert rects(svg, "finding") == [(202.5 + 12.5, 25.0, "#d55e00")]
    assert "orange speaks for the condition" in svg


def test_hostile_lead_names_stay_text() -> None:
    svg = paper_svg(np.zeros((1, 100)), 100, ['<script>"&'])
    assert "<script" not in svg
    assert curves(svg)[0][0] == '<script>"&'


def test_samples_that_do_not_fit_the_leads_are_refused() -> None:
    with pytest.raises(InputError, match=r"of 12 leads.*\(3, 100\)"):
        paper_svg(np.zeros((3, 100)), 100, STANDARD_LEADS)


@pytest.mark.parametrize(
    ("hz", "least", "most"), [(0.2, 0, 0.1), (0.5, 0.69, 0.73), (5, 0.98, 1.02), (40, 0.69, 0.75), (50, 0, 0.3)]
)
def test_the_display_filter_takes_3_db_at_its_edges(hz: float, least: float, most: float) -> None:
    times = np.arange(15_000) / 500
    filtered = display_filter(np.sin(2 * np.pi * hz * times)[None] + 200.0, 500)[0, 5000:10_000]
    assert least <= np.sqrt(2) * filtered.std() <= most
    assert abs(filtered.mean()) < 0.02


def test_the_display_filter_leaves_gaps_and_short_leads() -> None:
    samples = np.ones((2, 1000))
    samples[0, 10:20] = np.nan
    samples[1] = np.nan
    filtered = display_filter(samples, 100)
    assert np.isnan(filtered[0]).sum() == 10
    assert np.isnan(filtered[1]).all()
    assert np.isfinite(display_filter(np.ones((1, 1)), 500)).all()
