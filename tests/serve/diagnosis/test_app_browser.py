"""The app in a real browser before the real service: every format, a batch, the PDF, the keyboard, contrast."""

import io
import os
import re
import signal
import socket
import subprocess
import zipfile
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, FilePayload, Locator, Page, expect, sync_playwright

from tests.serve.diagnosis.ecg_files import IDENTIFIERS, Files, files_of, npy, npy_shapes, samples_mv
from tests.serve.diagnosis.running_app import RunningApp, browser_path, running_app, wait_for
from tests.serve.openai_server import KEY, OpenAIServer, openai_server
from tests.serve.service import free_port, save_classifier

pytestmark = pytest.mark.slow

WAIT_MS = 120_000
LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
SAMPLES = samples_mv("CLBBB")
FILES = files_of(SAMPLES)


@pytest.fixture(scope="module")
def writer() -> Iterator[OpenAIServer]:
    with openai_server() as server:
        yield server


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, writer: OpenAIServer) -> Iterator[RunningApp]:
    """`make app`: the service with a small checkpoint, and the app; in the end Ctrl-C, which must end both."""
    checkpoint = save_classifier(tmp_path_factory.mktemp("app") / "classifier")
    port = free_port()
    flags = (f"CHECKPOINT={checkpoint}", f"APP_FLAGS=--service_port {port}")
    environment = {"OPENAI_BASE_URL": writer.base_url, "HUBERT_ECG_REPORT_TIMEOUT_S": "3"}
    with running_app(*flags, environment=environment, through_make=True) as found:
        wait_for(f"http://127.0.0.1:{port}/ready", found)
        yield found
        assert found.end() in (0, -signal.SIGINT)  # make itself ends by the signal, once its children have ended
        for address in (found.url, f"http://127.0.0.1:{port}"):
            with pytest.raises(httpx.TransportError):
                httpx.get(address, trust_env=False)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=browser_path(), args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, app: RunningApp) -> Iterator[Page]:
    """A page of the app; in the end there must have been no error in its console."""
    with opened(chromium, app.url) as found:
        yield found


class opened:  # noqa: N801 - a context manager
    """A new browser session at an address; leaving it asserts that its console held no error."""

    def __init__(self, browser: Browser, url: str, size: dict[str, int] = LAPTOP) -> None:
        self.context = browser.new_context(viewport=size, accept_downloads=True)  # type: ignore[arg-type]
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.errors: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        expect(self.page.get_by_text("Not a diagnosis.")).to_be_visible(timeout=WAIT_MS)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.context.close()
        if kind is None:
            assert self.errors == []


def upload(page: Page, *files: tuple[str, bytes]) -> None:
    payloads: list[FilePayload] = [
        {"name": name, "mimeType": "application/octet-stream", "buffer": content} for name, content in files
    ]
    page.locator("input[type=file]").set_input_files(payloads)


def give_rate(page: Page) -> None:
    page.get_by_label("Sampling rate in Hz").fill("500")
    page.get_by_role("button", name="Continue").click()


def settled(page: Page) -> None:
    """Until Streamlit has drawn everything; what was typed or clicked just before may not have reached it at first."""
    for _ in range(2):
        page.wait_for_timeout(400)
        expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible(timeout=WAIT_MS)


def drawn_leads(page: Page) -> int:
    """How many curves the picture of the ECG holds, which must have been drawn."""
    assert page.locator(".hx-paper img").evaluate("image => image.complete && image.naturalWidth > 500")
    return svg_of(page).count("data-lead=")


def svg_of(page: Page) -> str:
    source = page.locator(".hx-paper img").get_attribute("src", timeout=WAIT_MS)
    assert source is not None
    return b64decode(source.split(",", 1)[1]).decode()


def verdict(page: Page) -> Locator:
    return page.locator(".hx-verdict")


def sample(page: Page, name: str = "Atrial fibrillation") -> None:
    page.get_by_role("button", name=name).click()
    expect(verdict(page)).to_be_visible(timeout=WAIT_MS)
    settled(page)


