"""Compare evaluate's predictions with those of every place in which the exported model runs.

    python -m tests.support.agreement

For each test clip of this repository's results, `export/classify.py`, the endpoint and the page in
headless Chromium must give evaluate's prediction, and its probabilities within 0.001. Of clips that
are longer than `encode.max_seconds` evaluate uses the start, the endpoint and the page use all, so
those may differ more. It needs Chromium, and onnxruntime-web where tools.page keeps it. Exit code 1
if anything else differs.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from genrepro.core.paths import EXPORT
from tests.support import load
from tests.support import page_browser as browser
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
    settings = json.loads((EXPORT / "preprocessor_config.json").read_text(encoding="utf-8"))
    clips = results.predictions().merge(results.clips()[["clip", "seconds"]], on="clip")
    paths = [Path(path) for path in clips["path"]]
    expected = [results.probabilities(row) for _, row in clips.iterrows()]
    longer = (clips["seconds"] > settings["max_seconds"] + 0.01).to_numpy()
    failed = False
    for name, classify in PLACES.items():
        begin = time.monotonic()
        found = list(classify(paths))
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
