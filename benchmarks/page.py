"""Measure the page of a run of many starts: its size, how fast it opens and selects.

    python benchmarks/page.py                     # 10,000 starts
    python benchmarks/page.py OLD.html NEW.html   # pages that were drawn before, in turns

It needs Chromium and its driver. Times are medians of paired turns in one browser; a page
of the former kind, without a selection, is only opened.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from sklearn.datasets import load_iris

STARTS, TURNS, MOVES = 10_000, 7, 20

OPENED = """
const done = arguments[0];
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
"""

BRUSHED = """
const done = arguments[1];
const svg = document.getElementById('figure-training-validation-svg');
svg.scrollIntoView({block: 'center'});
const over = svg.querySelector('.brush .overlay');
const box = svg.getBoundingClientRect();
const send = (kind, x, y, to) => to.dispatchEvent(new MouseEvent(kind, {
  bubbles: true, cancelable: true, view: window, button: 0, buttons: 1,
  clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
const times = [];
send('mousedown', 0.3, 0.2, over);
const move = () => {
  const begun = performance.now();
  const at = 0.4 + 0.4 * times.length / arguments[0];
  send('mousemove', at, at, window);
  // The first frame selects and draws, and the second comes when it is painted.
  requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(() => {
    times.push(performance.now() - begun);
    if (times.length < arguments[0]) { move(); return; }
    send('mouseup', 0.8, 0.8, window);
    done(times);
  })));
};
move();
"""


def browser() -> webdriver.Chrome:
    """Return Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(120)
    return driver


def drawn(folder: Path) -> Path:
    """Train many starts of a small network on iris, and return the page."""
    iris = load_iris(as_frame=True)
    table = folder / "iris.csv"
    iris.frame.to_csv(table, index=False)
    command = ["train", str(table), "--target", "target", "--starts", str(STARTS)]
    command += ["--hidden", "8", "--epochs", "10", "--diagnose", "0", "--quiet"]
    command += ["--out", str(folder / "run")]
    subprocess.run([sys.executable, "-m", "descents", *command], check=True)
    return folder / "run" / "report.html"


def measure(pages: list[Path]) -> None:
    """Print the size of each page, and the medians of its times."""
    driver = browser()
    opened: dict[Path, list[float]] = {page: [] for page in pages}
    brushed: dict[Path, list[float]] = {page: [] for page in pages}
    for turn in range(TURNS + 1):
        for page in pages:
            driver.get("about:blank")
            driver.get(page.absolute().as_uri())
            seconds = driver.execute_async_script(OPENED) / 1000
            if turn:  # the first turn fills caches
                opened[page].append(seconds)
            linked = driver.execute_script(
                "return !!document.querySelector('#figure-training-validation-svg .brush')"
            )
            if turn and linked:
                times = driver.execute_async_script(BRUSHED, MOVES)
                brushed[page].append(statistics.median(times) / 1000)
    driver.quit()
    for page in pages:
        line = f"{page}: {page.stat().st_size:,} bytes, opens in "
        line += f"{statistics.median(opened[page]):.2f} s"
        if brushed[page]:
            line += (
                f", a selection is drawn in {statistics.median(brushed[page]):.2f} s"
            )
        print(line)


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]]
    if given:
        measure(given)
    else:
        with tempfile.TemporaryDirectory() as place:
            measure([drawn(Path(place))])
