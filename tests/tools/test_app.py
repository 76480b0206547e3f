"""The app's page and its controls, with and without results; no browser is started."""

import json
from pathlib import Path

import gradio as gr
import pytest
import soundfile
from gradio.utils import is_allowed_file

from genrepro.core.errors import PipelineError
from tests.support.samples import RATE, tone
from tests.tools.test_pictures import write_results
from tests.tools.test_predict import write_export
from tools.app import classify, clips, mistakes, page, runs, sounds
from tools.app.look import LOOK


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("app") / "export")


@pytest.fixture
def finished(in_tmp, export):
    """A folder with a finished run."""
    write_results(in_tmp)
    for path in sounds.results.clips()["path"]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(440, 1.0), RATE)
    (in_tmp / "export").symlink_to(export)
    return in_tmp


def shown(update: dict) -> str:
    """The text of a notice, empty if it is hidden."""
    return update["value"] if update["visible"] else ""


def test_the_page_needs_no_network():
    built = page.build()
    assert isinstance(built, gr.Blocks) and not built.analytics_enabled
    fonts = [*LOOK["theme"]._font, *LOOK["theme"]._font_mono]
    assert not any(isinstance(font, gr.themes.GoogleFont) for font in fonts)
    config = json.dumps(built.get_config_file(), default=str)
    for name in page.PAGES:
        assert f'"{name}"' in config


def test_clips_are_chosen_by_label_and_split(finished):
    assert clips.label_choices()["choices"] == ["any", "007", "NA", "hum"]
    notice, *players = clips.listen("NA", "test")
    assert shown(notice) == ""
    captions, files = players[::2], players[1::2]
    assert [caption["value"] for caption in captions] == ["**NA** · test"] * 4
    assert all(Path(file["value"]).parent.name == "NA" for file in files)
    assert len({file["value"] for file in files}) == 4
    notice, *players = clips.listen("hum", "train")
    assert shown(notice) == "There is no hum clip in the train split."
    assert not any(player["visible"] for player in players)


def test_a_sound_is_classified_and_a_long_one_over_time(finished):
    soundfile.write("long.wav", tone(440, 5.0), RATE)
    notice, probabilities, note, picture = classify.classify("long.wav")
    assert shown(notice) == "" and note == "5.0 s, in 5 segments."
    assert sum(probabilities.values()) == pytest.approx(1)
    assert picture["visible"]
    *_, note, picture = classify.classify(classify.random_test_clip()[1])
    assert note == "1.0 s, in 1 segment." and not picture["visible"]
    Path("noise.wav").write_bytes(b"no sound")
    notice, *_ = classify.classify("noise.wav")
    assert shown(notice).startswith("This sound cannot be classified: is text, not audio")
    assert shown(classify.classify(None)[0]) == shown(classify.no_model()) == ""


def test_a_mistake_has_player_picture_and_probabilities(finished):
    notice, content, choice = mistakes.mistakes()
    assert shown(notice) == "" and content["visible"]
    assert choice["choices"] == [
        ("NA predicted as hum, 0.80 (c10)", "c10"), ("007 predicted as NA, 0.80 (c11)", "c11")
    ]  # fmt: skip
    notice, caption, path, picture, probabilities = mistakes.mistake(choice["value"])
    assert caption == "**c10** is **NA**, predicted as **hum** · band"
    assert path == "data/raw/NA/c10.wav" and len(picture.axes) == 2
    assert probabilities == {"hum": 0.8, "NA": 0.1, "007": 0.1}
    Path(path).write_bytes(b"")
    assert "(empty file): type `dvc repro -f fetch_data`" in shown(mistakes.mistake("c10")[0])
    Path(path).unlink()
    assert "c10.wav" in shown(mistakes.mistake("c10")[0])


def test_the_run_has_a_headline_and_a_table(finished):
    assert sounds.headline().startswith("**Hums**: 12 clips, 1 labels. Test accuracy **0.833**")
    known = json.loads(Path("metrics/data.json").read_text())
    known["corpus"] |= {"title": None, "name": "hums"}  # a folder without a card
    Path("metrics/data.json").write_text(json.dumps(known))
    assert sounds.headline().startswith("**hums**: 12 clips")
    notice, metrics, *figures = runs.runs(["curves", "confusion", "recall", "reliability"])
    assert shown(notice) == "" and all(figure["visible"] for figure in figures)
    assert "| **test accuracy** | 0.833 | 0.500 to 0.950 |" in metrics["value"]
    assert "| validation accuracy, epoch 2 | 0.900 | |" in metrics["value"]


def test_without_a_run_each_tab_names_the_command_to_type(in_tmp):
    assert "`dvc repro prepare`" in shown(clips.listen("any", "any")[0])
    assert "type `dvc repro`." in shown(classify.classify("a.wav")[0])
    assert shown(classify.no_model()) == shown(classify.classify("a.wav")[0])
    assert "`dvc repro evaluate`" in shown(mistakes.mistakes()[0])
    notice, *figures = runs.runs(["curves", "confusion"])
    assert "`dvc repro train`" in shown(notice) and "`dvc repro evaluate`" in shown(notice)
    assert not any(figure["visible"] for figure in figures)
    assert "dvc repro" in page.show_headline()
    assert "`dvc repro prepare`" in shown(classify.random_test_clip()[0])
    sounds.warm_up()


def test_a_missing_result_hides_only_its_picture(finished):
    Path("metrics/plots/reliability.csv").unlink()
    notice, metrics, curves, reliability = runs.runs(["curves", "reliability"])
    assert "reliability.csv does not exist yet" in shown(notice)
    assert metrics["visible"] and curves["visible"] and not reliability["visible"]


def test_a_replaced_export_is_loaded_again(finished, export):
    before = sounds._classifier()
    assert sounds._classifier() is before
    weights = export / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert sounds._classifier() is not before


def test_clips_that_are_links_into_dvc_s_cache_may_be_played(finished, tmp_path_factory):
    assert sounds.linked_from() == []
    cache = tmp_path_factory.mktemp("cache") / "files/md5"
    clips = [Path(path) for path in sounds.results.clips()["path"]]
    for number, clip in enumerate(clips):
        (cache / f"{number:02d}").mkdir(parents=True)
        clip.rename(cache / f"{number:02d}/abc")
        clip.symlink_to(cache / f"{number:02d}/abc")
    allowed = sounds.linked_from()
    assert allowed == [str(cache.resolve())]
    for clip in clips:  # as gradio checks a file before it serves it
        assert is_allowed_file(clip, [], allowed, []) == (True, "allowed")


def test_a_missing_clip_is_named(finished):
    for path in Path("data/raw").rglob("*.wav"):
        path.unlink()
    with pytest.raises(PipelineError, match=r"does not exist: type `dvc repro -f fetch_data`"):
        sounds.draw_clips("any", "any", 2)
