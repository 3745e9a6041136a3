"""The interactive figure has the paper's proportions and measures right; the PNG and the views show what was found."""

import io

import matplotlib.image
import numpy as np
import plotly.graph_objects as go
import pytest

from hubert_ecg.ecg.delineation import delineate
from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.errors import InputError
from serve.paper.figure import Calliper, calliper_of, paper_figure, paper_png
from serve.paper.layout import GAINS_MM_MV, SPEEDS_MM_S, PaperStyle
from serve.paper.views import average_beat_view, heart_rate_view, lead_view


@pytest.mark.parametrize("speed", SPEEDS_MM_S)
@pytest.mark.parametrize("gain", GAINS_MM_MV)
def test_squares_are_square_and_stand_for_what_they_should(speed: int, gain: int) -> None:
    style = PaperStyle(speed_mm_s=speed, gain_mm_mv=gain)
    layout = paper_figure(np.zeros((12, 5000)), 500, STANDARD_LEADS, style).layout
    assert layout.yaxis.scaleanchor == "x"
    # Pixels per mV over pixels per ms; both sides of a square have as many pixels.
    assert layout.yaxis.dtick * layout.yaxis.scaleratio == pytest.approx(layout.xaxis.dtick)
    assert layout.xaxis.dtick == pytest.approx(5000 / speed)
    assert layout.yaxis.dtick == pytest.approx(5 / gain)
    assert layout.xaxis.minor.dtick == pytest.approx(layout.xaxis.dtick / 5)


def test_pointing_tells_the_time_in_the_recording_and_the_voltage() -> None:
    samples = np.zeros((12, 15_000))
    samples[6, 13_000] = 1.5  # V1 at 26 s: one second into its column of the sheet from 20 s on
    figure = paper_figure(samples, 500, STANDARD_LEADS, start_s=20.0)
    trace = next(each for each in figure.data if each.name == "V1")
    top = int(np.argmax(trace.y))
    assert trace.customdata[top] == pytest.approx([26.0, 1.5], abs=0.005)
    assert trace.x[top] == pytest.approx((15 + 125 + 25) / 25 * 1000, abs=5)


def test_a_gap_parts_the_line() -> None:
    samples = np.zeros((1, 1000))
    samples[0, 400:500] = np.nan
    trace = paper_figure(samples, 100, ["II"]).data[1]
    assert np.isnan(trace.y).sum() == 1
    assert len(trace.y) == 901


def test_a_box_and_two_points_are_measured() -> None:
    box = calliper_of({"box": [{"x": [1800.0, 1000.0], "y": [-2.0, -3.2]}], "points": []})
    assert box == Calliper(milliseconds=800.0, millivolts=pytest.approx(1.2))
    assert box is not None
    assert box.per_minute == pytest.approx(75.0)
    assert str(box) == "Δ 800 ms, 75/min, 1.20 mV"
    points = [{"x": 0.0, "y": 9.0}, {"x": 1400.0, "y": -3.0}, {"x": 1000.0, "y": -2.0}]
    assert calliper_of({"box": [], "points": points}) == Calliper(milliseconds=400.0, millivolts=-1.0)
    assert calliper_of({"box": [], "points": points[:1]}) is None
    assert calliper_of({}) is None
    assert Calliper(milliseconds=0.0, millivolts=1.0).per_minute is None


def test_dragging_zooms_or_measures() -> None:
    samples = np.zeros((1, 100))
    assert paper_figure(samples, 100, ["II"]).layout.dragmode == "zoom"
    assert paper_figure(samples, 100, ["II"], measuring=True).layout.dragmode == "select"


def test_the_png_is_the_sheet_at_scale_and_the_same_each_time() -> None:
    samples = np.zeros((1, 1000))
    samples[0, 200:204] = 1.0
    made = paper_png(samples, 100, ["II"])
    assert made == paper_png(samples, 100, ["II"])
    pixels = matplotlib.image.imread(io.BytesIO(made))[..., :3]
    per_mm = 150 / 25.4
    ink = pixels.max(axis=2) < 0.4
    column = ink[:, round((1 + 15 + 50 + 0.4) * per_mm)]
    # 1 mm of margin, 0 mV at 20 mm, the spike's top 10 mm above it.
    assert np.flatnonzero(column)[0] / per_mm == pytest.approx(11.0, abs=0.3)


def test_the_lead_view_marks_each_beat_where_the_truth_has_it() -> None:
    recording, truth = simulate_condition(["NORM"], seed=5, noise_level=0.3)
    figure = lead_view(recording, "II", delineate(recording))
    marks = next(each for each in figure.data if each.name == "middle of a QRS")
    inside = [t for t in truth.r_peak_times_s if 0.3 < t < 9.7]
    assert all(np.abs(marks.x - t).min() < 0.06 for t in inside)
    widths = {each.name: 0 for each in figure.data}
    assert {"P", "QRS", "T", "cleaned"} <= set(widths)
    qrs = [s.x1 - s.x0 for s in figure.layout.shapes if s.fillcolor == "#0072b2"]
    assert np.median(qrs) * 1000 == pytest.approx(truth.qrs_ms, abs=25)


def test_the_heart_rate_view_is_beat_to_beat() -> None:
    recording, truth = simulate_condition(["NORM"], seed=5, noise_level=0.3)
    figure = heart_rate_view(delineate(recording))
    assert np.mean(figure.data[0].y) == pytest.approx(truth.heart_rate_bpm, abs=1.5)


def test_the_average_beat_view_has_a_panel_per_lead() -> None:
    recording, _ = simulate_condition(["CLBBB"], seed=2)
    figure = average_beat_view(delineate(recording))
    assert [note.text for note in figure.layout.annotations] == [f"<b>{lead}</b>" for lead in STANDARD_LEADS]


def reason(figure: go.Figure) -> str:
    assert not figure.data
    return str(figure.layout.annotations[0].text)


def test_where_nothing_was_found_the_views_say_so() -> None:
    flat = Recording(samples=np.full((12, 5000), np.nan, np.float32), sampling_rate_hz=500)
    found = delineate(flat)
    assert "Nothing was recorded in lead V2" in reason(lead_view(flat, "V2", found))
    assert "Fewer than three beats" in reason(heart_rate_view(found))
    assert "no average beat" in reason(average_beat_view(found))
    with pytest.raises(InputError, match="wanted one of"):
        lead_view(flat, "V9", found)
