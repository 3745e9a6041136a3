"""Where leads lie on the paper, worked out by hand."""

import pytest

from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.errors import ConfigError
from serve.paper.layout import PaperStyle, Sheet, sheet_of, sheet_starts_s, torn

THREE_BY_FOUR = PaperStyle()


def places(sheet: Sheet) -> list[tuple[str, float, float, float]]:
    """(lead, start_s, x_mm, y_mm) of each strip."""
    return [(s.name, round(s.start_s, 6), s.x_mm, s.y_mm) for s in sheet.strips]


def test_three_by_four_has_columns_of_62_5_mm_and_lead_ii_below() -> None:
    sheet = sheet_of(STANDARD_LEADS, 10.0, THREE_BY_FOUR)
    assert (sheet.width_mm, sheet.height_mm) == (270.0, 160.0)
    assert places(sheet) == [
        *[("I", 0.0, 15.0, 20.0), ("II", 0.0, 15.0, 60.0), ("III", 0.0, 15.0, 100.0)],
        *[("aVR", 2.5, 77.5, 20.0), ("aVL", 2.5, 77.5, 60.0), ("aVF", 2.5, 77.5, 100.0)],
        *[("V1", 5.0, 140.0, 20.0), ("V2", 5.0, 140.0, 60.0), ("V3", 5.0, 140.0, 100.0)],
        *[("V4", 7.5, 202.5, 20.0), ("V5", 7.5, 202.5, 60.0), ("V6", 7.5, 202.5, 100.0)],
        ("II", 0.0, 15.0, 140.0),
    ]
    assert [s.seconds for s in sheet.strips] == [2.5] * 12 + [10.0]
    assert [s.name for s in sheet.strips if s.ticked] == list(STANDARD_LEADS[3:])
    assert not sheet.overlapping


def test_six_by_two_has_columns_of_5_s_and_twelve_by_one_all_10_s() -> None:
    six = sheet_of(STANDARD_LEADS, 10.0, PaperStyle(layout="6x2"))
    assert places(six)[5:7] == [("aVF", 0.0, 15.0, 148.0), ("V1", 5.0, 140.0, 13.0)]
    assert len(six.strips) == 12
    twelve = sheet_of(STANDARD_LEADS, 10.0, PaperStyle(layout="12x1"))
    assert places(twelve)[:2] == [("I", 0.0, 15.0, 15.0), ("II", 0.0, 15.0, 27.0)]
    assert {s.seconds for s in twelve.strips} == {10.0}
    assert twelve.height_mm == 165.0


@pytest.mark.parametrize(
    ("speed", "gain", "left", "width"), [(25, 10, 5.0, 5.0), (50, 20, 2.5, 10.0), (25, 5, 5.0, 5.0)]
)
def test_the_pulse_is_a_millivolt_high_and_a_fifth_of_a_second_wide(
    speed: int, gain: int, left: float, width: float
) -> None:
    sheet = sheet_of(STANDARD_LEADS, 10.0, PaperStyle(speed_mm_s=speed, gain_mm_mv=gain))
    points = sheet.pulse_mm(40.0)
    assert points[1:5] == ((left, 40.0), (left, 40.0 - gain), (left + width, 40.0 - gain), (left + width, 40.0))


def test_leads_come_in_the_standard_order_whatever_they_are_called() -> None:
    sheet = sheet_of(["V7", "ecg v1", "MDC_ECG_LEAD_II", "DI"], 10.0, PaperStyle(layout="12x1"))
    assert [(s.name, s.row) for s in sheet.strips] == [("I", 3), ("II", 2), ("V1", 1), ("V7", 0)]


def test_one_lead_has_the_whole_width_and_no_rhythm_strip() -> None:
    sheet = sheet_of(["MLII"], 10.0, THREE_BY_FOUR)
    assert places(sheet) == [("MLII", 0.0, 15.0, 20.0)]
    assert (sheet.strips[0].seconds, sheet.height_mm) == (10.0, 40.0)


def test_eight_leads_fill_three_columns() -> None:
    sheet = sheet_of(["I", "II", *STANDARD_LEADS[6:]], 10.0, THREE_BY_FOUR)
    assert [round(s.seconds, 3) for s in sheet.strips] == [3.333] * 8 + [10.0]
    assert sheet.strips[-1].name == "II"


def test_a_short_recording_has_overlapping_columns_and_one_that_lacks_little_has_not() -> None:
    short = sheet_of(STANDARD_LEADS, 5.0, THREE_BY_FOUR)
    assert [round(s.start_s, 3) for s in short.strips[::3]] == [0.0, 0.833, 1.667, 2.5, 0.0]
    assert short.overlapping
    assert not sheet_of(STANDARD_LEADS, 9.8, THREE_BY_FOUR).overlapping
    tiny = sheet_of(STANDARD_LEADS, 1.0, THREE_BY_FOUR)
    assert {(s.start_s, s.seconds) for s in tiny.strips[:12]} == {(0.0, 1.0)}


def test_long_recordings_are_paged_and_the_last_sheet_is_full() -> None:
    assert sheet_starts_s(25.0) == (0.0, 10.0, 15.0)
    assert sheet_starts_s(10.0) == sheet_starts_s(3.0) == sheet_starts_s(10.05) == (0.0,)
    sheet = sheet_of(STANDARD_LEADS, 25.0, THREE_BY_FOUR, start_s=20.0)
    assert (sheet.start_s, sheet.end_s, sheet.strips[3].start_s) == (15.0, 25.0, 17.5)


def test_at_50_mm_per_s_the_sheet_is_torn_in_two_and_no_second_is_lost() -> None:
    first, second = torn(sheet_of(STANDARD_LEADS, 10.0, PaperStyle(speed_mm_s=50)))
    assert {s.name for s in second.strips} == {*STANDARD_LEADS[6:], "II"}
    assert places(second)[0] == ("V1", 5.0, 15.0, 20.0)
    assert (second.strips[-1].name, second.strips[-1].start_s, second.strips[-1].seconds) == ("II", 5.0, 5.0)
    assert first.width_mm == second.width_mm == 270.0
    one = torn(sheet_of(STANDARD_LEADS, 10.0, PaperStyle(speed_mm_s=50, layout="12x1")))
    assert [sum(s.seconds for s in page.strips) for page in one] == [60.0, 60.0]
    assert len(torn(sheet_of(STANDARD_LEADS, 10.0, THREE_BY_FOUR))) == 1


@pytest.mark.parametrize(("name", "value"), [("speed_mm_s", 30), ("gain_mm_mv", 0), ("layout", "4x3")])
def test_what_is_not_on_offer_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name}: wanted one of"):
        PaperStyle(**{name: value})  # type: ignore[arg-type]


def test_no_lead_is_refused() -> None:
    with pytest.raises(ConfigError, match="wanted one or more"):
        sheet_of([], 10.0, THREE_BY_FOUR)
