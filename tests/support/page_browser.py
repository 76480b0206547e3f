"""Headless Chromium, driven over a pipe by its DevTools protocol, so that no package is needed.

It can reach this machine alone: every other host name is unknown to it.
https://chromedevtools.github.io/devtools-protocol/ describes what is called here.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 120.0  # s for one answer
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
)


class Tab:
    """One tab. `errors` collects what the console would show in red, `requests` the addresses."""

    def __init__(self, commands: int, answers: int) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._commands, self._answers = commands, answers
        self._count, self._held = 0, b""
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._watch(self._session)
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = self._send(method, self._session, params)
        while (message := self._receive()).get("id") != number:
            self._note(message)
        assert "error" not in message, message
        return message["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of the promise that it is."""
        done = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        self.evaluate(
            "new Promise(done => { const look = () =>"
            f" ({condition}) ? done() : setTimeout(look, 10); look(); }})"
        )

    def open(self, address: str, width: int = 1280) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)
        self.wait(f"location.href.startsWith({json.dumps(address)})")
        self.wait("document.readyState === 'complete'")

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def press(self, key: str, code: int) -> None:
        """Press and release a key, such as ("Tab", 9) or ("Enter", 13)."""
        text = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        shared = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **shared, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def _send(self, method: str, session: str | None, params: dict[str, Any]) -> int:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        return self._count

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            assert select.select([self._answers], [], [], PATIENCE)[0], "Chromium does not answer"
            more = os.read(self._answers, 1 << 20)
            assert more, "Chromium ended"
            self._held += more
        message, _, self._held = self._held.partition(b"\0")
        return json.loads(message)

    def _watch(self, session: str) -> None:
        for domain in ("Runtime", "Log", "Network"):
            self._send(f"{domain}.enable", session, {})
        attach = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
        self._send("Target.setAutoAttach", session, attach)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Target.attachedToTarget":  # the page's worker
                self._watch(params["sessionId"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.errors.append(json.dumps(params["args"]))


@contextlib.contextmanager
def tab() -> Iterator[Tab]:
    """Start Chromium with one empty tab, and end it."""
    assert CHROMIUM, "chromium is not installed"
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # Chromium reads from 3 and writes to 4: first move the ends out of the way.
    read, write = (fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (theirs_in, theirs_out))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "bash", CHROMIUM]
        process = subprocess.Popen(
            [*command, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(read, write),
            stderr=subprocess.DEVNULL,
        )
        for each in (theirs_in, theirs_out, read, write):
            os.close(each)
        try:
            opened = Tab(ours_out, ours_in)
            yield opened
            opened._send("Browser.close", None, {})
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            os.close(ours_out)
            os.close(ours_in)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback interface, and yield its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def ready(opened: Tab, address: str, width: int = 1280) -> None:
    """Open the page of tools.page, and wait for its model."""
    opened.open(address, width)
    opened.wait("!document.querySelector('#file').disabled")


def classify(opened: Tab, path: Path) -> tuple[str, dict[str, float]]:
    """What the page says about a file, and the probabilities that it shows, the highest first."""
    opened.evaluate("document.querySelector('#status').textContent = 'waiting'")
    opened.choose("#file", path)
    return answer(opened)


def answer(opened: Tab) -> tuple[str, dict[str, float]]:
    opened.wait(
        "document.querySelector('#status').textContent !== 'waiting'"
        " && document.querySelector('#progress').hidden"
    )
    said = opened.evaluate("document.querySelector('#status').textContent")
    rows = opened.evaluate(
        "document.querySelector('#result').hidden ? [] :"
        " [...document.querySelectorAll('li[data-probability]')].map(row => ({...row.dataset}))"
    )
    return said, {row["label"]: float(row["probability"]) for row in rows}
