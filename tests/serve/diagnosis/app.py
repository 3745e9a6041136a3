"""The app's page without a browser: run by Streamlit's own test runner, read as a user would."""

import re
from base64 import b64decode
from pathlib import Path

from streamlit.testing.v1 import AppTest

APP = Path(__file__).resolve().parents[3] / "serve" / "streamlit_app.py"


def opened() -> AppTest:
    """The first page."""
    page = AppTest.from_file(str(APP), default_timeout=120)
    page.run()
    return checked(page)


def checked(page: AppTest) -> AppTest:
    """The same page, which must hold no error of the program and the notice."""
    assert not page.exception, [each.value for each in page.exception]
    assert "Not a diagnosis." in html_of(page)
    return page


def html_of(page: AppTest) -> str:
    """All HTML that the app wrote itself, with the pictures in it as SVG."""
    text = "\n".join(element.proto.body for element in page.get("html"))
    return re.sub(r"data:image/svg\+xml;base64,([^\"]+)", lambda found: b64decode(found[1]).decode(), text)


def words_of(page: AppTest) -> str:
    """All that is written on the page, without its markup."""
    texts = [re.sub(r"<[^>]+>", " ", html_of(page))]
    for kind in ("markdown", "caption", "error", "warning", "info", "success"):
        texts += [element.value.replace("\\", "") for element in page.get(kind)]
    return re.sub(r"\s+", " ", " ".join(texts))


def clicked(page: AppTest, key: str) -> AppTest:
    page.button(key=key).click().run()
    return checked(page)


def button(page: AppTest, label: str) -> AppTest:
    """After a click on the button of this label."""
    next(each for each in page.button if each.label == label).click().run()
    return checked(page)


def uploaded(page: AppTest, *files: tuple[str, bytes]) -> AppTest:
    page.file_uploader[0].set_value([(name, content, "application/octet-stream") for name, content in files]).run()
    return checked(page)
