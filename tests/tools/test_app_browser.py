"""The app in headless Chromium: every page, by mouse and by keyboard, with 10,000 clips."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.support.browser import CHROMIUM, Browser
from tests.support.samples import RATE, ROOT, tone
from tests.tools.test_pictures import LABELS, write_results

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")]
CLIPS = 10_000
TESTED = 1000
ROWS = "document.querySelector('.row[role=option]')"


def write_corpus(folder: Path) -> None:
    """The tables of a run with 10,000 clips, which share one sound file; one in ten is tested."""
    write_results(folder)
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "data/raw").mkdir()
    soundfile.write(folder / "data/raw/tone.wav", tone(440, 1.0), RATE)
    clips = [f"c{number:05d}" for number in range(CLIPS)]
    true = np.array(LABELS)[np.arange(CLIPS) % 3]
    facts = {"clip": clips, "path": "data/raw/tone.wav", "label": true}
    table = pd.DataFrame(facts | {"seconds": 1.0, "group": "a band", "title": "", "part": ""})
    table.to_csv(folder / "data/clips.csv", index=False)
    splits = np.where(np.arange(CLIPS) < TESTED, "test", "train")
    table = pd.DataFrame({"clip": clips, "label": true, "split": splits})
    table.to_csv(folder / "data/split.csv", index=False)
    predicted = np.where(np.arange(CLIPS) % 50, true, "hum")
    p = {f"p_{label}": np.where(predicted == label, 0.8, 0.1) for label in LABELS}
    table = pd.DataFrame(facts | {"group": "a band", "predicted": predicted} | p)
    table[:TESTED].to_csv(folder / "data/predictions.csv", index=False)


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[str]:
    """The address of an app on a loopback port, and its folder as the working directory."""
    from tools.app import page
    from tools.app.look import LOOK

    before = Path.cwd()
    folder = tmp_path_factory.mktemp("app")
    write_corpus(folder)
    os.chdir(folder)
    built = page.build()
    try:
        _, address, _ = built.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, **LOOK)
        yield address
    finally:
        built.close()
        os.chdir(before)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def chosen(browser: Browser, clip: str) -> None:
    """Wait until a clip is chosen in the list, in the address, and beside the list."""
    browser.wait(f"document.querySelector('[aria-selected=true] .clip')?.innerText === '{clip}'")
    browser.wait(f"location.search.includes('clip={clip}')")
    browser.wait(f"[...document.querySelectorAll('strong')].some(e => e.innerText === '{clip}')")


def count(browser: Browser) -> str:
    return browser.js("document.querySelector('.count').innerText")


def test_ten_thousand_clips_are_listed_in_two_seconds_and_filtered_in_a_fifth(app, browser):
    """On a busy machine, the time that page and server compute says what the clock cannot."""
    first = []
    for _ in range(3):
        browser.send("Page.navigate", url="about:blank")
        browser.settle(0.5)
        start = time.process_time() + browser.cpu_seconds()
        browser.send("Page.navigate", url=app)
        browser.wait(f"location.href !== 'about:blank' && !!{ROWS}")
        clock = browser.js(  # since navigation began; the next frame paints the rows
            "new Promise(done => requestAnimationFrame(() => done(performance.now() / 1000)))"
        )
        first.append((clock, time.process_time() + browser.cpu_seconds() - start))
    assert count(browser) == "10,000 clips"
    search = (
        "new Promise(done => { const start = performance.now();"
        "const search = document.querySelector('input[name=search]'); search.value = 'c0999 hum';"
        "search.dispatchEvent(new Event('input'));"
        "requestAnimationFrame(() => done((performance.now() - start) / 1000)); })"
    )
    took = min(browser.js(search) for _ in range(3))
    assert count(browser) == "4 of 10,000 clips"
    print(f"first rows after {first} s by clock and CPU, filtered in {took:.3f} s")
    assert min(min(clock, cpu) for clock, cpu in first) <= 2.0
    assert took <= 0.2
    assert browser.errors == []


def test_clips_are_gone_through_filtered_and_sorted(app, browser):
    browser.open(app, ROWS)
    chosen(browser, "c00000")
    browser.press("j")
    chosen(browser, "c00001")
    browser.press("k")
    chosen(browser, "c00000")
    browser.click(".row[role=option]:nth-child(4)")
    chosen(browser, "c00003")
    browser.js("document.querySelector('.view').focus()")
    browser.press("ArrowDown")
    chosen(browser, "c00004")
    browser.press("End")
    chosen(browser, "c09999")
    assert browser.js("document.querySelectorAll('.row[role=option]').length") < 60
    browser.press("/")
    browser.type("c0005")
    assert count(browser) == "10 of 10,000 clips"
    assert browser.js("document.querySelectorAll('audio').length") <= 1
    for name, value in (("search", ""), ("show", "wrong"), ("sort", "loss")):
        browser.js(
            f"(() => {{ const e = document.querySelector('[name={name}]'); e.value = '{value}';"
            "e.dispatchEvent(new Event('input')); })()"
        )
    assert count(browser) == "13 of 10,000 clips"
    assert browser.js(f"{ROWS}.querySelector('.loss').innerText") == "2.30"
    assert browser.errors == []


def test_a_clip_is_played_by_key(app, browser):
    browser.open(f"{app}?clip=c00007", ROWS)
    chosen(browser, "c00007")
    browser.wait("!!document.querySelector('.player .play-pause-button')")
    label = "document.querySelector('.player .play-pause-button').getAttribute('aria-label')"
    before = browser.wait(label)
    browser.press(" ")
    browser.wait(f"{label} !== '{before}'")
    assert browser.errors == []


def test_a_mistake_is_corrected_and_put_back_by_keyboard_and_mouse(app, browser):
    table = Path("corpora/demo/corrections.csv")
    browser.open(f"{app}mistakes", ROWS)
    clip = browser.wait("new URL(location).searchParams.get('clip')")
    chosen(browser, clip)
    browser.wait("document.querySelector('#right-label input').value === 'hum'")
    browser.press("m")  # to the right label, where the prediction is; then on to the note
    assert browser.js("!!document.activeElement.closest('#right-label')")
    browser.press("Escape")
    browser.press("Tab")
    browser.type("sounds like a hum")
    browser.press("Tab")
    assert browser.js("document.activeElement.innerText") == "Correct the label"
    browser.press("Enter")
    browser.wait("!!document.querySelector('[aria-selected=true] .label s')")
    assert table.read_text() == f"clip,label,note\n{clip},hum,sounds like a hum\n"
    browser.wait("document.body.innerText.includes('-S data.corrections=')")
    browser.settle()
    browser.open(f"{app}?show=marked", ROWS)
    assert count(browser) == "1 of 10,000 clips"
    chosen(browser, clip)
    undo = "[...document.querySelectorAll('button')].find(e => e.innerText === 'Undo')"
    browser.wait(f"!{undo}.disabled")
    browser.js(f"{undo}.id = 'undo'")
    browser.click("#undo")
    browser.wait("!document.querySelector('[aria-selected=true] .label s')")
    assert table.read_text() == "clip,label,note\n"
    assert browser.errors == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_page_opens_without_an_error_and_fits(app, width, dark):
    with Browser(width, dark=dark) as browser:
        browser.open(app, ROWS)
        browser.settle()
        pages = browser.js("[...document.querySelectorAll('nav a')].map(each => each.href)")
        assert len(pages) >= 4
        for page in pages:
            browser.open(page, "document.querySelector('h1')")
            browser.settle()
            assert browser.js("document.documentElement.scrollWidth <= innerWidth"), page
        browser.js("history.back()")
        browser.wait(f"location.pathname === new URL('{pages[-2]}').pathname")
        browser.settle()
        assert browser.errors == []
