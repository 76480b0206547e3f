"""The app's page and its controls, with and without results; no browser is started."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pandas as pd
import pytest
import soundfile
from gradio.utils import is_allowed_file

from genrepro.core.errors import PipelineError
from genrepro.core.files import sha256
from tests.support.samples import RATE, ROOT, tone
from tests.tools.test_pictures import write_results
from tests.tools.test_predict import write_export
from tools import results, unlike
from tools import runs as runs_of_dvc
from tools.app import __main__ as main
from tools.app import classify, corpus, current, listing, map, page, runs
from tools.app.look import LOOK
from tools.unlike import Unlikeness

SPECTROGRAM = '<figure class="spectrogram">'


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("app") / "export")


@pytest.fixture
def finished(in_tmp, export):
    """A folder with a finished run."""
    write_results(in_tmp)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    for path in results.clips()["path"]:
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


def listed(rows: corpus.Rows) -> list[dict]:
    return [dict(zip(rows.columns, row)) for row in rows.values]


def test_all_clips_are_listed_with_prediction_and_loss(finished):
    rows = listed(corpus.all_clips())
    assert [row["clip"] for row in rows] == [f"c{n:02d}" for n in range(12)]
    first, wrong = rows[0], rows[10]
    assert first == {
        "clip": "c00", "label": "hum", "split": "test", "group": "", "title": "", "seconds": 1.0,
        "predicted": "hum", "loss": pytest.approx(-math.log(0.8), abs=1e-4),
    }  # fmt: skip
    assert (wrong["label"], wrong["predicted"]) == ("NA", "hum")
    assert wrong["loss"] == pytest.approx(-math.log(0.1), abs=1e-4)
    corpus.PREDICTIONS.unlink()  # before the first evaluation
    assert {(row["predicted"], row["loss"]) for row in listed(corpus.all_clips())} == {("", None)}
    json.dumps(corpus.all_clips().values, allow_nan=False)  # as the browser gets it


def test_a_clip_has_player_spectrogram_and_probabilities(finished):
    shown_now = listing.select("c10", play=True)
    notice, clip, caption, still, plays, spectrogram, probabilities, label, note, undo = shown_now
    assert shown(notice) == "" and clip == "c10"
    assert caption.startswith("**c10** is labelled **NA**, predicted as **hum**")
    assert plays["value"] == "data/raw/NA/c10.wav" and not still["visible"]
    assert "Spectrogram of 1.0 seconds, 60 Hz to 8 kHz" in spectrogram and "1 kHz" in spectrogram
    assert probabilities["value"] == {"hum": 0.8, "NA": 0.1, "007": 0.1}
    assert (label, note, undo["interactive"]) == ("hum", "", False)  # what it may be instead
    _, _, _, still, plays, *_, label, note, undo = listing.select("c00", play=False)
    assert still["value"] == "data/raw/hum/c00.wav" and not plays["visible"]
    assert label is None


def test_a_clip_that_is_damaged_or_missing_is_named(finished):
    path = Path("data/raw/NA/c10.wav")
    path.write_bytes(b"")
    notice, clip, caption, still, plays, *_ = listing.select("c10", play=True)
    assert "(empty file): type `dvc repro -f fetch_data`" in shown(notice)
    assert clip == "c10" and not still["visible"] and not plays["visible"] and "c10" in caption
    path.unlink()
    assert "c10.wav does not exist: type `dvc" in shown(listing.select("c10", play=True)[0])


def test_the_mistakes_are_listed_with_the_highest_loss(finished):
    rows = listed(corpus.mistakes())
    assert [(row["clip"], row["label"], row["predicted"]) for row in rows] == [
        ("c10", "NA", "hum"), ("c11", "007", "NA")
    ]  # fmt: skip
    table = results.predictions()
    table.assign(predicted=table["label"]).to_csv(corpus.PREDICTIONS, index=False)
    notice, *_ = listing.fill(corpus.mistakes)
    assert shown(notice) == "The model predicted every test clip correctly."


def test_after_a_cross_validation_every_clip_has_a_prediction(finished, monkeypatch):
    table = results.predictions()
    table[6:].to_csv(corpus.PREDICTIONS, index=False)
    other = table[:7].assign(p_hum=0.0, p_NA=1.0)  # c06, a hum, is in both runs
    monkeypatch.setattr(runs_of_dvc, "experiments", lambda: ["fold-1"])
    monkeypatch.setattr(runs_of_dvc, "predictions", lambda name: other)
    assert sum(row["predicted"] != "" for row in listed(corpus.all_clips())) == 6
    rows = {row["clip"]: row for row in listed(corpus.all_clips(everywhere=True))}
    assert all(row["predicted"] for row in rows.values())
    assert rows["c00"]["loss"] == pytest.approx(-math.log(corpus.LEAST), abs=1e-3)
    assert rows["c06"]["predicted"] == "NA"
    assert rows["c06"]["loss"] == pytest.approx(-math.log(0.4), abs=1e-4)
    _, _, caption, *_ = listing.select("c00", play=False, everywhere=True)
    assert "predicted as **NA**" in caption


def test_a_clip_is_corrected_left_out_and_put_back(finished):
    table = Path("corpora/demo/corrections.csv")
    notice, listed, labels, outcome = listing.fill(corpus.all_clips)
    assert shown(notice) == "" and labels["choices"] == ["007", "NA", "hum"]
    assert listed["marks"] == "{}" and outcome.startswith("No corrections yet.")

    notice, listed, undo, outcome = listing.correct("c10", "hum", " sounds like\na hum ")
    assert shown(notice) == "" and undo["interactive"]
    assert json.loads(listed["marks"]) == {"c10": "hum"}
    assert table.read_text() == "clip,label,note\nc10,hum,sounds like a hum\n"
    assert outcome.startswith("Labels corrected: **1**, clips left out: **0**")
    assert "type `dvc exp run -S data.corrections=corpora/demo/corrections.csv`" in outcome
    *_, label, note, undo = listing.select("c10", play=False)
    assert (label, note, undo["interactive"]) == ("hum", "sounds like a hum", True)

    listing.correct("c11", "", "noise")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("corrections: null", f"corrections: {table}"))
    assert "type `dvc repro`" in listing.correct("c10", "007", "")[-1]
    assert table.read_text() == "clip,label,note\nc10,007,\nc11,,noise\n"
    notice, listed, undo, outcome = listing.take_back("c10")
    assert table.read_text() == "clip,label,note\nc11,,noise\n" and not undo["interactive"]

    clips = pd.read_csv("data/clips.csv", dtype=str, keep_default_na=False)
    clips[clips["clip"] != "c11"].to_csv("data/clips.csv", index=False)  # as after `dvc repro`
    assert corpus.all_clips().values[-1][:3] == ["c11", "", "left out"]
    _, _, caption, still, plays, *_ = listing.select("c11", play=True)
    assert caption == "**c11** is not in the corpus: it is left out."
    assert not still["visible"] and not plays["visible"]
    listing.take_back("c11")
    assert table.read_text() == "clip,label,note\n"


@pytest.mark.parametrize(
    ("clip", "label", "words"),
    [
        (None, "hum", "Choose a clip first."),
        ("c10", None, "Choose the right label first"),
        ("c10", "NA", "c10 is labelled NA already."),
    ],
)
def test_a_correction_that_says_nothing_is_refused(finished, clip, label, words):
    assert words in shown(listing.correct(clip, label, "")[0])
    assert not Path("corpora").exists()


def test_corrections_that_cannot_be_read_are_kept_and_named(finished):
    table = Path("corpora/demo/corrections.csv")
    table.parent.mkdir(parents=True)
    table.write_text("clip;label\n")
    for done in (listing.correct("c10", "hum", ""), listing.fill(corpus.all_clips)):
        assert "needs the columns clip, label, note" in shown(done[0])
    assert table.read_text() == "clip;label\n"


def test_a_sound_is_classified_and_a_long_one_over_time(finished):
    soundfile.write("long.wav", tone(440, 5.0), RATE)
    notice, about, probabilities, remarks, picture, sound, _, as_json = classify.classify(
        "long.wav"
    )
    assert shown(notice) == "" and about == "**long.wav**"
    assert remarks.startswith("5.0 s, in 5 segments. To see how unlike the training clips it is")
    assert sum(probabilities.values()) == pytest.approx(1)
    assert picture["visible"] and "<svg" in picture["value"] and SPECTROGRAM in sound
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
    frame = results.clips().drop(columns="split")
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
    found = classify.loaded()[0].file(Path(results.clips()["path"][0]))
    far = replace(found, unlikeness=Unlikeness(2.5))
    assert classify.remarks(far, True)[1:] == [
        "**This sound is unlike anything this model was trained on**.",
        "Its distance to the nearest training clips is 2.50, where 90% of the validation clips are "
        "below 1.",
    ]
    near = replace(found, unlikeness=Unlikeness(0.5))
    assert classify.remarks(near, True)[1].startswith("It is like the clips that")


def test_the_map_shows_all_clips_and_plays_one(finished, monkeypatch):
    clips = results.clips()
    frame = clips[["clip", "label", "split"]].assign(predicted="NA", x=0.5, y=0.25)
    monkeypatch.setattr(unlike, "read", lambda: (frame, "t-SNE."))
    notice, about, points = map.show()
    assert shown(notice) == "" and points["visible"] and "placed by t-SNE." in about
    assert points["value"]["labels"] == ["007", "NA", "hum"]
    assert points["value"]["clips"][0] == ["c00", 2, "test", 1, 0.5, 0.25]
    event = gr.EventData(None, {"clip": "c00"})
    notice, caption, player, picture = map.choose(event)
    assert shown(notice) == "" and caption == "hum · c00 · test"
    assert player["value"] == "data/raw/hum/c00.wav" and SPECTROGRAM in picture
    assert "no clip gone any more" in shown(map.choose(gr.EventData(None, {"clip": "gone"}))[0])


def test_pictures_follow_the_theme(finished):
    picture = runs.picture("confusion")
    for variable in ("--body-text-color)", "--body-text-color-subdued)", "--body-background-fill)"):
        assert variable in picture
    assert "#22272e" not in picture and "<style" not in picture and "<metadata" not in picture
    assert 'aria-label="Confusion matrix of the test clips"' in picture and "<text" in picture


def test_two_runs_are_compared_side_by_side(finished, monkeypatch):
    after = results.predictions()
    after.loc[after["clip"] == "c10", "predicted"] = "NA"  # now right
    after.loc[after["clip"] == "c11", "predicted"] = "hum"  # wrong in another way
    both = {"before_1": results.predictions(), "after": after}
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
    assert shown(notice) == "" and path == "data/raw/NA/c10.wav" and SPECTROGRAM in picture
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
    Path("metrics/train/curves.csv").write_text(
        "by,value,training_loss,validation_loss,accuracy,kept\n"
        "penalty,100,0.3,0.4,0.8,0\npenalty,10,0.1,0.3,0.9,1\n"
    )
    picture = runs.picture("curves")
    assert "penalty" in picture and "epoch" not in picture


def test_the_run_has_a_headline_and_a_table(finished):
    assert current.headline().startswith("**Hums**: 12 clips, 1 labels. Test accuracy **0.833**")
    known = json.loads(Path("metrics/data.json").read_text())
    known["corpus"] |= {"title": None, "name": "hums"}  # a folder without a card
    Path("metrics/data.json").write_text(json.dumps(known))
    assert current.headline().startswith("**hums**: 12 clips")
    _, _, _, metrics, *figures = runs.this_run(list(runs.PICTURES))
    assert all(figure["visible"] for figure in figures)
    assert "| **test accuracy** | 0.833 | 0.500 to 0.950 |" in metrics["value"]
    assert "| validation accuracy, epoch 2 | 0.900 | |" in metrics["value"]


def test_without_a_run_each_tab_names_the_command_to_type(in_tmp):
    assert "`dvc repro prepare`" in shown(listing.fill(corpus.all_clips)[0])
    assert "type `dvc repro`." in shown(classify.classify("a.wav")[0])
    assert shown(classify.no_model()) == shown(classify.classify("a.wav")[0])
    assert "`dvc repro evaluate`" in shown(listing.fill(corpus.mistakes)[0])
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
    assert main.linked_from() == []
    cache = tmp_path_factory.mktemp("cache") / "files/md5"
    clips = [Path(path) for path in results.clips()["path"]]
    for number, clip in enumerate(clips):
        (cache / f"{number:02d}").mkdir(parents=True)
        clip.rename(cache / f"{number:02d}/abc")
        clip.symlink_to(cache / f"{number:02d}/abc")
    allowed = main.linked_from()
    assert allowed == [str(cache.resolve())]
    for clip in clips:  # as gradio checks a file before it serves it
        assert is_allowed_file(clip, [], allowed, []) == (True, "allowed")


def test_a_missing_clip_is_named(finished):
    for path in Path("data/raw").rglob("*.wav"):
        path.unlink()
    with pytest.raises(PipelineError, match=r"does not exist: type `dvc repro -f fetch_data`"):
        classify.draw_test_clip()


class Launched:
    """Stands in for gradio's server, which a test does not open to a network."""

    def __init__(self, link: str | None) -> None:
        self.link = link

    def launch(self, **options: object) -> tuple[None, str, str | None]:
        return None, "http://127.0.0.1:7860/", self.link if options["share"] else None

    def block_thread(self) -> None:
        pass


@pytest.mark.parametrize(
    ("options", "who"),
    [
        ("", None),
        ("--host localhost", None),
        ("--host 0.0.0.0", "everyone on your network"),
        ("--share", "anyone who has the link"),
    ],
)
def test_opening_the_app_to_others_is_warned_of(options, who, monkeypatch, capsys):
    monkeypatch.setattr(main.page, "build", lambda: Launched("https://x.gradio.live"))
    monkeypatch.setattr(main.classify, "warm_up", lambda: None)
    monkeypatch.setattr("sys.argv", ["app", *options.split()])
    main.main()
    said = capsys.readouterr()
    assert said.err.startswith(f"warning: {who} can play all clips, ") if who else not said.err
    assert ("The app is at https://x.gradio.live" in said.out) == ("share" in options)
    monkeypatch.setattr(main.page, "build", lambda: Launched(None))
    if "share" in options:
        with pytest.raises(PipelineError, match=r"gradio.live could not be reached"):
            main.main()
