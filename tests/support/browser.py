"""Headless Chromium over its DevTools protocol, through a pipe: no package, no port.

It can reach this machine alone: every other host name is unknown to it, and its microphone beeps.
https://chromedevtools.github.io/devtools-protocol/ describes what is called here.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--mute-audio",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-pipe",
)
PATIENCE = 90.0  # s
KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "PageUp": 33, "PageDown": 34, "End": 35,
    "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


class Browser:
    """One page in a browser of its own.

    `errors` are what the console shows in red, the page's workers included; `requests` are the
    addresses that were asked for.
    """

    def __init__(self, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        assert CHROMIUM, "Chromium is not installed"
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loading: dict[str, str] = {}  # request -> its address
        self._numbers = itertools.count(1)
        self._rest = b""
        self._dialog: int | None = None  # the file input whose dialog is open
        self._session = ""
        self._profile = tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True)
        reads, self._write = os.pipe()
        self._read, writes = os.pipe()
        # Chromium reads commands from descriptor 3, and writes answers to 4.
        command = ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash", CHROMIUM, *FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={self._profile.name}"],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._watch(self._session)
        self.send("Page.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
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
        number = self._post(self._session, method, params)
        while (answer := self._next(PATIENCE)) is not None:
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
        raise TimeoutError(method)

    def _post(self, session: str, method: str, params: dict[str, Any]) -> int:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return number

    def _next(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None if there is none in time. What it tells is noted."""
        until = time.monotonic() + seconds
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0, until - time.monotonic()))[0]:
                return None
            more = os.read(self._read, 1 << 20)
            if not more:
                raise ConnectionError("Chromium ended")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _watch(self, session: str) -> None:
        """Be told of a page's or worker's errors and requests, and of the workers it starts."""
        for domain in ("Runtime", "Log", "Network"):
            self._post(session, f"{domain}.enable", {})
        attach = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
        self._post(session, "Target.setAutoAttach", attach)
        self._post(session, "Runtime.runIfWaitingForDebugger", {})

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Target.attachedToTarget" and self._session:
            self._watch(params["sessionId"])
        elif method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            self.requests.append(address)
            if "heartbeat" not in address:  # gradio's lasts as long as the page is open
                self._loading[params["requestId"]] = address
        elif method in ("Network.loadingFinished", "Network.loadingFailed"):
            self._loading.pop(params["requestId"], None)
        elif method == "Page.fileChooserOpened":
            self._dialog = params["backendNodeId"]
        elif method == "Page.frameNavigated":
            self._loading.clear()
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(each.get("value", "")) for each in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, or of the promise that it is."""
        result = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true, and return it."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if value := self.js(expression):
                return value
            time.sleep(0.05)
        raise TimeoutError(f"{expression}; {self.errors}")

    def open(self, address: str, ready: str) -> None:
        """Go to an address, and wait until a JavaScript expression is true there."""
        self.send("Page.navigate", url=address)
        self.wait(f"location.href !== 'about:blank' && document.body && !!({ready})")

    def new_tab(self) -> str:
        """Wait until a link has opened a page in a new tab; close that, and return its address."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for each in self.send("Target.getTargets")["targetInfos"]:
                if each["type"] == "page" and "openerId" in each and "//" in each["url"]:
                    self.send("Target.closeTarget", targetId=each["targetId"])
                    return each["url"]
            time.sleep(0.05)
        raise TimeoutError("no new tab")

    def settle(self, quiet: float = 1.0) -> None:
        """Wait until nothing has been loading for some seconds, and note the page's errors."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self._next(quiet) is None and not self._loading:
                return
        raise TimeoutError(f"still loading: {self._loading}")

    def click(self, selector: str) -> None:
        """Click in the middle of an element, as a mouse does."""
        x, y = self.middle(selector)
        for kind in ("Moved", "Pressed", "Released"):
            self.mouse(kind, x, y)

    def middle(self, selector: str) -> tuple[float, float]:
        """Scroll to the first visible of these elements; the place of its middle in the window.

        Waits until it stays where it is, since what is loaded above it moves it.
        """
        return self.js(
            "new Promise((done) => { let last; const look = () => {"
            f"const all = document.querySelectorAll({json.dumps(selector)});"
            "const e = [...all].find((each) => each.checkVisibility());"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "const now = [r.x + r.width / 2, r.y + r.height / 2];"
            "if (`${now}` === `${last}`) done(now); else { last = now; setTimeout(look, 100); }"
            "}; look(); })"
        )

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Move, press, release or turn the mouse: Moved, Pressed, Released or Wheel."""
        button = {} if kind in ("Moved", "Wheel") else {"button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **button, **more)

    def tab_to(self, selector: str) -> None:
        """Press Tab until an element has the focus."""
        for _ in range(150):
            if self.js(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise TimeoutError(f"Tab does not lead to {selector}")

    def press(self, key: str) -> None:
        """Press and release a key: a letter, or one of KEYS."""
        named = {"key": key, "windowsVirtualKeyCode": KEYS.get(key) or ord(key.upper())}
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def choose(self, selector: str, path: Path) -> None:
        """Put a file into a file input, without a dialog."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def answer(self, path: Path, ask: Callable[[], None]) -> None:
        """Choose a file in the dialog that opens when something is done."""
        self.send("Page.setInterceptFileChooserDialog", enabled=True)
        self._dialog = None
        ask()
        until = time.monotonic() + PATIENCE
        while self._dialog is None and time.monotonic() < until:
            self._next(0.1)
        assert self._dialog is not None, "no dialog opened"
        self.send("DOM.setFileInputFiles", backendNodeId=self._dialog, files=[str(path.resolve())])
        self.send("Page.setInterceptFileChooserDialog", enabled=False)

    def cpu_seconds(self) -> float:
        """What the page's own thread has computed since the browser started."""
        self.send("Performance.enable", timeDomain="threadTicks")
        metrics = self.send("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in metrics if each["name"] == "TaskDuration")

    def picture(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))
