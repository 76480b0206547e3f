"""Compare evaluate's predictions with those of every place in which the exported model runs.

    python -m tests.support.agreement

For each test clip of this repository's results, `export/classify.py`, the endpoint and the page in
headless Chromium must give evaluate's prediction, and its probabilities within 0.001. Of clips that
are longer than `encode.max_seconds` evaluate uses the start, the endpoint and the page use all, so
those may differ more. It needs Chromium, and onnxruntime-web where tools.page keeps it. Exit code 1
if anything else differs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from genrepro.core.paths import EXPORT
from tests.support import load
from tests.support.browser import Browser
from tools import page, results

LARGEST = 1e-3  # difference of a probability

Found = Iterator[dict[str, float]]  # label -> probability, one for each path


def program(paths: list[Path]) -> Found:
    """The predictions of export/classify.py."""
    spec = importlib.util.spec_from_file_location("exported", EXPORT / "classify.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield from map(module.Classifier(EXPORT), map(str, paths))


def endpoint(paths: list[Path]) -> Found:
    """The predictions of tools.serve."""
    with load.started() as (url, _), load._client() as client:
        for path in paths:
            yield load.classify(client, url, path.read_bytes())["probabilities"]


def in_browser(paths: list[Path]) -> Found:
    """The predictions of the page of tools.page, without a network and without a console error."""
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        page.write(Path(folder) / "page", page.collect(page.runtime(None)))
        with served(Path(folder) / "page") as address:
            ready(browser, address)
            for path in paths:
                said, found = classify(browser, path)
                assert found, (path, said)
                yield found
        assert not browser.errors, browser.errors
        assert all(each.startswith((address, "blob:", "data:")) for each in browser.requests)


PLACES: dict[str, Callable[[list[Path]], Found]] = {
    "export/classify.py": program,
    "tools.serve": endpoint,
    "tools.page": in_browser,
}


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


def ready(browser: Browser, address: str) -> None:
    """Open the page of tools.page, and wait for its model."""
    browser.open(address, "document.querySelector('#file')?.disabled === false")


def classify(browser: Browser, path: Path) -> tuple[str, dict[str, float]]:
    """What the page says about a file, and the probabilities that it shows, the highest first."""
    browser.js("document.querySelector('#status').textContent = 'waiting'")
    browser.choose("#file", path)
    return answer(browser)


def answer(browser: Browser) -> tuple[str, dict[str, float]]:
    """The same, once the page's status is no longer 'waiting'."""
    browser.wait(
        "document.querySelector('#status').textContent !== 'waiting'"
        " && document.querySelector('#progress').hidden"
    )
    said = browser.js("document.querySelector('#status').textContent")
    rows = browser.js(
        "document.querySelector('#result').hidden ? [] :"
        " [...document.querySelectorAll('li[data-probability]')].map(row => ({...row.dataset}))"
    )
    return said, {row["label"]: float(row["probability"]) for row in rows}


def main() -> int:
    settings = json.loads((EXPORT / "preprocessor_config.json").read_text(encoding="utf-8"))
    clips = results.predictions().merge(results.clips()[["clip", "seconds"]], on="clip")
    paths = [Path(path) for path in clips["path"]]
    expected = [results.probabilities(row) for _, row in clips.iterrows()]
    longer = (clips["seconds"] > settings["max_seconds"] + 0.01).to_numpy()
    failed = False
    for name, predictions in PLACES.items():
        begin = time.monotonic()
        found = list(predictions(paths))
        seconds = time.monotonic() - begin
        best = [max(each, key=each.__getitem__) for each in found]
        same = int((clips["predicted"] == best).sum())
        differences = np.array(
            [max(abs(a[label] - b[label]) for label in b) for a, b in zip(found, expected)]
        )
        largest = differences[~longer].max()
        print(
            f"{name}: {same} of {len(clips)} predictions as by evaluate, probabilities within "
            f"{largest:.1e}, in {seconds:.0f} s",
            f"({longer.sum()} longer clips: {differences[longer].max(initial=0):.1e})",
        )
        failed |= same < len(clips) or largest > LARGEST
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
