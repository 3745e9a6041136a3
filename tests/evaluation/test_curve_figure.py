"""Plots for the report: where points land, and that what is written is XML."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from hubert_ecg.evaluation.curve_figure import Line, interval_svg, reliability_line, square_svg
from hubert_ecg.evaluation.reliability import Bin


def test_points_land_in_the_unit_square_with_y_upwards() -> None:
    line = Line(x=np.array([0.0, 0.25, 1.0]), y=np.array([0.0, 0.5, 1.0]), colour="#123456")
    root = ElementTree.fromstring(square_svg([line], x_label="x", y_label="y", title="t", reference="diagonal"))
    paths = [path for path in root.iter() if path.get("stroke") == "#123456"]
    assert [path.get("d") for path in paths] == ["M0.0 100.0L25.0 50.0L100.0 0.0"]
    assert "M0 100L100 0" in {path.get("d") for path in root.iter()}


def test_long_curves_keep_their_ends_and_empty_ones_draw_nothing() -> None:
    x = np.linspace(0, 1, 10_001)
    text = square_svg([Line(x=x, y=x, colour="red")], x_label="", y_label="", title="", reference="0.25")
    path = next(p.get("d") for p in ElementTree.fromstring(text).iter() if p.get("stroke") == "red")
    assert path is not None
    points = path[1:].split("L")
    assert (points[0], points[-1], len(points)) == ("0.0 100.0", "100.0 0.0", 200)
    assert "M0 75.0H100" in text
    assert "blue" not in square_svg([Line(x=x[:0], y=x[:0], colour="blue")], x_label="", y_label="", title="")


def test_reliability_bins_become_dots() -> None:
    line = reliability_line([Bin(recordings=5, predicted=0.2, observed=0.4)], colour="#000")
    root = ElementTree.fromstring(square_svg([line], x_label="", y_label="", title=""))
    (dot,) = [element for element in root.iter() if element.tag.endswith("circle")]
    assert (float(dot.get("cx", 0)), float(dot.get("cy", 0))) == (pytest.approx(20), pytest.approx(60))


def test_an_interval_is_drawn_between_chance_and_one() -> None:
    root = ElementTree.fromstring(interval_svg(0.75, 0.6, 1.0))
    assert [e.get("cx") for e in root.iter() if e.tag.endswith("circle")] == ["50.0"]
    assert "M20.0 5H100.0" in {e.get("d") for e in root.iter()}
    assert len(list(ElementTree.fromstring(interval_svg(0.75, None, None)))) == 2
