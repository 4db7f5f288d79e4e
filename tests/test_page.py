"""Pages in a real browser: nothing from outside, nothing cut off, readable by all."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from conftest import run_python, slow
from descents.pages import figures, svg
from descents.pages.marks import StartMarks, dots
from descents.pages.page import COMMANDS, html, pictures_of, read_run
from descents.pages.reproduce import PICTURES
from descents.plots.axes import BLUE
from descents.reproduction.result import ReproductionResult
from descents.storage.results import of_json

RUNS = ("whole", "mixed", "imputed", "trained", "compared")
"""The fixtures of a run of each command that has a page."""
WIDTHS = (390, 1024, 1600)


def folder_of(request, name: str) -> Path:
    folder = request.getfixturevalue(name)
    return folder / "run" if name == "mixed" else folder


@pytest.mark.parametrize("run", RUNS)
def test_a_page_fits_and_asks_for_nothing(browser, request, run) -> None:
    folder = folder_of(request, run)
    for width in WIDTHS:
        browser.open(folder / "report.html", width)
        scroll, inner = browser.run(
            "return [document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert scroll <= inner == width
    fonts = browser.run(
        "return [...document.querySelectorAll('p, td, li, figcaption')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(fonts) >= 12
    browser.open(folder / "report.html")
    schemes = browser.requests()  # pictures of pixels are data in the page
    assert schemes.count("file") == 1
    assert set(schemes) <= {"file", "data"}
    assert browser.driver.get_log("browser") == []


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "light"),
        (1600, "dark"),
        pytest.param(390, "dark", marks=pytest.mark.slow),
        pytest.param(1024, "light", marks=pytest.mark.slow),
        pytest.param(1024, "dark", marks=pytest.mark.slow),
        pytest.param(1600, "light", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("run", RUNS)
def test_axe_finds_nothing_serious(browser, request, run, width, scheme) -> None:
    browser.open(folder_of(request, run) / "report.html", width, scheme)
    assert browser.findings() == []


@pytest.mark.parametrize("run", RUNS)
def test_a_page_answers_first_and_says_what_its_pictures_show(
    browser, request, run
) -> None:
    folder = folder_of(request, run)
    browser.open(folder / "report.html", 1024)
    tops = browser.run(
        "return ['h1', '#answer', '.tile', 'h2'].map("
        "s => document.querySelector(s).getBoundingClientRect().top)"
    )
    assert tops == sorted(tops)
    assert tops[2] < 700  # the tiles are on the first screen
    drawn = browser.run(
        "return [...document.querySelectorAll('svg.plot')].map(s => "
        "[s.id, s.getBoundingClientRect().width, s.getAttribute('aria-label')])"
    )
    assert drawn
    visible = [entry for entry in drawn if entry[1] > 0]
    assert visible
    assert all(wide > 100 and len(label) > 20 for _, wide, label in visible)
    assert set(pictures_of(read_run(folder))) <= {
        re.sub(r"-svg$", "", name) for name, _, _ in drawn
    }
    targets = browser.run(
        "return [...document.querySelectorAll(\"a[href^='#']\")]"
        ".map(a => a.hash.slice(1)).filter(h => h && !h.startsWith('starts&'))"
    )
    missing = browser.run(
        "return arguments[0].filter(h => !document.getElementById(h))", targets
    )
    assert missing == []


@pytest.mark.parametrize("run", RUNS)
def test_a_page_is_read_without_scripts(browser, request, run) -> None:
    folder = folder_of(request, run)
    command = browser.driver.execute_cdp_cmd
    command("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(folder / "report.html")
        names = browser.driver.find_elements("css selector", "svg.plot")
        assert names
        shown = browser.driver.find_elements("css selector", "button")
        assert [one for one in shown if one.is_displayed()] == []
    finally:
        command("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("run", RUNS)
def test_a_page_prints(browser, request, run) -> None:
    browser.open(folder_of(request, run) / "report.html")
    pdf = base64.b64decode(
        browser.driver.execute_cdp_cmd("Page.printToPDF", {})["data"]
    )
    assert pdf.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page[^s]", pdf))
    assert 1 <= pages <= 20


def test_paper_has_the_whole_command_and_the_names_of_columns(browser, trained) -> None:
    browser.open(trained / "report.html")
    command = browser.driver.execute_cdp_cmd
    command("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        heads, cut, shown = browser.run(
            "const style = (one) => getComputedStyle(one);"
            "const heads = [...document.querySelectorAll('table.starts th')]"
            ".filter(e => style(e).display !== 'none').map(e => e.innerText);"
            "const pre = document.getElementById('command').parentElement;"
            "const shown = [...document.querySelectorAll('.hint, .controls, .copy')]"
            ".filter(e => e.offsetParent !== null).length;"
            "return [heads, style(pre).whiteSpace, shown]"
        )
    finally:
        command("Emulation.setEmulatedMedia", {"media": ""})
    assert "start" in heads
    assert "pin" not in heads
    assert cut == "pre-wrap"
    assert shown == 0


def test_the_policy_blocks_other_scripts(browser, trained, tmp_path) -> None:
    """A script that a changed page contains is not run, and text is not evaluated."""
    text = (trained / "report.html").read_text()
    changed = tmp_path / "changed.html"
    code = "<script>document.title = 'taken'</script>"
    changed.write_text(text.replace("</main>", f"{code}</main>"))
    browser.open(changed)
    assert browser.run("return document.title") != "taken"
    assert len(browser.driver.get_log("browser")) == 1
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "unsafe-eval" not in policy[1]
    assert "connect-src &#39;none&#39;" in policy[1]


class Links(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize("run", RUNS)
def test_a_page_is_one_file(request, run) -> None:
    text = (folder_of(request, run) / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert links.found
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links.found)
    assert set(re.findall(r"url\(([^)]{1,3})", text)) <= {"#fi"}


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'"


@pytest.mark.parametrize("run", RUNS)
def test_what_users_write_is_escaped(request, run) -> None:
    """Every text of a result and of the starts is replaced by markup."""
    stored = read_run(folder_of(request, run))
    rows = {
        name: np.full(len(values), HOSTILE, dtype=object)
        if values.dtype.kind in "OU" and name in ("verdict", "status")
        else values
        for name, values in stored.rows.items()
    }
    result = stored.result
    if hasattr(result, "warnings"):
        result = (
            replace(result, warnings=[HOSTILE], read=[HOSTILE])
            if hasattr(result, "read")
            else replace(result, warnings=[HOSTILE])
        )
    if hasattr(result, "assumptions"):
        result = replace(result, assumptions=[HOSTILE])
    text = html(replace(stored, rows=rows, result=result), {})
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "alert(1)" in text


def test_names_of_columns_are_escaped_in_pictures(mixed) -> None:
    stored = read_run(mixed / "run")
    columns = [replace(one, name=HOSTILE) for one in stored.result.columns]
    changed = replace(stored, result=replace(stored.result, columns=columns))
    for name, picture in pictures_of(changed).items():
        says = picture.says(changed) if callable(picture.says) else picture.says
        drawn = svg.inline(picture.draw(changed), name, says)
        assert "<script>" not in drawn
        assert "<img" not in drawn


DRAWN_BESIDE = """
import sys
from pathlib import Path
from descents.pages import drawing
folder = Path({folder!r})
drawing.AT_ONCE = 1
{change}
with drawing.drawing("factorize") as draw:
    draw(folder)
    first = (folder / "report.html").read_bytes()