@pytest.mark.parametrize("kind", FILES)
def test_each_format_is_shown_and_answered(page: Page, kind: str) -> None:
    upload(page, *FILES[kind])
    if kind in ("npy", "csv"):
        give_rate(page)
    expect(verdict(page)).to_be_visible(timeout=WAIT_MS)
    settled(page)
    assert drawn_leads(page) == 13
    expect(page.locator(".hx-bar")).to_have_count(6)
    shown = page.inner_text("body")
    assert not any(word in shown for word in IDENTIFIERS)


@pytest.mark.parametrize("shape", ["samples, leads", "batch, leads, samples", "samples"])
def test_shapes_of_arrays(page: Page, shape: str) -> None:
    upload(page, ("ecg.npy", npy(npy_shapes(SAMPLES)[shape])))
    give_rate(page)
    if shape.startswith("batch"):
        page.get_by_role("button", name="Process 2 ECGs as a batch").click()
        expect(page.get_by_test_id("stDataFrame")).to_be_visible(timeout=WAIT_MS)
        return
    if shape == "samples":
        expect(page.get_by_text("One lead is not enough for the model")).to_be_visible(timeout=WAIT_MS)
        settled(page)
        assert drawn_leads(page) == 1
        expect(page.get_by_role("rowheader", name="Heart rate")).to_be_visible()
        return
    expect(verdict(page)).to_be_visible(timeout=WAIT_MS)


def test_a_batch_of_five_is_sorted_opened_and_downloaded(page: Page) -> None:
    five: Files = tuple(pair for kind in ("npz", "wfdb dat", "edf", "dicom", "muse") for pair in FILES[kind])
    upload(page, *five)
    page.get_by_role("button", name="Process 5 ECGs as a batch").click()
    expect(page.get_by_role("heading", name="5 ECGs")).to_be_visible(timeout=WAIT_MS)
    settled(page)
    with page.expect_download(timeout=WAIT_MS) as table:
        page.get_by_role("button", name="Table as CSV").click()
    rows = Path(table.value.path()).read_text("utf-8-sig").splitlines()
    assert len(rows) == 6
    with page.expect_download(timeout=WAIT_MS) as packed:
        page.get_by_role("button", name="All PDFs as a zip").click()
    with zipfile.ZipFile(io.BytesIO(Path(packed.value.path()).read_bytes())) as archive:
        names = archive.namelist()
        assert sum(name.endswith(".pdf") for name in names) == 6
        assert not any(word in name for name in names for word in IDENTIFIERS)
    # One click on the first cell of a row opens its ECG: the table is a canvas, so by place.
    box = page.get_by_test_id("stDataFrame").locator("canvas").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 30, box["y"] + 36 * 2.5)
    expect(page.get_by_role("heading", name="ecg.hea")).to_be_visible(timeout=WAIT_MS)
    page.get_by_role("button", name="All 5 ECGs").click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible(timeout=WAIT_MS)


def test_the_pdf_holds_what_was_typed_and_what_was_found(page: Page, tmp_path: Path) -> None:
    sample(page)
    page.get_by_label("Name", exact=True).fill("Zoë Müller-Λάμδα")
    page.get_by_label("Patient ID").fill("ID-4711")
    page.keyboard.press("Tab")
    settled(page)
    with page.expect_download(timeout=WAIT_MS) as file:
        page.get_by_role("button", name="Download the PDF").click()
    path = tmp_path / "report.pdf"
    file.value.save_as(path)
    assert path.read_bytes().startswith(b"%PDF")
    if os.path.exists("/usr/bin/pdftotext"):
        text = subprocess.run(
            ["pdftotext", "-layout", str(path), "-"], capture_output=True, text=True, check=True
        ).stdout
        assert "Zoë Müller-Λάμδα" in text
        assert "ID-4711" in text
        assert "not a diagnosis" in text.lower()


def test_what_spoke_for_a_condition_lies_over_the_ecg(page: Page) -> None:
    sample(page)
    assert 'class="attribution"' not in svg_of(page)
    page.get_by_label("Show what spoke for").click()
    page.get_by_role("option", name="Atrial fibrillation").click()
    expect(page.get_by_text("Integrated gradients")).to_be_visible(timeout=WAIT_MS)
    assert 'class="attribution"' in svg_of(page)


