"""Puts a report together: one HTML file that needs nothing else.

Its content security policy lets the two scripts run that it carries, by their digests, and forbids
every request. All texts are escaped: job names, errors and arguments are whatever somebody wrote.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from producer.environment import Environment
from twolane import __version__
from twolane.commandline import plain, to_json


@dataclass(frozen=True)
class Chart:
    """A chart; ``title`` says its finding, ``note`` how to read it."""

    title: str
    figure: go.Figure
    note: str = ""


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Remark:
    """What is said in the place of a chart that would show nothing."""

    title: str
    note: str


Part = Chart | Table | Remark


def render(
    title: str,
    lead: str,
    seen: Sequence[str],
    parts: Sequence[Part],
    environment: Environment | None,
    data: Any,
) -> str:
    """The whole page; ``data`` is what it has as JSON."""
    charts: list[Chart] = []
    body = [f"<h1>{text(title)}</h1>", f'<p class="soft">{text(lead)}</p>']
    if seen:
        body.append("<ul>" + "".join(f"<li>{text(one)}</li>" for one in seen) + "</ul>")
    for part in parts:
        if isinstance(part, Chart):
            body.append(_chart(part, len(charts)))
            charts.append(part)
        elif isinstance(part, Remark):
            note = f'<p class="soft">{text(part.note)}</p>'
            body.append(f"<section><h2>{text(part.title)}</h2>{note}</section>")
        else:
            body.append(_table(part))
    if environment is not None:
        rows = environment.rows()
        body.append(_table(Table("Where this was measured", (), rows, is_text=True)))
    raw = to_json(data)
    body.append(_raw(len(raw)))
    plotly, boot = get_plotlyjs(), _file("boot.js")
    figures = [json.loads(chart.figure.to_json()) for chart in charts]
    return Template(_file("page.html")).substitute(
        policy=_policy(plotly, boot),
        version=text(__version__),
        title=text(title),
        body="\n".join(body),
        charts=_in_script(to_json(figures)),
        raw=_in_script(raw),
        plotly=plotly,
        boot=boot,
    )


def text(value: object) -> str:
    """Text as HTML has it, and as plotly's labels have it, which take some tags for markup."""
    return html.escape(plain(value))


def _chart(chart: Chart, number: int) -> str:
    note = f'<p class="soft">{text(chart.note)}</p>' if chart.note else ""
    height = chart.figure.layout.height
    return (
        f"<section><figure><figcaption><h2>{text(chart.title)}</h2></figcaption>"
        f'<div class="chart" id="chart-{number}" style="height:{height}px" role="img" '
        f'aria-label="{text(chart.title)}"></div>{note}</figure></section>'
    )


def _table(table: Table) -> str:
    names = "".join(f"<th>{text(name)}</th>" for name in table.columns)
    head = f"<thead><tr>{names}</tr></thead>" if names else ""
    rows = "".join(
        "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    note = f'<p class="soft">{text(table.note)}</p>' if table.note else ""
    kind = ' class="text"' if table.is_text else ""
    return (
        f"<section><h2>{text(table.title)}</h2>"
        f'<div class="wide"><table{kind}>{head}'
        f"<tbody>{rows}</tbody></table></div>{note}</section>"
    )


def _raw(size: int) -> str:
    return (
        f'<details id="raw-data"><summary><h2 style="display:inline">Raw data</h2> (JSON, '
        f"{size / 1000:,.0f} kB)</summary><p><button>Save as a file</button></p><pre></pre>"
        "</details>"
        "<noscript><p>The charts need JavaScript; it is all in this file.</p></noscript>"
    )


def _policy(*scripts: str) -> str:
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    # plotly.js writes its styles into the page; images are what its camera button makes.
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _in_script(json_text: str) -> str:
    """JSON that cannot end the script element that it stands in."""
    for letter, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        json_text = json_text.replace(letter, escape)
    return json_text


def _file(name: str) -> str:
    return resources.files("producer.report").joinpath(name).read_text("utf-8")
