"""A real browser for tests: Debian's headless Chromium, driven by its chromedriver over the WebDriver protocol."""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

MISSING = next((f"{name} is not installed" for name in ("chromium", "chromedriver") if not shutil.which(name)), "")
"""Why there is no browser here; empty where there is one."""
DESKTOP, PHONE = (1280, 860), (390, 844)
KEYS = {"Escape": "\ue00c", "Enter": "\ue007", "ArrowRight": "\ue014", "ArrowDown": "\ue015", "Tab": "\ue004"}
_LOG = {"goog:loggingPrefs": {"browser": "ALL"}}


@dataclass(frozen=True, kw_only=True)
class Browser:
    """One window."""

    client: httpx.Client
    """Connection to the driver."""
    session: str
    """Path of the window's session."""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.client.request(method, f"{self.session}/{path}", json=body)
        value = answer.json()["value"]
        assert answer.is_success, value
        return value

    def open(self, address: str) -> None:
        """Load a page and wait until its scripts have drawn it."""
        self.ask("POST", "url", {"url": address})
        self.wait("return document.body.dataset.ready === 'yes'")

    def run(self, script: str, *args: Any) -> Any:
        """The value that a script returns."""
        return self.ask("POST", "execute/sync", {"script": script, "args": list(args)})

    def wait(self, script: str, *args: Any, within_s: float = 10.0) -> Any:
        """The value that a script returns once it is true."""
        until = time.monotonic() + within_s
        while True:
            if value := self.run(script, *args):
                return value
            assert time.monotonic() < until, f"never true: {script} {args}; {self.complaints()}"
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Type, one key after the other, wherever the page listens."""
        typed = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self.ask("POST", "actions", {"actions": [{"type": "key", "id": "keys", "actions": typed}]})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.ask("GET", "screenshot")))

    def tell(self, command: str, **params: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self.ask("POST", "goog/cdp/execute", {"cmd": command, "params": params})

    def prefers_dark(self) -> None:
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def complaints(self) -> list[str]:
        """What the browser complained about since the last time: errors of scripts, breaches of the content policy."""
        found = self.ask("POST", "se/log", {"type": "browser"})
        return [entry["message"] for entry in found if entry["level"] in ("SEVERE", "WARNING")]


@contextmanager
def chromium(size: tuple[int, int] = DESKTOP) -> Iterator[Browser]:
    """A window of that size, of a phone where it is as narrow as one."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert driver.stdout is not None
        port = next(m[1] for line in driver.stdout if (m := re.search(r"successfully on port (\d+)", line)))
        switches = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={size[0]},{size[1]}"]
        options: dict[str, Any] = {"args": [*switches, "--hide-scrollbars", "--no-proxy-server"]}
        if size == PHONE:
            metrics = {"width": size[0], "height": size[1], "pixelRatio": 2, "touch": True, "mobile": True}
            options["mobileEmulation"] = {"deviceMetrics": metrics}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options, **_LOG}}
            answer = client.post("/session", json={"capabilities": wanted}).json()["value"]
            assert "sessionId" in answer, json.dumps(answer)[:500]
            browser = Browser(client=client, session=f"/session/{answer['sessionId']}")
            try:
                yield browser
            finally:
                client.delete(browser.session)
    finally:
        driver.terminate()
        driver.wait(10)
        if driver.stdout is not None:
            driver.stdout.close()
