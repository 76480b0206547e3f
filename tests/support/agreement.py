"""Compare evaluate's predictions with those of every place in which the exported model runs.

    python -m tests.support.agreement

For each test clip of this repository's results, `export/classify.py`, the endpoint and the page in
headless Chromium must give evaluate's prediction, and its probabilities within 0.001. It needs
Chromium, and onnxruntime-web where tools.page keeps it. Exit code 1 if anything differs.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from genrepro.core.paths import EXPORT
from tests.support import browser, load
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
    with tempfile.TemporaryDirectory() as folder, browser.tab() as tab:
        page.write(Path(folder) / "page", page.collect(page.runtime(None)))
        with browser.served(Path(folder) / "page") as address:
            browser.ready(tab, address)
            for path in paths:
                said, found = browser.classify(tab, path)
                assert found, (path, said)
                yield found
        assert not tab.errors, tab.errors
        assert all(each.startswith((address, "blob:", "data:")) for each in tab.requests)


PLACES: dict[str, Callable[[list[Path]], Found]] = {
    "export/classify.py": program,
    "tools.serve": endpoint,
    "tools.page": in_browser,
}


def main() -> int:
    clips = results.predictions()
    paths = [Path(path) for path in clips["path"]]
    expected = [results.probabilities(row) for _, row in clips.iterrows()]
    failed = False
    for name, classify in PLACES.items():
        begin = time.monotonic()
        found = list(classify(paths))
        seconds = time.monotonic() - begin
        same = sum(
            max(a, key=a.__getitem__) == predicted
            for a, predicted in zip(found, clips["predicted"], strict=True)
        )
        difference = max(abs(a[label] - b[label]) for a, b in zip(found, expected) for label in b)
        print(
            f"{name}: {same} of {len(clips)} predictions as by evaluate, probabilities within "
            f"{difference:.1e}, in {seconds:.0f} s"
        )
        failed |= same < len(clips) or difference > LARGEST
    return failed


if __name__ == "__main__":
    sys.exit(main())
