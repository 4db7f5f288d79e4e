"""A browser for the tests of pages."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement

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
AXE = resources.files("axe_core_python") / "axe.min.js"


class Browser:
    """Chromium without a window, with what the tests ask of a page."""

    def __init__(self, programs: tuple[str, str], profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = programs[0]
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability(
            "goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"}
        )
        downloads = {"download.default_directory": str(profile)}
        options.add_experimental_option("prefs", downloads)
        service = webdriver.ChromeService(programs[1])
        self.driver = webdriver.Chrome(options=options, service=service)
        self.downloads = profile

    def open(
        self, page: Path, width: int = 1280, scheme: str = "light", hash: str = ""
    ) -> None:
        """Open a page at a width, in light or dark colors."""
        metrics = {
            "width": width,
            "height": 900,
            "deviceScaleFactor": 1,
            "mobile": width < 500,
        }
        command = self.driver.execute_cdp_cmd
        command("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        command("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")  # else another hash loads nothing
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(page.as_uri() + hash)

    def run(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def requests(self) -> list[str]:
        """Return the schemes of what was requested; `chrome` is of the browser itself."""
        events = [
            json.loads(entry["message"])["message"]
            for entry in self.driver.get_log("performance")
        ]
        urls = [
            event["params"]["request"]["url"].split(":")[0]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if url not in ("chrome", "chrome-untrusted")]

    def findings(self) -> list[str]:
        """Return the serious and critical findings of axe on the page that is open."""
        self.run(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run().then(r => done(r.violations))"
        )
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    def pictures(self) -> list[str]:
        """Return the names of the pictures that have marks of starts."""
        return self.run(
            "return [...document.querySelectorAll('svg.plot')]"
            ".filter(s => s.querySelector('path.marks')).map(s => s.id)"
        )

    def brush(self, picture: str, box: tuple[float, float, float, float]) -> None:
        """Drag a box, in shares of the width and height of a picture."""
        svg = self.picture(picture)
        self.run("arguments[0].scrollIntoView({block: 'center'})", svg)
        wide, high = svg.rect["width"], svg.rect["height"]
        left, top, right, bottom = box
        chain = ActionChains(self.driver, duration=50)
        chain.move_to_element_with_offset(
            svg, int((left - 0.5) * wide), int((top - 0.5) * high)
        ).click_and_hold()
        chain.move_by_offset(int((right - left) * wide), int((bottom - top) * high))
        chain.release().perform()
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "requestAnimationFrame(() => requestAnimationFrame(done))"
        )

    def picture(self, name: str) -> WebElement:
        return self.driver.find_element("id", name)

    def drawn(self, picture: str) -> int:
        """Return the number of selected marks that a picture shows."""
        return self.run(
            "return [...document.querySelectorAll(`#${arguments[0]} path.over`)].map("
            "p => (p.getAttribute('d').match(/M/g) || []).length)"
            ".reduce((a, b) => a + b, 0)",
            picture,
        )

    def status(self) -> str:
        return self.run("return document.querySelector('.status').textContent")

    def rows(self) -> list[list[str]]:
        """Return the cells of the table of starts that are shown."""
        return self.run(
            "return [...document.querySelectorAll('table.starts tbody tr')]"
            ".map(r => [...r.cells].map(c => c.textContent))"
        )
