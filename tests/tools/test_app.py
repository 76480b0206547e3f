"""The app's page and its controls, with and without results; no browser is started."""

import json
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
import soundfile
from gradio.utils import is_allowed_file

from genrepro.core.errors import PipelineError
from genrepro.core.files import sha256
from tests.support.samples import RATE, tone
from tests.tools.test_pictures import write_results
from tests.tools.test_predict import write_export
from tools import unlike
from tools.app import classify, clips, map, mistakes, page, runs, sounds
from tools.app.look import LOOK
from tools.unlike import Unlikeness


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
    notice, about, probabilities, remarks, picture, sound, _, as_json = classify.classify(
        "long.wav"
    )
    assert shown(notice) == "" and about == "**long.wav**"
    assert remarks.startswith("5.0 s, in 5 segments. To see how unlike the training clips it is")
    assert sum(probabilities.values()) == pytest.approx(1)
    assert picture["visible"] and "<svg" in picture["value"] and "<svg" in sound
    described = json.loads(as_json)
    assert described["file"] == "long.wav" and len(described["segments"]) == 5
    _, about, _, remarks, picture, *_ = classify.classify(classify.random_test_clip()[1])
    assert remarks.startswith("1.0 s, in 1 segment. ") and not picture["visible"]
    Path("noise.wav").write_bytes(b"no sound")
    notice, *_ = classify.classify("noise.wav")
    assert shown(notice).startswith("noise.wav cannot be classified: is text, not audio")
    assert shown(classify.classify(None)[0]) == shown(classify.no_model()) == ""


def test_silence_gets_no_label(finished):
    soundfile.write("silence.wav", tone(440, 3.0) * 0, RATE)
    notice, _, prediction, remarks, picture, *_ = classify.classify("silence.wav")
    assert shown(notice) == "" and prediction == "silence" and not picture["visible"]
    assert "**Silence: there is nothing to classify**." in remarks


def test_a_clip_of_the_corpus_is_known_by_its_content(finished):
    frame = sounds.results.clips().drop(columns="split")
    soundfile.write("renamed_1.wav", tone(900, 1.0), RATE)
    frame["sha256"] = [sha256(Path("renamed_1.wav")), *["0"] * (len(frame) - 1)]
    frame.to_csv("data/clips.csv", index=False)
    assert classify.origin(Path("renamed_1.wav")) == (
        "**renamed\\_1.wav** is the test clip c00: **hum**"
    )
    assert [label for label, _ in classify.examples()["choices"]] == [
        "007 (c02)", "NA (c01)", "hum (c00)",
    ]  # fmt: skip


def test_remarks_say_how_unlike_a_sound_is(finished):
    found = classify.loaded()[0].file(Path(sounds.results.clips()["path"][0]))
    far = replace(found, unlikeness=Unlikeness(2.5))
    assert classify.remarks(far, True)[1:] == [
        "**This sound is unlike anything this model was trained on**.",
        "Its distance to the nearest training clips is 2.50, where 95% of the validation clips are "
        "below 1.",
    ]
    near = replace(found, unlikeness=Unlikeness(0.5))
    assert classify.remarks(near, True)[1].startswith("It is like the clips that")


def test_the_map_shows_all_clips_and_plays_one(finished, monkeypatch):
    clips = sounds.results.clips()
    frame = clips[["clip", "label", "split"]].assign(predicted="NA", x=0.5, y=0.25)
    monkeypatch.setattr(unlike, "read", lambda: (frame, "t-SNE."))
    notice, about, points = map.show()
    assert shown(notice) == "" and points["visible"] and "placed by t-SNE." in about
    assert points["value"]["labels"] == ["007", "NA", "hum"]
    assert points["value"]["clips"][0] == ["c00", 2, "test", 1, 0.5, 0.25]
    event = gr.EventData(None, {"clip": "c00"})
    notice, caption, player, picture = map.choose(event)
    assert shown(notice) == "" and caption == "hum · c00 · test"
    assert player["value"] == "data/raw/hum/c00.wav" and "<svg" in picture
    assert "no clip gone any more" in shown(map.choose(gr.EventData(None, {"clip": "gone"}))[0])


def test_pictures_follow_the_theme(finished):
    picture = runs.picture("confusion")
    for variable in ("--body-text-color)", "--body-text-color-subdued)", "--body-background-fill)"):
        assert variable in picture
    assert "#22272e" not in picture and "<style" not in picture and "<metadata" not in picture
    assert 'aria-label="Confusion matrix of the test clips"' in picture and "<text" in picture


