"""The app's pages while no service answers: the ECG is shown and measured all the same, and what to do is said."""

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from serve.paper.figure import paper_png
from serve.report.picture import only_picture
from tests.serve.diagnosis.answers import answer
from tests.serve.diagnosis.app import button, checked, clicked, html_of, opened, uploaded, words_of
from tests.serve.diagnosis.ecg_files import files_of, npy, npy_shapes, samples_mv
from tests.serve.openai_server import KEY, OpenAIServer, openai_server
from tests.serve.service import free_port

SAMPLES = samples_mv("AFIB")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBERT_ECG_SERVICE_URL", f"http://127.0.0.1:{free_port()}")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HUBERT_ECG_REPORT_MODEL"):
        monkeypatch.delenv(name, raising=False)


def test_the_first_page_says_that_the_service_is_down_and_offers_to_look_again() -> None:
    page = opened()
    assert "The service cannot be reached." in words_of(page)
    assert "make serve" in words_of(page)
    clicked(page, "again-start")


def test_a_sample_is_on_paper_and_measured_without_the_service() -> None:
    page = clicked(opened(), "sample-1AVB")
    assert "First-degree AV block (simulated)" in words_of(page)
    assert html_of(page).count("data-lead=") == 13
    assert "Heart rate" in words_of(page)
    assert "PR interval" in words_of(page)
    assert "What the model says" not in words_of(page)
    assert page.button(key="again-0").label == "Try again"


def test_the_papers_controls_change_the_paper() -> None:
    page = clicked(opened(), "sample-NORM")
    seen = {html_of(page)}
    for key, value, mark in (("speed", 50, "50 mm/s"), ("gain", 20, "20 mm/mV"), ("layout", "6x2", "50 mm/s")):
        page.segmented_control(key=key).set_value(value).run()
        assert mark in html_of(checked(page))
        assert html_of(page) not in seen
        seen.add(html_of(page))
    page.toggle(key="filtered").set_value(True).run()
    assert "0.5-40 Hz" in html_of(checked(page))
    page.toggle(key="zoom").set_value(True).run()
    assert len(page.get("plotly_chart")) == 1
    assert "hx-paper" not in html_of(checked(page)).split("</style>")[1]


def test_an_array_is_asked_for_its_rate_and_one_lead_is_refused_but_shown_and_measured() -> None:
    page = uploaded(opened(), ("one.npy", npy(npy_shapes(SAMPLES)["samples"])))
    assert "How many samples per second" in words_of(page)
    page = button(page, "Continue")
    assert "Type the sampling rate" in words_of(page)
    page.number_input[0].set_value(500.0)
    page = button(page, "Continue")
    assert "One lead is not enough for the model" in words_of(page)
    assert html_of(page).count("data-lead=") == 1
    assert "Heart rate" in words_of(page)
    assert all(each.label != "Try again" for each in page.button)


def test_different_files_may_have_different_rates() -> None:
    page = uploaded(opened(), ("a.npy", npy(SAMPLES)), ("b.npy", npy(SAMPLES[:, ::2])))
    page.toggle(key="rates-differ").set_value(True).run()
    for place, rate in enumerate((500.0, 250.0)):
        page.number_input[place].set_value(rate)
    page = button(page, "Continue")
    page = clicked(page, "process")
    held = page.session_state["held"]
    assert [ecg.recording.duration_s for ecg in held.ecgs.values()] == [10.0, 10.0]


def test_files_that_cannot_be_read_are_named_and_the_others_are_taken() -> None:
    page = uploaded(opened(), ("notes.txt", b"dear reader"), *files_of(SAMPLES)["dicom"])
    assert "notes.txt" in words_of(page)
    page = button(page, "Show the ECG that could be read")
    assert "ecg.dcm" in words_of(page)


def test_a_batch_without_a_service_says_so_once_and_still_measures() -> None:
    page = uploaded(opened(), *files_of(SAMPLES)["dicom"], *files_of(SAMPLES)["muse"], *files_of(SAMPLES)["edf"])
    page = clicked(page, "process")
    assert words_of(page).count("The service cannot be reached.") == 1
    frame = page.dataframe[0].value
    assert list(frame["Model"]) == ["no model has judged this ECG"] * 3
    assert frame["Heart rate (/min)"].notna().all()
    page = clicked(page, "open")
    assert "ecg.dcm" in words_of(page)
    page = clicked(page, "next")
    assert "muse.xml" in words_of(page)
    page = clicked(clicked(page, "to-batch"), "add")
    assert page.button(key="back").label == "Back to the 3 ECGs"
    page = clicked(clicked(page, "back"), "clear")
    assert "Or try a sample" in words_of(page)
    assert not page.session_state["held"].ecgs


def test_removing_everything_forgets_what_was_typed_too() -> None:
    page = clicked(opened(), "sample-NORM")
    page.text_input(key="name-0").set_value("Jane Doe").run()
    assert page.session_state["name-0"] == "Jane Doe"
    page = clicked(page, "remove")
    assert "name-0" not in page.session_state
    assert not page.session_state["held"].ecgs


