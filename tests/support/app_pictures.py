"""Take the README's pictures of the app, in headless Chromium: python -m tests.support.app_pictures

It shows the run in metrics/, as the pictures of tools.pictures do, and notes that in each PNG.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from genrepro.core.files import atomic_output
from tests.support.browser import CHROMIUM, Browser
from tools import pictures

PAGES = {"app-clips": "", "app-map": "map", "app-mistakes": "mistakes"}  # file -> address


def main() -> None:
    if CHROMIUM is None:
        sys.exit("error: pictures of the app take Chromium: `apt-get install chromium`.")
    about = PngInfo()
    about.add_text(pictures.KEY, pictures.shown_figures())
    with running_app() as address, Browser(1280, 900) as browser:
        for name, page in PAGES.items():
            browser.open(f"{address}{page}", "document.querySelector('h1')")
            browser.settle(3)
            path = pictures.DEFAULT / f"{name}.png"
            with atomic_output(path) as draft:
                browser.picture(draft)
                with Image.open(draft) as picture:
                    picture.save(draft, "PNG", optimize=True, pnginfo=about)
            print(path)


@contextmanager
def running_app() -> Iterator[str]:
    """The address of the app, in a process of its own."""
    command = [sys.executable, "-m", "tools.app"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        try:
            first = app.stdout.readline()
            found = re.search(r"http://\S+", first)
            if found is None:
                sys.exit(f"error: the app did not start: type `make app` to see why. {first}")
            yield found[0]
        finally:
            app.kill()


if __name__ == "__main__":
    main()
