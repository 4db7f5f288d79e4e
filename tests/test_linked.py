"""One selection of starts in all pictures and the table of a page, in a real browser."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from selenium.webdriver.common.keys import Keys

from browsing import Browser
from conftest import TRAINED_STARTS as STARTS


@pytest.fixture
def page(browser, trained) -> Browser:
    browser.open(trained / "report.html")
    return browser


def stored(folder: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(folder / "starts.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


SELECTED = """
const [name, rows] = arguments;
return [...document.querySelectorAll(`#${name} path.marks`)].flatMap(path => {
  const given = JSON.parse(path.dataset.rows);
  const owners = Array.isArray(given) ? given
    : Array.from({length: given.count}, (_, k) => given.first + k);
  const pieces = path.getAttribute('d').split('M').slice(1);
  const over = path.nextElementSibling.getAttribute('d').split('M').slice(1);
  const expected = pieces.filter((_, k) => rows.includes(owners[k]));
  return [JSON.stringify(expected) === JSON.stringify(over)];
});
"""


def saved(browser: Browser) -> list[dict[str, str]]:
    """Return what the page saves as CSV."""
    path = browser.downloads / "selected-starts.csv"
    path.unlink(missing_ok=True)
    browser.run("[...document.querySelectorAll('.controls button')].at(-1).click()")
    for _ in range(100):
        if path.exists() and path.stat().st_size:
            break
        time.sleep(0.05)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def places(rows: list[dict[str, str]], table: dict[str, np.ndarray]) -> list[int]:
    """Return the rows of starts.parquet of saved starts."""
    keys = list(zip(table["setting"], table["start"].astype(str), strict=True))
    return [keys.index((row["setting"], row["start"])) for row in rows]


def test_a_box_in_each_picture_selects_the_same_starts_in_all(page, trained) -> None:
    table = stored(trained)
    pictures = page.pictures()
    assert len(pictures) == 3
    for picture in pictures:
        page.brush(picture, (0.6, 0.05, 0.97, 0.45))
        chosen = places(saved(page), table)
        assert 0 < len(chosen) < 4 * STARTS, picture
        assert page.status().startswith(
            f"{len(chosen)} of {4 * STARTS} starts selected"
        )
        for other in pictures:
            assert all(page.run(SELECTED, other, chosen)), (picture, other)
    assert page.driver.get_log("browser") == []


def test_a_condition_selects_the_starts_that_meet_it(page, trained) -> None:
    table = stored(trained)
    page.open(trained / "report.html", hash="#starts&where=training_accuracy,ge,0.9")
    chosen = sorted(places(saved(page), table))
    expected = np.flatnonzero(table["training_accuracy"].round(6) >= 0.9)
    assert chosen == expected.tolist()
    metric = np.median(table["validation_accuracy"][expected])
    assert f"median validation accuracy {metric:.4g}" in page.status()


def test_the_table_sorts_filters_and_saves(page, trained) -> None:
    table = stored(trained)
    page.run("document.querySelectorAll('table.starts th button')[2].click()")
    shown = [float(row[2]) for row in page.rows()]
    best = np.sort(table["validation_accuracy"][np.isfinite(table["loss"])])[::-1]
    np.testing.assert_allclose(shown, best[: len(shown)], atol=0.0006)
    sorts = page.run(
        "return [...document.querySelectorAll('table.starts th[aria-sort]')]"
        ".map(h => h.getAttribute('aria-sort'))"
    )
    assert sorts == ["descending"]
    name = str(table["setting"][-1])
    page.run(
        "const s = document.querySelector('.controls select'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change'))",
        name,
    )
    rows = saved(page)
    assert {row["setting"] for row in rows} == {name}
    assert len(rows) == STARTS
    chosen = places(rows, table)
    for column in ("loss", "validation_accuracy"):
        for place, row in zip(chosen, rows, strict=True):
            if np.isfinite(table[column][place]):
                assert float(row[column]) == pytest.approx(
                    table[column][place], rel=1e-5
                )
            else:
                assert row[column] == ""


def test_the_best_and_a_verdict_are_selected_by_links(page, trained) -> None:
    table = stored(trained)
    words, counts = np.unique(table["verdict"], return_counts=True)
    word = next(w for w in words if w and w != "converged")
    links = page.driver.find_elements("css selector", "#main a[href*='is.verdict']")
    total = {link.text: link.get_attribute("href").split("#")[1] for link in links}
    assert set(total) == {str(w) for w in words if w}
    assert "not diagnosed" in total
    page.open(trained / "report.html", hash=f"#starts&is.verdict={word}")
    assert page.status().startswith(f"{counts[list(words).index(word)]} of")
    page.open(trained / "report.html", hash="#starts&top=10")
    chosen = places(saved(page), table)
    values = np.where(np.isfinite(table["loss"]), table["validation_accuracy"], -np.inf)
    assert sorted(values[chosen]) == sorted(np.sort(values)[-10:])


def test_the_selection_stands_in_the_address_and_comes_back(page, trained) -> None:
    picture = page.pictures()[1]
    page.brush(picture, (0.3, 0.1, 0.9, 0.6))
    before, status = page.run("return location.hash"), page.status()
    assert before.startswith("#starts&brush=figure-")
    page.open(trained / "report.html", hash=before)
    assert page.status() == status
    assert page.run("return location.hash") == before
    page.run("document.querySelectorAll('.pinning')[0].click()")
    assert "pin=" in page.run("return location.hash")
    pinned = page.run("return document.querySelectorAll('svg.plot path.pin').length")
    assert pinned >= 1
    for bad in ("#starts&rows=a,-1,99999&is.none=1&top=x&brush=no,1", "#starts&%%%=%"):
        page.open(trained / "report.html", hash=bad)
        assert page.driver.get_log("browser") == []


def test_it_is_used_by_the_keyboard_alone(page) -> None:
    body = page.driver.find_element("tag name", "body")
    reached = []
    for _ in range(80):
        body.send_keys(Keys.TAB)
        active = page.driver.switch_to.active_element
        reached.append((active.tag_name, active.get_attribute("id")))
        if active.get_attribute("id") == "figure-training-validation-svg":
            break
    assert reached[0][0] == "a"  # skip to the answer
    assert reached[-1] == ("svg", "figure-training-validation-svg")
    svg = page.driver.switch_to.active_element
    svg.send_keys(Keys.ARROW_RIGHT)
    assert "start" in page.status()
    svg.send_keys(Keys.ENTER)
    assert page.status().startswith("1 of")
    assert len(page.rows()) == 1
    svg.send_keys(Keys.ESCAPE)
    assert page.status().startswith(f"{4 * STARTS} starts")


def test_a_click_selects_one_start(page) -> None:
    picture = page.pictures()[1]
    spot = page.run(
        "const p = document.querySelector(`#${arguments[0]} path.marks`);"
        "const [x, y] = p.getAttribute('d').match(/[\\d.]+/g).map(Number);"
        "const b = p.ownerSVGElement.viewBox.baseVal;"
        "return [x / b.width, y / b.height]",
        picture,
    )
    page.brush(picture, (*spot, *spot))
    assert page.status().startswith("1 of")


def test_every_start_is_drawn(trained) -> None:
    """The scatter has every start with scores, and the figures say how many have none."""
    text = (trained / "report.html").read_text()
    table = stored(trained)
    finite = np.isfinite(table["loss"])
    for name, count in (
        ("figure-training-validation", finite.sum()),
        ("figure-distribution", finite.sum()),
    ):
        part = text[text.index(f'<svg id="{name}-svg"') :]
        part = part[: part.index("</svg>")]
        found = [one.split('"')[0] for one in part.split('class="marks"')[1:]]
        assert len(found) >= 1
        drawn = sum(
            chunk.count("M")
            for chunk in (
                one[one.index(' d="') + 4 :].split('"')[0]
                for one in part.split('<path class="marks"')[1:]
            )
        )
        assert drawn == count, name
    data = json.loads(text.split('id="starts-data">')[1].split("</script>")[0])
    assert data["count"] == 4 * STARTS