from descents.pages.page import draw
draw(folder)
assert first == (folder / "report.html").read_bytes()
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
    (folder / "report.html").unlink()
    done = run_python(DRAWN_BESIDE.format(folder=str(folder), change=change))
    assert done.returncode == 0, done.stderr


def test_numbers_that_are_not_known_are_said_so(whole) -> None:
    """A result in which everything that can fail has failed still has a page."""
    run = read_run(whole)
    result = json.loads((whole / "result.json").read_text())
    result["factorization"].update(gap=None)
    result["factorization"]["starts"].update(gap_median=None, gap_max=None)
    result["diagnosis"]["median_gradient_norm"] = {"failed": None, "others": None}
    result["diagnosis"]["mean_dead_units"] = {"failed": None, "others": None}
    unknown = replace(run, result=of_json(ReproductionResult, result))
    assert "the median gap is not known" in html(unknown, {})
    for name in ("history_loss", "later_accuracy"):
        run.tensors[name] = np.full_like(run.tensors[name], np.nan)
    run.rows["gap"] = np.full_like(run.rows["gap"], np.nan)
    for picture in PICTURES.values():
        assert picture.draw(run).axes
        if callable(picture.says):
            assert "nan" not in picture.says(run)


def test_scores_that_are_not_defined_have_no_dot() -> None:
    score, undefined = np.array([0.5, 0.7, 0.9]), np.full(3, np.nan)
    colors = {"": (np.arange(3), BLUE)}
    _, (ax,) = figures.new_figure(4, 4)
    figures.against(ax, score, np.array([0.4, np.nan, 0.6]), colors)
    (marks,) = ax.findobj(StartMarks)
    assert marks.rows.tolist() == [0, 2]
    assert np.isfinite([ax.get_xlim(), ax.get_ylim()]).all()
    _, (ax,) = figures.new_figure(4, 4)
    figures.against(ax, score, undefined, colors)
    assert [text.get_text() for text in ax.texts] == ["not defined for any start"]