def test_callipers_measure(page: Page) -> None:
    sample(page)
    page.get_by_text("Zoom and calipers").click()
    plot = page.get_by_test_id("stPlotlyChart").first
    expect(plot).to_be_visible(timeout=WAIT_MS)
    settled(page)
    plot.hover()
    plot.locator('[data-title="Draw line"]').click()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 120)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 120, steps=5)
    page.mouse.up()
    expect(plot.get_by_text(re.compile(r"Δ \d+ ms"))).to_be_visible(timeout=WAIT_MS)


def tabbed_to(page: Page, target: Locator, most: int = 80) -> None:
    """Press Tab until the element has the focus; whatever has it meanwhile must show it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            continue
        shown = page.evaluate(
            """() => { for (let e = document.activeElement; e; e = e.parentElement) {
                 const s = getComputedStyle(e);
                 if (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2) return '';
                 if (/0px 0px 0px [1-9]/.test(s.boxShadow) || s.boxShadow.includes('inset')) return '';
                 if (e.dataset && e.dataset.testid === 'stElementContainer') break; }
               return document.activeElement.outerHTML.slice(0, 200); }"""
        )
        assert shown == "", f"has the focus and does not show it: {shown}"
        if target.evaluate("element => element === document.activeElement || element.contains(document.activeElement)"):
            return
    raise AssertionError("Tab does not reach it")


def test_by_keyboard_alone_a_sample_is_opened_read_and_saved(page: Page) -> None:
    settled(page)
    tabbed_to(page, page.get_by_test_id("stFileUploaderDropzone").get_by_test_id("stBaseButton-secondary"))
    tabbed_to(page, page.get_by_role("button", name="Atrial flutter"))
    page.keyboard.press("Enter")
    expect(verdict(page)).to_be_visible(timeout=WAIT_MS)
    settled(page)
    tabbed_to(page, page.get_by_role("region", name="ECG on paper"))
    tabbed_to(page, page.get_by_role("button", name="Download the PDF"))
    with page.expect_download(timeout=WAIT_MS) as file:
        page.keyboard.press("Enter")
    assert Path(file.value.path()).read_bytes().startswith(b"%PDF")


IN_STREAMLITS_OWN = {"scrollable-region-focusable"}
"""Rules that Streamlit's own frame breaks, where an app cannot reach."""


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_contrast_and_the_other_rules_of_wcag_aa(chromium: Browser, app: RunningApp, size: dict[str, int]) -> None:
    with opened(chromium, app.url, size) as page:
        settled(page)
        assert_accessible(page)
        sample(page)
        assert_accessible(page)
        wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
        assert wide, "the page is wider than the screen"


def assert_accessible(page: Page) -> None:
    results = Axe().run(page, options={"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa"]}})
    violations = [each for each in results.response["violations"] if each["id"] not in IN_STREAMLITS_OWN]
    told = [(each["id"], node["html"][:200], node["failureSummary"]) for each in violations for node in each["nodes"]]
    assert told == []


def consent(page: Page, model: str) -> None:
    page.get_by_text("Let a language model write it").click()
    page.get_by_label("Language model", exact=True).fill(model)
    page.get_by_label("Key", exact=True).fill(KEY)
    page.keyboard.press("Tab")
    expect(page.get_by_text(f"model {model}:")).to_be_visible(timeout=WAIT_MS)
    settled(page)
    page.get_by_text(re.compile("I agree to send")).click()
    expect(page.get_by_role("button", name="Write the report")).to_be_enabled(timeout=WAIT_MS)


def test_a_report_is_written_after_consent_from_what_was_shown_and_nothing_else(
    page: Page, writer: OpenAIServer
) -> None:
    upload(page, *FILES["dicom"])
    expect(verdict(page)).to_be_visible(timeout=WAIT_MS)
    settled(page)
    page.get_by_label("Name", exact=True).fill("Maria Roe")
    before = len(writer.requests)
    consent(page, "stepwise")
    shown = page.locator(".hx-sent").inner_text()
    assert len(writer.requests) == before
    page.get_by_role("button", name="Write the report").click()
    expect(page.get_by_text("First piece.")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_text("Second piece.")).to_have_count(0)
    writer.go_on.set()
    expect(page.get_by_text("Second piece.")).to_be_visible(timeout=WAIT_MS)
    writer.go_on.clear()
    [request] = writer.requests[before:]
    told = request["body"]["messages"][-1]["content"]
    url = told[1]["image_url"]["url"]
    body = str(request["body"]).replace(url, "")  # any three letters may stand in a picture's code
    for word in (*IDENTIFIERS, "Roe", "2020", "ecg.dcm"):
        assert word not in body
    assert told[0]["text"] in shown
    assert url.startswith("data:image/png;base64,")


