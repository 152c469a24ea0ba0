"""Reports in a real browser: drawn, quiet, whole, and asking nobody for anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.producer.pages import HOSTILE, PAGES, run_page

LOOK = Path(__file__).with_name("look_at_report.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    assert found, "no browser: apt-get install chromium (scripts/test does it)"
    # Without a user's name spaces, as in containers, its sandbox cannot start.
    options = ["--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += ["--no-sandbox"] if os.geteuid() == 0 or os.environ.get("CI") else []
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=options)
        yield started
        started.close()


class Seen:
    """A report as a browser shows it, and what the browser said and asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda one: self.said.append(f"{one.type}: {one.text}"))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda one: self.requests.append(one.url))

    def open(self, file: Path) -> Seen:
        self.page.goto(file.as_uri())
        # Not by a function in the page: the report's policy lets nothing be evaluated there.
        for number in range(self.page.locator(".chart").count()):
            self.page.locator(f"#chart-{number} .main-svg").first.wait_for(state="attached")
        return self

    def look(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate(LOOK)
        return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    made = {**{name: make() for name, make in PAGES.items()}, "hostile": run_page(HOSTILE)}
    for name, page in made.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PAGES, "hostile"])
@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (820, "dark"), (400, "light")], ids=str
)
def test_a_report_is_whole(
    browser: Browser, files: dict[str, Path], name: str, width: int, scheme: Any
) -> None:
    with browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    ) as page:
        seen = Seen(page).open(files[name])
        found = seen.look()

    assert seen.said == []
    assert seen.requests == [files[name].as_uri()]
    assert found["charts"] >= 3
    assert found["empty"] == []
    assert found["overlapping"] == []
    assert found["outside"] == []
    assert found["pageOverflows"] is False
    if width >= 820:  # on a telephone, wide tables scroll in their own frame
        assert found["wideTables"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PAGES))
def test_a_printed_report_is_dark_on_white_and_within_the_paper(
    browser: Browser, files: dict[str, Path], name: str
) -> None:
    with browser.new_page(viewport={"width": 820, "height": 900}, color_scheme="dark") as page:
        seen = Seen(page).open(files[name])
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        ink = page.evaluate("getComputedStyle(document.querySelector('.chart text')).fill")
        wide = page.evaluate("Math.max(...[...document.querySelectorAll('.chart')]"
                             ".map(one => one.getBoundingClientRect().width))")  # fmt: skip
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert seen.said == []
    assert ink == "rgb(26, 26, 26)"
    assert background == "rgb(255, 255, 255)"
    assert wide <= 718, "A4 at 96 dots an inch, less 10 mm at each side"


@pytest.mark.slow
def test_the_raw_data_can_be_read_and_saved(
    browser: Browser, files: dict[str, Path], tmp_path: Path
) -> None:
    with browser.new_page() as page:
        seen = Seen(page).open(files["compare"])
        page.click("summary")
        page.locator("#raw-data pre", has_text='"kind"').wait_for()
        with page.expect_download() as download:
            page.click("#raw-data button")
        download.value.save_as(tmp_path / "raw.json")

    assert seen.said == []
    assert '"kind": "compare"' in (tmp_path / "raw.json").read_text()


@pytest.mark.slow
def test_the_look_sees_what_is_wrong(browser: Browser, files: dict[str, Path]) -> None:
    """The look itself: a chart without traces, texts on one another, and one that sticks out."""
    with browser.new_page(viewport={"width": 820, "height": 900}) as page:
        seen = Seen(page).open(files["compare"])
        page.evaluate(
            """() => {
              const charts = document.querySelectorAll(".chart");
              charts[0].querySelectorAll(".trace, .points").forEach((one) => one.remove());
              const texts = charts[1].querySelectorAll(".xtick text");
              texts[0].parentNode.appendChild(texts[0].cloneNode(true));
              charts[1].querySelector(".ytick text").setAttribute("x", "-300");
              document.querySelector("table").style.width = "3000px";
            }"""
        )
        found = seen.look()

    assert found["empty"]
    assert found["overlapping"]
    assert found["outside"]
    assert found["wideTables"]
