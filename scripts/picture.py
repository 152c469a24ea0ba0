"""Opens a report in a browser and takes a picture of one of its charts, or of all of it.

Fails where the browser has something to say, or the report asks for anything but itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EXAMPLES = """examples:
  scripts/picture report.html all.png
  scripts/picture report.html curve.png --chart 1
  scripts/picture report.html telephone.png --width 400 --dark
"""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/picture",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("report", type=Path, help="a report: one HTML file")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("--chart", type=int, default=None, help="its number, from 1 (default: all)")
    parser.add_argument("--width", type=int, default=820, help="of the window, in pixels (820)")
    parser.add_argument("--dark", action="store_true", help="as a dark desktop shows it")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    given = parse(argv)
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        print("scripts/picture: no browser: apt-get install chromium", file=sys.stderr)
        return 1
    said: list[str] = []
    url = given.report.resolve().as_uri()
    options = ["--disable-gpu", "--disable-background-networking"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=options)
        page = browser.new_page(
            viewport={"width": given.width, "height": 900},
            color_scheme="dark" if given.dark else "light",
        )
        page.on("console", lambda one: said.append(f"{one.type}: {one.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda one: said.append(one.url) if one.url != url else None)
        page.goto(url)
        # Not by a function in the page: the report's policy lets nothing be evaluated there.
        for number in range(page.locator(".chart").count()):
            page.locator(f"#chart-{number} .main-svg").first.wait_for(state="attached")
        if given.chart is None:
            page.screenshot(path=given.picture, full_page=True)
        else:
            charts = page.locator("section:has(.chart)")
            if not 1 <= given.chart <= charts.count():
                print(f"scripts/picture: there are {charts.count()} charts", file=sys.stderr)
                return 2
            charts.nth(given.chart - 1).screenshot(path=given.picture)
        browser.close()
    for line in said:
        print(f"scripts/picture: {given.report}: {line}", file=sys.stderr)
    size = given.picture.stat().st_size
    print(f"{given.picture}: {size / 1000:.0f} kB")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