def test_two_runs_are_compared_side_by_side(finished, monkeypatch):
    after = sounds.results.predictions()
    after.loc[after["clip"] == "c10", "predicted"] = "NA"  # now right
    after.loc[after["clip"] == "c11", "predicted"] = "hum"  # wrong in another way
    both = {"before_1": sounds.results.predictions(), "after": after}
    monkeypatch.setattr(runs.stored, "predictions", both.__getitem__)
    notice, text, *pictures, content, choice = runs.side_by_side("before_1", "after")
    assert shown(notice) == "" and content["visible"]
    assert text.startswith(
        "Nothing can be said about after and before\\_1: +8.3 points on 12 clips"
    )
    assert text.endswith("They disagree on 2 of 12 clips.")
    assert all("<svg" in picture for picture in pictures)
    assert choice["value"] == "c10" and choice["choices"] == [
        ("NA · before_1: hum · after: NA (right) (c10)", "c10"),
        ("007 · before_1: NA · after: hum (c11)", "c11"),
    ]
    notice, _, path, picture = runs.listen("c10", "before_1", "after")
    assert shown(notice) == "" and path == "data/raw/NA/c10.wav" and "<svg" in picture
    assert runs.side_by_side("after", None)[1] == runs.NEITHER
    *_, content, choice = runs.side_by_side("after", "after")
    assert not content["visible"] and choice["choices"] == []


def test_the_table_of_experiments_offers_finished_ones(finished, monkeypatch):
    rows = [
        ["main (abc)", "", "0.9", "0.8", "0.7 to 0.9", ""],
        ["  half", "a<b", "0.9", "0.9", "0.8 to 1.0", "60"],
        ["  later", "", "queued", "", "", ""],
    ]
    monkeypatch.setattr(runs.experiments, "collected", lambda: rows)
    table, a, b = runs.list_experiments()
    assert "&emsp;half" in table and "a&lt;b" in table
    assert a["choices"] == ["workspace", "main", "half"] and a["value"] == "main"
    assert b["value"] is None


def test_parameters_are_those_of_the_run(finished):
    lock = {"stages": {"train": {"params": {"params.yaml": {"train": {"epochs": 5}, "seed": 1}}}}}
    Path("dvc.lock").write_text(json.dumps(lock))
    Path("params.yaml").write_text("{seed: 1, train: {epochs: 9}}")
    assert "<td>seed</td><td>1</td><td></td>" in runs.parameters()
    assert "<td>5</td><td>in params.yaml by now: 9, so type `dvc repro`</td>" in runs.parameters()
    assert "not committed." in runs.origin()


def test_a_probe_is_shown_by_penalty(finished):
    chosen = {"accuracy": 0.9, "loss": 0.1, "clips": 12, "penalty": 10.0}
    Path("metrics/validation.json").write_text(json.dumps(chosen))
    assert "penalties.csv does not exist yet" in shown(runs.this_run(["curves"])[0])
    Path("metrics/train/penalties.csv").write_text(
        "penalty,train_loss,validation_loss,accuracy\n100,0.3,0.4,0.8\n10,0.1,0.3,0.9\n"
    )
    picture = runs.picture("curves")
    assert "penalty" in picture and "kept: 10" in picture and "epoch" not in picture


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
    _, _, _, metrics, *figures = runs.this_run(list(runs.PICTURES))
    assert all(figure["visible"] for figure in figures)
    assert "| **test accuracy** | 0.833 | 0.500 to 0.950 |" in metrics["value"]
    assert "| validation accuracy, epoch 2 | 0.900 | |" in metrics["value"]


def test_without_a_run_each_tab_names_the_command_to_type(in_tmp):
    assert "`dvc repro prepare`" in shown(clips.listen("any", "any")[0])
    assert "type `dvc repro`." in shown(classify.classify("a.wav")[0])
    assert shown(classify.no_model()) == shown(classify.classify("a.wav")[0])
    assert "`dvc repro evaluate`" in shown(mistakes.mistakes()[0])
    notice, *figures = runs.this_run(["curves", "confusion"])
    assert "`dvc repro train`" in shown(notice) and "`dvc repro evaluate`" in shown(notice)
    assert not any(figure["visible"] for figure in figures)
    assert "dvc repro" in page.show_headline()
    assert "`dvc repro prepare`" in shown(classify.random_test_clip()[0])
    classify.warm_up()


def test_a_missing_result_hides_only_its_picture(finished):
    Path("metrics/plots/reliability.csv").unlink()
    notice, _, _, metrics, curves, reliability = runs.this_run(["curves", "reliability"])
    assert "reliability.csv does not exist yet" in shown(notice)
    assert metrics["visible"] and curves["visible"] and not reliability["visible"]


def test_a_replaced_export_is_loaded_again(finished, export):
    before = classify.loaded()
    assert classify.loaded() is before
    weights = export / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert classify.loaded() is not before


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
