"""The app's page and what its buttons do, with results and without; no browser is started."""

import json
from pathlib import Path

import gradio as gr
import pytest
import soundfile

from genrepro.core.errors import PipelineError
from tests.support.samples import RATE, tone
from tests.tools.test_pictures import write_results
from tests.tools.test_predict import write_export
from tools.app import page, sounds


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("app") / "export")


@pytest.fixture
def finished(in_tmp, export):
    """A folder in which a run was finished."""
    write_results(in_tmp)
    for path in sounds.results.clips()["path"]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(440, 1.0), RATE)
    (in_tmp / "export").symlink_to(export)
    return in_tmp


def said(update: dict) -> str:
    """What a notice says, or nothing where it is hidden."""
    return update["value"] if update["visible"] else ""


def test_the_page_asks_nothing_of_the_network():
    built = page.build()
    assert isinstance(built, gr.Blocks) and not built.analytics_enabled
    fonts = [*page.LOOK["theme"]._font, *page.LOOK["theme"]._font_mono]
    assert not any(isinstance(font, gr.themes.GoogleFont) for font in fonts)
    config = json.dumps(built.get_config_file(), default=str)
    for tab in ("Listen", "Classify", "Mistakes", "Runs"):
        assert f'"{tab}"' in config


def test_listening_chooses_by_label_and_part(finished):
    assert page.label_choices()["choices"] == ["any", "007", "NA", "hum"]
    notice, *players = page.listen("NA", "test")
    assert said(notice) == ""
    captions, files = players[::2], players[1::2]
    assert [caption["value"] for caption in captions] == ["**NA** · test"] * 4
    assert all(Path(file["value"]).parent.name == "NA" for file in files)
    assert len({file["value"] for file in files}) == 4
    notice, *players = page.listen("hum", "train")
    assert said(notice) == "No clip of label hum is in part train."
    assert not any(player["visible"] for player in players)


def test_a_sound_is_classified_and_a_long_one_over_time(finished):
    soundfile.write("long.wav", tone(440, 5.0), RATE)
    notice, probabilities, words, picture = page.classify("long.wav")
    assert said(notice) == "" and words == "5.0 s heard in 5 segments."
    assert sum(probabilities.values()) == pytest.approx(1)
    assert picture["visible"]
    *_, words, picture = page.classify(page.random_test_clip()[1])
    assert words == "1.0 s heard in 1 segment." and not picture["visible"]
    Path("noise.wav").write_bytes(b"no sound")
    notice, *_ = page.classify("noise.wav")
    assert said(notice).startswith("This sound cannot be classified: cannot be decoded")
    assert said(page.classify(None)[0]) == said(page.no_model()) == ""


def test_mistakes_come_with_player_picture_and_probabilities(finished):
    notice, content, choice = page.mistakes()
    assert said(notice) == "" and content["visible"]
    assert choice["choices"] == [
        ("NA heard as hum, 0.80 (c10)", "c10"), ("007 heard as NA, 0.80 (c11)", "c11")
    ]  # fmt: skip
    notice, caption, path, picture, probabilities = page.mistake(choice["value"])
    assert caption == "**c10** is **NA**, heard as **hum** · band"
    assert path == "data/raw/NA/c10.wav" and len(picture.axes) == 2
    assert probabilities == {"hum": 0.8, "NA": 0.1, "007": 0.1}
    Path(path).write_bytes(b"")
    assert "empty file. `dvc repro -f fetch_data`" in said(page.mistake("c10")[0])
    Path(path).unlink()
    assert "c10.wav" in said(page.mistake("c10")[0])


def test_the_run_is_told_in_a_line_and_in_a_table(finished):
    assert sounds.headline().startswith("**Hums**: 12 clips, 1 labels. Test accuracy **0.833**")
    known = json.loads(Path("metrics/data.json").read_text())
    known["corpus"] |= {"title": None, "name": "hums"}  # a folder without a card
    Path("metrics/data.json").write_text(json.dumps(known))
    assert sounds.headline().startswith("**hums**: 12 clips")
    notice, merit, *figures = page.runs(["curves", "confusion", "recall", "reliability"])
    assert said(notice) == "" and all(figure["visible"] for figure in figures)
    assert "| **test accuracy** | 0.833 | 0.500 to 0.950 |" in merit["value"]
    assert "| validation accuracy, epoch 2 | 0.900 | |" in merit["value"]


def test_without_a_run_each_tab_names_the_command_that_makes_it(in_tmp):
    assert "`dvc repro prepare`" in said(page.listen("any", "any")[0])
    assert "`dvc repro` makes it" in said(page.classify("a.wav")[0])
    assert said(page.no_model()) == said(page.classify("a.wav")[0])
    assert "`dvc repro evaluate`" in said(page.mistakes()[0])
    notice, *figures = page.runs(["curves", "confusion"])
    assert "`dvc repro train`" in said(notice) and "`dvc repro evaluate`" in said(notice)
    assert not any(figure["visible"] for figure in figures)
    assert "dvc repro" in page._or_nothing(sounds.headline)()
    assert "`dvc repro prepare`" in said(page.random_test_clip()[0])
    sounds.warm_up()


def test_one_missing_result_hides_its_picture_alone(finished):
    Path("metrics/plots/reliability.csv").unlink()
    notice, merit, curves, reliability = page.runs(["curves", "reliability"])
    assert "reliability.csv is not there yet" in said(notice)
    assert merit["visible"] and curves["visible"] and not reliability["visible"]


def test_a_replaced_export_is_loaded_again(finished, export):
    before = sounds._classifier()
    assert sounds._classifier() is before
    weights = export / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert sounds._classifier() is not before


def test_a_clip_that_is_gone_is_named(finished):
    for path in Path("data/raw").rglob("*.wav"):
        path.unlink()
    with pytest.raises(PipelineError, match=r"is not there. `dvc repro fetch_data` makes it"):
        sounds.draw_clips("any", "any", 2)