def test_said_age_sex_and_pacemaker_are_taken_over() -> None:
    page = clicked(opened(), "sample-NORM")
    page.number_input[0].set_value(9.0)
    next(each for each in page.selectbox if each.label == "Sex").set_value("female")
    page.checkbox[0].set_value(True)
    page = button(page, "Ask again")
    ecg = page.session_state["held"].ecgs[0]
    assert (ecg.recording.age_years, ecg.recording.sex, ecg.paced) == (9.0, "female", True)
    assert "up to 460 ms" in words_of(page) or "to 460 ms" in words_of(page)


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with openai_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("HUBERT_ECG_REPORT_TIMEOUT_S", "1")
        yield server


def judged() -> AppTest:
    """The page of an ECG about which a service has said something."""
    page = clicked(opened(), "sample-NORM")
    page.session_state["held"].outcomes[0] = answer()
    page.run()
    page.toggle(key="writer").set_value(True).run()
    return checked(page)


def test_a_withheld_answer_is_not_shown_beneath_the_words_that_withhold_it() -> None:
    page = clicked(opened(), "sample-NORM")
    page.session_state["held"].outcomes[0] = answer(abstained=True, abstain_reason="too noisy")
    page.run()
    assert "The model's answer is withheld: too noisy. " in unescape(words_of(checked(page)))
    assert "Not shown, as the answer is withheld." in words_of(page)
    assert "87%" not in words_of(page)


def test_an_explanation_that_failed_is_asked_for_again_only_when_the_user_says_so() -> None:
    page = clicked(opened(), "sample-NORM")
    held = page.session_state["held"]
    held.outcomes[0] = answer()
    page.run()
    page.selectbox(key="explain-0").set_value("AFIB").run()
    first = held.explanations[0, "AFIB"]
    assert first.kind == "down"
    page.run()
    assert held.explanations[0, "AFIB"] is first
    clicked(page, "again-explain-0")
    assert held.explanations[0, "AFIB"] is not first


def asked_to_write(model: str, *, agree: bool = True) -> AppTest:
    page = judged()
    page.text_input(key="writer-model").set_value(model).run()
    consent = next(each for each in page.checkbox if "I agree to send" in each.label)
    assert page.button(key="write").disabled
    if agree:
        consent.set_value(True).run()
        assert not page.button(key="write").disabled
        clicked(page, "write")
    return page


def test_nothing_is_sent_before_the_user_agrees_to_what_is_shown(writer: OpenAIServer) -> None:
    page = asked_to_write("true", agree=False)
    assert writer.requests == []
    shown = unescape(html_of(page))
    page = asked_to_write("true")
    [request] = writer.requests
    for message in request["body"]["messages"]:
        content = message["content"]
        assert (content if isinstance(content, str) else content[0]["text"]) in shown
    assert "No contradiction" in words_of(page)
    assert "The model sees atrial fibrillation" in words_of(page)


def test_the_picture_that_is_sent_is_of_the_sheet_on_the_page(
    writer: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBERT_ECG_REPORT_MODEL", "true")
    page = judged()
    held = page.session_state["held"]
    ecg = held.ecgs[0].recording
    long = np.tile(ecg.samples, 3)
    held.ecgs[0] = replace(held.ecgs[0], recording=replace(ecg, samples=long))
    page.run()
    page.number_input(key="sheet").set_value(3).run()
    next(each for each in page.checkbox if "I agree to send" in each.label).set_value(True).run()
    clicked(page, "write")
    [request] = writer.requests
    address = request["body"]["messages"][1]["content"][1]["image_url"]["url"]
    wanted = paper_png(long, ecg.sampling_rate_hz, ecg.lead_names, start_s=20.0)
    assert b64decode(address.split(",")[1]) == only_picture(wanted)


def test_consent_to_one_place_is_none_to_another(writer: OpenAIServer) -> None:
    page = asked_to_write("true", agree=False)
    next(each for each in page.checkbox if "I agree to send" in each.label).set_value(True).run()
    assert not page.button(key="write").disabled
    page.text_input(key="writer-model").set_value("false").run()
    assert page.button(key="write").disabled
    page.text_input(key="writer-url").set_value("http://localhost:9/v1").run()
    assert page.button(key="write").disabled
    assert writer.requests == []


def test_a_text_that_contradicts_the_numbers_is_flagged(writer: OpenAIServer) -> None:
    page = asked_to_write("false")
    assert "This text contradicts the numbers" in words_of(page)
    assert "There is no evidence of atrial fibrillation." in unescape(html_of(page))
    page = clicked(page, "unwrite")
    assert "This text contradicts" not in words_of(page)


def test_where_no_model_has_judged_there_is_nothing_to_write_about(writer: OpenAIServer) -> None:
    page = clicked(opened(), "sample-NORM")
    page.toggle(key="writer").set_value(True).run()
    assert "No model has judged this ECG" in words_of(page)
    assert not [each for each in page.text_input if each.key == "writer-model"]


@pytest.mark.parametrize(
    ("model", "said"),
    [("rate-limited", "Try again in 7 s"), ("silent", "in time"), ("refuses", "refused"), ("key-unknown", "key")],
)
def test_a_writer_that_fails_leaves_the_report_as_it_is(writer: OpenAIServer, model: str, said: str) -> None:
    page = asked_to_write(model)
    errors = " ".join(error.value for error in page.error)
    assert "The report above stays as it is." in errors
    assert KEY not in words_of(page)
    assert not page.session_state["held"].written
    assert said in errors


def test_without_a_key_nothing_can_be_sent_to_the_usual_server() -> None:
    page = judged()
    assert "without one the report of this page stays as it is" in words_of(page)
    assert not [each for each in page.checkbox if "I agree" in each.label]