def test_a_text_that_contradicts_the_numbers_is_flagged(page: Page) -> None:
    sample(page)
    consent(page, "false")
    page.get_by_role("button", name="Write the report").click()
    expect(page.get_by_text("This text contradicts the numbers")).to_be_visible(timeout=WAIT_MS)


@pytest.mark.parametrize(
    ("model", "said"), [("rate-limited", "Try again in 7 s"), ("silent", "in time"), ("refuses", "refused")]
)
def test_a_writer_that_fails_is_explained(page: Page, model: str, said: str) -> None:
    sample(page)
    consent(page, model)
    page.get_by_role("button", name="Write the report").click()
    told = page.get_by_text(re.compile("The report above stays as it is"))
    expect(told).to_be_visible(timeout=WAIT_MS)
    assert said in told.inner_text()
    assert KEY not in page.inner_text("body")


def test_a_service_that_is_down_is_told_and_the_ecg_is_shown(chromium: Browser) -> None:
    with running_app("--service_url", f"http://127.0.0.1:{free_port()}") as app, opened(chromium, app.url) as page:
        expect(page.get_by_text("The service cannot be reached.")).to_be_visible(timeout=WAIT_MS)
        page.get_by_role("button", name="Try again").click()
        settled(page)
        page.get_by_role("button", name="Atrial flutter").click()
        expect(page.locator(".hx-paper img")).to_be_visible(timeout=WAIT_MS)
        settled(page)
        assert drawn_leads(page) == 13
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        assert_accessible(page)


def test_a_service_that_does_not_answer_in_time_is_told_and_the_ecg_is_shown(chromium: Browser) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections and says nothing
        flags = ("--service_url", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with (
            running_app(*flags, environment={"HUBERT_ECG_APP_TIMEOUT_S": "1"}) as app,
            opened(chromium, app.url) as page,
        ):
            page.get_by_role("button", name="Atrial flutter").click()
            expect(page.get_by_text("The service took too long to answer.", exact=True)).to_be_visible(timeout=WAIT_MS)
            settled(page)
            assert drawn_leads(page) == 13
            assert_accessible(page)


def test_what_the_service_refuses_is_told_with_what_to_do_and_shown(page: Page) -> None:
    names = ("I", "II", "III", "aVR", "aVL", "aVF")
    rows = [",".join(names), *(",".join(f"{value:.3f}" for value in row) for row in SAMPLES[:6].T)]
    upload(page, ("limb.csv", "\n".join(rows).encode()))
    give_rate(page)
    expect(page.get_by_text("The service cannot judge this recording")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_text("The model needs all twelve leads")).to_be_visible()
    settled(page)
    assert drawn_leads(page) >= 6
    expect(page.get_by_role("rowheader", name="Heart rate")).to_be_visible()
    assert_accessible(page)


def test_nothing_that_was_uploaded_is_written_to_a_disk(chromium: Browser, app: RunningApp) -> None:
    def one_session() -> list[str]:
        before = len(app.written())
        with opened(chromium, app.url) as page:
            upload(page, ("large.npz", large), *FILES["dicom"], *FILES["wfdb dat"])
            page.get_by_role("button", name="Process 3 ECGs as a batch").click()
            expect(page.get_by_role("heading", name="3 ECGs")).to_be_visible(timeout=WAIT_MS)
            settled(page)
        return app.written()[before:]

    buffer = io.BytesIO()
    np.savez(buffer, ecg=np.tile(SAMPLES, 12), fs=500)
    large = buffer.getvalue()
    assert len(large) > 2 << 20
    one_session()  # what is read for the first time may be compiled or cached
    assert one_session() == []
