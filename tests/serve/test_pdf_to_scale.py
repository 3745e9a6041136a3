"""The PDF's ECG measured on the picture that poppler makes of it: millimetres of paper per second and per millivolt."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.ecg.leads import STANDARD_LEADS
from serve.paper.layout import PaperStyle, sheet_of
from serve.pdf import PatientFields, report_pdf
from serve.printing.ecg_page import SHEET_TOP_MM
from serve.report.facts import Facts
from tests.serve.paper.sheets import DOTS_PER_MM, RATE_HZ, ink, page_pixels, runs, spikes

FACTS = Facts(
    model="demo",
    fingerprint="3fa9c1",
    task="multi_label",
    labels=(),
    measurements=None,
    findings=(),
    out_of_scope=(),
    abstained=False,
    abstain_reason=None,
)
LEFT_MM = (297.0 - 270.0) / 2
TOLERANCE_MM = 0.3


def picture(style: PaperStyle, samples: np.ndarray, folder: Path) -> np.ndarray:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    pdf = report_pdf(PatientFields(), samples, RATE_HZ, STANDARD_LEADS, FACTS, "", style=style, printed_at=at)
    return page_pixels(pdf, 1, folder)


def rising_mm(black: np.ndarray, y_mm: float, from_mm: float) -> np.ndarray:
    """Where, right of `from_mm`, the ink that crosses the height `y_mm` of the page begins, mm of the page."""
    found = np.array([(first + last) / 2 for first, last in runs(black[round(y_mm * DOTS_PER_MM)])]) / DOTS_PER_MM
    return np.asarray(found[found > from_mm])


@pytest.mark.parametrize(("speed", "gain"), [(25, 10), (50, 10), (25, 20), (50, 20), (25, 5)])
def test_a_second_and_a_millivolt_are_as_long_as_they_should_be(speed: int, gain: int, tmp_path: Path) -> None:
    style = PaperStyle(speed_mm_s=speed, gain_mm_mv=gain)
    black = ink(picture(style, spikes(), tmp_path))
    zero_mm = SHEET_TOP_MM + sheet_of(STANDARD_LEADS, 10.0, style).lines_mm[-1]
    # Halfway up the rhythm strip each square wave is crossed twice, 40 ms apart.
    flanks = rising_mm(black, zero_mm - gain / 2, LEFT_MM + 15.0 + 0.5 * speed)
    # What begins where the page ends is left out.
    rises = flanks[flanks < LEFT_MM + 15.0 + 249.0][::2]
    seconds = np.arange(1, 1 + len(rises))
    assert len(rises) == 250 // speed - 1
    assert rises == pytest.approx(LEFT_MM + 15.0 + seconds * speed, abs=TOLERANCE_MM)
    assert np.diff(rises) == pytest.approx(speed, abs=TOLERANCE_MM)
    assert rises[-1] - rises[0] == pytest.approx((len(rises) - 1) * speed, abs=TOLERANCE_MM)
    # The top of the wave in the first second, from its level 0, over the middle of the line.
    column = round((LEFT_MM + 15.0 + 1.02 * speed) * DOTS_PER_MM)
    top_mm, level_mm = heights(black, column, zero_mm, gain, round(LEFT_MM + 15.0 + 0.6 * speed))
    assert level_mm - top_mm == pytest.approx(gain, abs=TOLERANCE_MM)


def heights(black: np.ndarray, column: int, zero_mm: float, gain: int, level_at_mm: float) -> tuple[float, float]:
    """(middle of the line that is highest in a column near `zero_mm`, middle of the line at 0 mV), mm of the page."""
    first = round((zero_mm - gain - 3) * DOTS_PER_MM)
    last = round((zero_mm + 3) * DOTS_PER_MM)
    top = runs(black[first:last, column])[0]
    level = runs(black[first:last, round(level_at_mm * DOTS_PER_MM)])[-1]
    return (first + sum(top) / 2) / DOTS_PER_MM, (first + sum(level) / 2) / DOTS_PER_MM


@pytest.mark.parametrize(("speed", "gain"), [(25, 10), (50, 20)])
def test_the_calibration_pulse_is_a_millivolt_and_a_fifth_of_a_second(speed: int, gain: int, tmp_path: Path) -> None:
    style = PaperStyle(speed_mm_s=speed, gain_mm_mv=gain)
    black = ink(picture(style, spikes(), tmp_path))
    for line_mm in sheet_of(STANDARD_LEADS, 10.0, style).lines_mm:
        zero_mm = SHEET_TOP_MM + line_mm
        flanks = rising_mm(black, zero_mm - gain / 2, LEFT_MM)[:2]
        assert flanks[1] - flanks[0] == pytest.approx(0.2 * speed, abs=TOLERANCE_MM)
        column = round((LEFT_MM + 7.5) * DOTS_PER_MM)
        top_mm, level_mm = heights(black, column, zero_mm, gain, flanks[1] + 0.8)
        assert level_mm - top_mm == pytest.approx(gain, abs=TOLERANCE_MM)


def test_the_grid_has_lines_each_millimetre_and_strong_ones_each_five(tmp_path: Path) -> None:
    pixels = picture(PaperStyle(layout="12x1"), np.zeros((12, 5000)), tmp_path).astype(int)
    # A row of paper between two lines of the grid, above all curves; lines are less green than the paper.
    row = pixels[round((SHEET_TOP_MM + 2.5) * DOTS_PER_MM), :, 1]
    lines_mm = np.array([(a + b) / 2 for a, b in runs(row < 248)]) / DOTS_PER_MM
    lines_mm = lines_mm[(lines_mm > LEFT_MM + 16) & (lines_mm < LEFT_MM + 268)]
    assert np.diff(lines_mm) == pytest.approx(1.0, abs=TOLERANCE_MM)
    assert lines_mm == pytest.approx(
        LEFT_MM + np.arange(len(lines_mm)) + round(lines_mm[0] - LEFT_MM), abs=TOLERANCE_MM
    )
    strong_mm = np.array([(a + b) / 2 for a, b in runs(row < 190)]) / DOTS_PER_MM
    strong_mm = strong_mm[(strong_mm > LEFT_MM + 16) & (strong_mm < LEFT_MM + 268)]
    assert len(strong_mm) == 50
    assert np.diff(strong_mm) == pytest.approx(5.0, abs=TOLERANCE_MM)


def test_a_steep_wave_is_not_drawn_higher_than_it_is(tmp_path: Path) -> None:
    samples = np.zeros((12, 5000))
    samples[:, 1500] = 1.0
    black = ink(picture(PaperStyle(), samples, tmp_path))
    zero_mm = SHEET_TOP_MM + sheet_of(STANDARD_LEADS, 10.0, PaperStyle()).lines_mm[-1]
    column = slice(round((LEFT_MM + 15 + 74) * DOTS_PER_MM), round((LEFT_MM + 15 + 76) * DOTS_PER_MM))
    rows = np.flatnonzero(black[: round((zero_mm - 2) * DOTS_PER_MM), column].any(axis=1))
    tallest_mm = zero_mm - rows[rows > (zero_mm - 20) * DOTS_PER_MM][0] / DOTS_PER_MM
    assert tallest_mm == pytest.approx(10.0, abs=TOLERANCE_MM)


def test_a_curve_too_high_for_the_sheet_ends_at_its_edge(tmp_path: Path) -> None:
    black = ink(picture(PaperStyle(gain_mm_mv=20), spikes(high_mv=10.0), tmp_path))
    above = black[round((SHEET_TOP_MM - 3) * DOTS_PER_MM) : round((SHEET_TOP_MM - 0.3) * DOTS_PER_MM)]
    assert not above[:, round((LEFT_MM + 20) * DOTS_PER_MM) : round((LEFT_MM + 140) * DOTS_PER_MM)].any()
