"""Lead names in every spelling, and the standard 12-lead form of a recording."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubert_ecg.ecg.leads import STANDARD_LEADS, canonical_lead, signed_lead
from hubert_ecg.ecg.recording import MissingLeads, Recording, standard_12_lead
from hubert_ecg.errors import ConfigError, RecordingError


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("I", "I"),
        (" ii ", "II"),
        ("Lead III", "III"),
        ("ECG I", "I"),
        ("EKG II", "II"),
        ("ECG_Lead_I", "I"),
        ("lead_ii", "II"),
        ("leadIII", "III"),
        ("DI", "I"),
        ("D2", "II"),
        ("DIII", "III"),
        ("L1", "I"),
        ("LII", "II"),
        ("MDC_ECG_LEAD_AVR", "aVR"),
        ("MDC_ECG_LEAD_V1", "V1"),
        ("MDC_ECG_ELEC_POTL_III", "III"),
        ("AVR", "aVR"),
        ("avl", "aVL"),
        ("aV F", "aVF"),
        ("ECG-aVR", "aVR"),
        ("V 3", "V3"),
        ("v-6", "V6"),
        ("C1", "V1"),
        ("EKG V5", "V5"),
        ("Ⅱ", "II"),
        ("Lead I (Einthoven)", "I"),
        ("aVR, augmented voltage, right", "aVR"),
    ],
)
def test_spellings_of_leads(name: str, lead: str) -> None:
    assert canonical_lead(name) == lead
    assert signed_lead(name) == (lead, 1)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ECG",
        "lead",
        "1",
        "ECG 1",
        "Lead 1",
        "MLII",
        "CM5",
        "V7",
        "VR",
        "I-II",
        "I I",
        "-I",
        "V1-V2",
        "C3-A2",
        "EEG C3",
    ],
)
def test_what_may_mean_something_else_is_no_lead(name: str) -> None:
    assert canonical_lead(name) is None
    assert signed_lead(name) == (None, 0)


@pytest.mark.parametrize("name", ["-aVR", "- avr", "MDC_ECG_LEAD_AVRneg"])
def test_the_inverted_lead_is_not_mistaken_for_avr(name: str) -> None:
    assert canonical_lead(name) is None
    assert signed_lead(name) == ("aVR", -1)


@given(st.text(max_size=12))
def test_any_text_is_a_lead_or_none(name: str) -> None:
    lead, sign = signed_lead(name)
    assert (lead, sign) == (None, 0) or (lead in STANDARD_LEADS and sign in (1, -1))


def recording(*names: str, samples: np.ndarray | None = None) -> Recording:
    if samples is None:
        samples = np.random.default_rng(4).normal(size=(len(names), 50)).astype(np.float32)
    return Recording(samples=samples, sampling_rate_hz=100, lead_names=names, record_id="r")


def test_leads_in_any_order_and_spelling_come_in_standard_order() -> None:
    shuffled = [STANDARD_LEADS[k] for k in np.random.default_rng(1).permutation(12)]
    source = recording(*(f"MDC_ECG_LEAD_{name.upper()}" for name in shuffled))
    standard = standard_12_lead(source)
    assert (standard.lead_names, standard.findings) == (STANDARD_LEADS, ())
    for row, lead in zip(standard.samples, STANDARD_LEADS, strict=True):
        np.testing.assert_array_equal(row, source.samples[shuffled.index(lead)])
    assert standard_12_lead(standard) is standard


def test_limb_leads_are_derived_by_einthoven_and_goldberger() -> None:
    samples = np.zeros((8, 3), np.float32)
    samples[0], samples[1] = [1.0, 0.0, 2.0], [3.0, 1.0, 0.0]
    standard = standard_12_lead(recording("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", samples=samples))
    np.testing.assert_array_equal(standard.samples[2:6], [[2, 1, -2], [-2, -0.5, -1], [-0.5, -0.5, 2], [2.5, 1, -1]])
    assert [(f.kind, f.severity, f.lead) for f in standard.findings] == [
        ("derived lead", "info", lead) for lead in ("III", "aVR", "aVL", "aVF")
    ]


def test_recorded_limb_leads_are_kept_and_only_the_missing_one_is_derived() -> None:
    names = [lead for lead in STANDARD_LEADS if lead != "aVL"]
    source = recording(*names)
    standard = standard_12_lead(source)
    np.testing.assert_array_equal(standard.samples[2], source.samples[2])
    assert [finding.lead for finding in standard.findings] == ["aVL"]


def test_inverted_avr_is_turned_over_unless_avr_itself_is_there() -> None:
    names = ["-aVR" if lead == "aVR" else lead for lead in STANDARD_LEADS]
    source = recording(*names)
    np.testing.assert_array_equal(standard_12_lead(source).samples[3], -source.samples[3])
    both = recording(*STANDARD_LEADS, "-aVR")
    np.testing.assert_array_equal(standard_12_lead(both).samples[3], both.samples[3])


def test_missing_leads_are_refused_by_name() -> None:
    with pytest.raises(RecordingError, match="missing V5, V6") as caught:
        standard_12_lead(recording(*STANDARD_LEADS[:10]))
    assert caught.value.reason == "missing leads"


def test_missing_leads_are_rows_of_nan_and_findings_where_that_is_allowed() -> None:
    source = recording("II", "V5", "resp")
    standard = standard_12_lead(source, missing="zero")
    assert standard.lead_names == STANDARD_LEADS
    np.testing.assert_array_equal(standard.samples[[1, 10]], source.samples[:2])
    absent = [row for row in range(12) if row not in (1, 10)]
    assert np.isnan(standard.samples[absent]).all()
    assert [(f.kind, f.severity, f.lead) for f in standard.findings] == [
        ("missing lead", "warning", STANDARD_LEADS[row]) for row in absent
    ]
    assert standard.samples.dtype == np.float32


def test_derivation_comes_before_zero_filling() -> None:
    standard = standard_12_lead(recording("I", "II"), missing="zero")
    assert np.isfinite(standard.samples[:6]).all()
    assert np.isnan(standard.samples[6:]).all()


@pytest.mark.parametrize("missing", ["refuse", "zero"])
def test_a_recording_of_no_known_lead_is_refused(missing: MissingLeads) -> None:
    with pytest.raises(RecordingError) as caught:
        standard_12_lead(recording("unknown"), missing=missing)
    assert caught.value.reason == "missing leads"


def test_c3_and_c4_of_an_eeg_are_no_chest_leads() -> None:
    standard = standard_12_lead(recording("ECG I", "ECG II", "C3", "C4"), missing="zero")
    assert np.isnan(standard.samples[6:]).all()
    european = [*STANDARD_LEADS[:6], "C1", "C2", "C3", "C4", "C5", "C6"]
    assert np.isfinite(standard_12_lead(recording(*european)).samples).all()


def test_a_lead_that_stands_twice_and_an_unknown_policy_are_refused() -> None:
    with pytest.raises(RecordingError, match="lead II stands twice") as caught:
        standard_12_lead(recording("II", "Lead II"))
    assert caught.value.reason == "duplicate lead"
    with pytest.raises(ConfigError, match="wanted refuse or zero"):
        standard_12_lead(recording("II"), missing="guess")  # type: ignore[arg-type]


def test_a_long_list_of_names_is_cut_in_the_message() -> None:
    with pytest.raises(RecordingError, match=r"and 25 more; missing I, II"):
        standard_12_lead(recording(*(f"x{k}" for k in range(40))))
