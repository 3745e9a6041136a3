"""The app's pages before the real service: what it says is what the library says."""

from collections.abc import Iterator

import numpy as np
import pytest

import hubert_ecg
from hubert_ecg.ecg.simulate import CONDITIONS
from serve.diagnosis.samples import sample
from serve.diagnosis.service import Answer
from serve.diagnosis.session import Session
from serve.schemas import ExplanationOut
from tests.serve.diagnosis.app import checked, clicked, html_of, opened, uploaded, words_of
from tests.serve.diagnosis.ecg_files import files_of, samples_mv
from tests.serve.service import KEY, Service, running, save_classifier

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_classifier(tmp_path_factory.mktemp("app") / "classifier")


@pytest.fixture(scope="module")
def service(checkpoint: str) -> Iterator[Service]:
    with running({"small": checkpoint}, cpus_per_replica=0.5) as found:
        yield found


@pytest.fixture(autouse=True)
def its_address(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBERT_ECG_SERVICE_URL", service.url)
    monkeypatch.setenv("HUBERT_ECG_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_sample_is_answered_as_the_library_answers_it(checkpoint: str) -> None:
    page = clicked(opened(), "sample-CLBBB")
    outcome = page.session_state["held"].outcomes[0]
    assert isinstance(outcome, Answer)
    expected = hubert_ecg.load(checkpoint).predict(sample("CLBBB")).probabilities
    assert [label.probability for label in outcome.prediction.labels] == pytest.approx(expected, abs=1e-4)
    assert html_of(page).count('class="hx-bar') == len(CONDITIONS)
    assert "What the model says" in words_of(page)
    assert "small" in words_of(page)


def test_what_spoke_for_a_condition_is_asked_once_and_drawn() -> None:
    page = clicked(opened(), "sample-AFIB")
    assert "attribution" not in html_of(page)
    page.selectbox(key="explain-0").set_value("AFIB").run()
    assert 'class="attribution"' in html_of(checked(page))
    held: Session = page.session_state["held"]
    explanation = held.explanations[0, "AFIB"]
    assert isinstance(explanation, ExplanationOut)
    assert np.array(explanation.attributions).shape == (12, 1000)


def test_a_batch_of_samples_is_answered_and_each_ecg_opened() -> None:
    page = clicked(opened(), "sample-all")
    frame = page.dataframe[0].value
    assert len(frame) == 6
    assert frame[list(CONDITIONS)].notna().all().all()
    page.selectbox(key="open-choice").set_value(3).run()
    page = clicked(page, "open")
    assert "Complete left bundle branch block (simulated)" in words_of(page)


def test_a_files_age_reaches_the_service_and_its_name_does_not(service: Service) -> None:
    page = uploaded(opened(), *files_of(samples_mv())["muse"])
    held: Session = page.session_state["held"]
    [ecg] = held.ecgs.values()
    assert ecg.recording.age_years == 63
    assert isinstance(held.outcomes[0], Answer)
    assert "muse" not in "".join(service.said())
    assert "63 years" in words_of(page)


def test_without_the_services_key_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBERT_ECG_API_KEY")
    page = opened()
    assert "The service wants a key that this app does not have" in words_of(page)
    page = clicked(page, "sample-NORM")
    assert html_of(page).count("data-lead=") == 13