def test_bad_starts_are_drawn() -> None:
    """Two of 400 starts are far below the others; both are in the frame."""
    good = np.linspace(0.9, 0.95, 398)
    colors = {"": (np.arange(400), BLUE)}
    _, (ax,) = figures.new_figure(4, 4)
    figures.against(
        ax, np.append(good, [0.5, 0.6]), np.append(good, [-3, -50.0]), colors
    )
    assert ax.get_ylim()[0] < -50
    assert len(ax.findobj(StartMarks)[0].rows) == 400


@pytest.mark.parametrize("equal", [1, 30, 700])
def test_stacked_dots_are_all_there_and_do_not_overlap(equal) -> None:
    values = np.concatenate([np.full(equal, 0.94), [0.96, 0.96, 0.98, np.nan]])
    x, height = figures.stacked(values)
    finite = np.isfinite(values)
    assert np.isnan(height[~finite]).all()
    spots = np.column_stack([x, height])[finite]
    assert len(np.unique(spots.round(9), axis=0)) == finite.sum()
    assert np.abs(x - values)[finite].max() < 0.01  # nearest to its own value
    assert height[finite].max() <= 1 + 1e-9


def test_marks_lie_where_their_axes_say() -> None:
    """The point of a mark in the SVG, by the ticks that matplotlib wrote."""
    figure, (ax,) = figures.new_figure(4, 3)
    with figures.style():
        dots(
            ax, np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 2.0]), np.arange(3), "k"
        )
        text = svg.inline(figure, "p", "three dots")
    path = re.search(r'class="marks"[^>]* d="([^"]*)"', text)
    assert path is not None
    found = np.array(re.findall(r"M([\d.]+) ([\d.]+)h0", path[1]), dtype=float)
    width, height = (
        float(n) for n in re.search(r'viewBox="0 0 (\S+) (\S+)"', text).groups()
    )
    place = ax.transData.transform([[0, 1], [1, 3], [2, 2]])
    place = figure.transFigure.inverted().transform(place)
    expected = np.column_stack([place[:, 0] * width, (1 - place[:, 1]) * height])
    np.testing.assert_allclose(found, expected, atol=0.06)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_draws_a_page_loads_no_large_library(command) -> None:
    """It is loaded beside the fit, in a process of its own."""
    code = f"""
import sys
from descents.pages import page
page.warm({command!r})
for name in ("torch", "sklearn", "pandas", "scipy.stats", "matplotlib.pyplot"):
    assert name not in sys.modules, name
others = set({COMMANDS!r}) - {{{command!r}}}
assert not others & {{name.rpartition(".")[2] for name in sys.modules
                     if name.startswith("descents.pages.")}}
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_names_are_drawn_as_they_are_and_ticks_as_plain_numbers() -> None:
    with figures.style():
        figure, (ax,) = figures.new_figure(3, 2)
        ax.plot([1, 2], [1, 1e3])
        ax.set(yscale="log", title="cost ($a^$) of $1")  # no formula
        figures.plain_logarithms(figure)
        FigureCanvasAgg(figure).print_png(io.BytesIO())
        labels = [label.get_text() for label in ax.get_yticklabels()]
    assert {"1", "10", "100", "1000"} <= set(labels)
