"""The page in a real browser: nothing from outside, nothing cut off."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from selenium import webdriver

from conftest import run_python, slow
from descents.pages import factorize as factorized
from descents.pages import figures
from descents.pages.page import html, read_run
from descents.pages.reproduce import PICTURES
from descents.reproduction.result import ReproductionResult
from descents.storage.results import of_json

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def browser(chromium, tmp_path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path}"):
        options.add_argument(flag)
    options.set_capability(
        "goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"}
    )
    service = webdriver.ChromeService(chromium[1])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    ("run", "title", "pictures"),
    [
        ("whole", "The report, re-run and judged", PICTURES),
        ("mixed", "table.csv: a model of rank 1", factorized.PICTURES),
    ],
)
@pytest.mark.sampled(2)
def test_the_page_fits_and_asks_for_nothing(
    browser, request, run, title, pictures, width
) -> None:
    folder = request.getfixturevalue(run)
    page = (folder if run == "whole" else folder / "run") / "report.html"
    metrics = {
        "width": width,
        "height": 900,
        "deviceScaleFactor": 1,
        "mobile": width < 500,
    }
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    assert browser.title == title
    scroll, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert scroll <= inner == width
    images = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt])"
    )
    assert len(images) == sum(each.needs is None for each in pictures.values())
    assert all(done and wide > 100 and len(alt) > 20 for done, wide, alt in images)
    fonts = browser.execute_script(
        "return [...document.querySelectorAll('p, td, li, figcaption')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(fonts) >= 12
    events = [
        json.loads(e["message"])["message"] for e in browser.get_log("performance")
    ]
    urls = [
        event["params"]["request"]["url"].split(":")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    # chrome: and chrome-untrusted: are of the tab that the browser opens with.
    assert set(urls) - {"chrome", "chrome-untrusted"} <= {"file", "data"}
    assert urls.count("file") == 1
    assert browser.get_log("browser") == []


def test_the_page_prints(browser, whole) -> None:
    browser.get((whole / "report.html").as_uri())
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page[^s]", pdf))
    assert 3 <= pages <= 14


DRAWN_BESIDE = """
import sys
from pathlib import Path
from descents.pages import drawing
folder = Path({folder!r})
drawing.AT_ONCE = 1
{change}
with drawing.drawing() as draw:
    draw(folder)
    first = {{path.name: path.read_bytes() for path in folder.glob("*.svg")}}
    first["page"] = (folder / "report.html").read_bytes()
from descents.pages.page import draw
draw(folder)
for path in folder.glob("*.svg"):
    assert first.pop(path.name) == path.read_bytes(), path
assert first == {{"page": (folder / "report.html").read_bytes()}}
"""


@pytest.mark.parametrize(
    "change",
    [
        "drawing._draw_here = None  # the other process has to do it",
        slow("sys.executable = 'false'  # the other process ends at once"),
    ],
)
def test_another_process_draws_the_same(mixed, tmp_path, change) -> None:
    folder = tmp_path / "run"
    shutil.copytree(mixed / "run", folder)
    for path in (*folder.glob("*.svg"), folder / "report.html"):
        path.unlink()
    done = run_python(DRAWN_BESIDE.format(folder=str(folder), change=change))
    assert done.returncode == 0, done.stderr


class Links(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href")]


def test_the_page_is_one_file(whole) -> None:
    text = (whole / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert links.found
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links.found)
    assert "<script" not in text
    assert "url(" not in text


def test_what_comes_from_a_result_is_escaped(result) -> None:
    pictures = {
        name: {"uri": "data:,", "says": "<b>", "wide": False} for name in PICTURES
    }
    changed = {**result, "assumptions": ["a <script>alert(1)</script> b"]}
    text = html(of_json(ReproductionResult, changed), pictures)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_numbers_that_are_not_known_are_said_so(result, whole) -> None:
    """A result in which everything that can fail has failed still has a page."""
    pictures = {name: {"uri": "data:,", "says": "", "wide": False} for name in PICTURES}
    changed = json.loads(json.dumps(result))
    changed["factorization"].update(gap=None, gd_loss=None)
    changed["factorization"]["starts"].update(gap_median=None, gap_max=None)
    changed["diagnosis"]["median_gradient_norm"] = {"failed": None, "others": None}
    changed["diagnosis"]["mean_dead_units"] = {"failed": None, "others": None}
    unknown = of_json(ReproductionResult, changed)
    assert "the median gap is not known" in html(unknown, pictures)
    run = read_run(whole)
    for name in ("history_loss", "later_accuracy"):
        run.tensors[name] = np.full_like(run.tensors[name], np.nan)
    run.rows["gap"] = np.full_like(run.rows["gap"], np.nan)
    for picture in PICTURES.values():
        assert picture.draw(run).axes


def test_scores_that_are_not_defined_have_no_dot() -> None:
    score, undefined = np.array([0.5, 0.7, 0.9]), np.full(3, np.nan)
    _, (ax,) = figures.new_figure(4, 4)
    figures.against(ax, score, np.array([0.4, np.nan, 0.6]))
    assert len(ax.lines[-1].get_xdata()) == 2
    assert np.isfinite([ax.get_xlim(), ax.get_ylim()]).all()
    _, (ax,) = figures.new_figure(4, 4)
    figures.against(ax, score, undefined)
    assert [text.get_text() for text in ax.texts] == ["not defined for any start"]


def test_bad_starts_are_drawn_or_counted() -> None:
    """Two of 400 starts are bad: on the axes, or beyond them with a line that says so."""
    good = np.linspace(0.9, 0.95, 398)
    _, (ax,) = figures.new_figure(4, 4)
    figures.against(ax, np.append(good, [0.5, 0.6]), np.append(good, [0.55, 0.5]))
    assert ax.get_xlim()[0] < 0.5
    assert ax.get_ylim()[0] < 0.5
    assert not ax.texts
    _, (ax,) = figures.new_figure(4, 4)
    figures.against(ax, np.append(good, [-50.0, 0.9]), np.append(good, [-80.0, -3.0]))
    assert ax.get_ylim()[0] > 0.8
    assert [text.get_text() for text in ax.texts] == ["2 starts below, down to -80"]


def test_names_are_drawn_as_they_are_and_ticks_as_plain_numbers() -> None:
    with figures.style():
        figure, (ax,) = figures.new_figure(3, 2)
        ax.plot([1, 2], [1, 1e3])
        ax.set(yscale="log", title="cost ($a^$) of $1")  # no formula
        figures.plain_logarithms(figure)
        FigureCanvasAgg(figure).print_png(io.BytesIO())
        labels = [label.get_text() for label in ax.get_yticklabels()]
    assert {"1", "10", "100", "1000"} <= set(labels)
