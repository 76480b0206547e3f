"""Headless Chromium over its DevTools protocol, through a pipe: no package, no port.

As a script it opens every page of an app at 1280 and 390 pixels, light and dark, and writes a
picture of each: python -m tests.support.browser http://127.0.0.1:7860/ FOLDER
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
KEYS = {
    " ": ("Space", 32),
    "Enter": ("Enter", 13),
    "Tab": ("Tab", 9),
    "ArrowDown": ("ArrowDown", 40),
}
KEYS |= {"ArrowUp": ("ArrowUp", 38), "End": ("End", 35), "Escape": ("Escape", 27)}


class Browser:
    """One page in a browser of its own; what its console reports as errors is in `errors`."""

    def __init__(self, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        assert CHROMIUM
        self.errors: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        options += ["--no-first-run", "--disable-background-networking", "--mute-audio"]
        options += ["--autoplay-policy=document-user-activation-required"]

        def connect() -> None:
            saved = os.dup(from_browser)
            os.dup2(to_browser, 3)  # Chromium reads from this descriptor, and writes to the next
            os.dup2(saved, 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *options, f"--user-data-dir={self._profile.name}"],
            pass_fds=(3, 4),
            preexec_fn=connect,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session = ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        found = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._write)  # it ends when nobody can talk to it any more
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        self._profile.cleanup()

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(60)
            if answer is None:
                raise TimeoutError(method)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _next(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None if there is none in time. Errors of the page are noted."""
        until = time.monotonic() + seconds
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0, until - time.monotonic()))[0]:
                return None
            self._rest += os.read(self._read, 1 << 20)
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(each.get("value", "")) for each in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 30) -> Any:
        """Wait until a JavaScript expression is true, and return it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if value := self.js(expression):
                return value
            time.sleep(0.05)
        raise TimeoutError(f"{expression}; {self.errors}")

    def open(self, address: str, ready: str) -> None:
        """Go to an address, and wait until a JavaScript expression is true there."""
        self.send("Page.navigate", url=address)
        self.wait(f"location.href !== 'about:blank' && document.body && !!({ready})")

    def click(self, selector: str) -> None:
        """Click in the middle of an element, as a mouse does."""
        x, y = self.js(
            "(() => { const all = document.querySelectorAll(" + json.dumps(selector) + ");"
            "const e = [...all].find((each) => each.checkVisibility()); e.scrollIntoView({block: "
            "'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": x, "y": y, "button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, **where)

    def press(self, key: str) -> None:
        """Press and release a key."""
        code, number = KEYS.get(key, (f"Key{key.upper()}", ord(key.upper())))
        named = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def settle(self, seconds: float = 1.0) -> None:
        """Let the page do what it does by itself, and note its errors."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._next(left)

    def picture(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


def main(address: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    failed = False
    for width, dark in itertools.product((1280, 390), (False, True)):
        with Browser(width, dark=dark) as browser:
            browser.open(address, "document.querySelector('nav a, .nav-holder a')")
            links = browser.js(
                "[...document.querySelectorAll('nav a, .nav-holder a')].map(a => a.href)"
            )
            for page in dict.fromkeys(links):
                browser.open(page, "document.querySelector('h1')")
                browser.settle(6)
                name = page.split("?")[0].rstrip("/").rsplit("/", 1)[-1].replace(":", "-")
                browser.picture(folder / f"{name}-{width}-{'dark' if dark else 'light'}.png")
                wide = browser.js("document.documentElement.scrollWidth - innerWidth")
                print(page, width, "dark" if dark else "light", "too wide by", max(0, wide))
            print("\n".join(browser.errors) or "no error", flush=True)
            failed |= bool(browser.errors)
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
