"""Corpora in the layouts in which people download them: the cards in corpora/, and short ones."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from genrepro.core.errors import PipelineError
from genrepro.core.params import Data, load
from genrepro.corpus import gather
from tests.support.samples import RATE, ROOT


@pytest.fixture(autouse=True)
def here(in_tmp, monkeypatch):
    monkeypatch.setenv("GENREPRO_WORKERS", "1")


def sound(seed: int) -> bytes:
    buffer = io.BytesIO()
    wave = np.random.default_rng(seed).normal(0, 0.1, round(0.15 * RATE))
    soundfile.write(buffer, wave, RATE, format="WAV")
    return buffer.getvalue()


def with_sounds(texts: dict[str, str], sounds: Iterable[str]) -> dict[str, bytes]:
    files = {name: text.encode() for name, text in texts.items()}
    return files | {name: sound(number) for number, name in enumerate(sounds)}


def archived(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
        return
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def gathered(corpus: str | Path, **data: str) -> gather.Corpus:
    shutil.rmtree("gathered", ignore_errors=True)
    given = {"corpus": str(corpus), "facts": None, "name_pattern": None, "corrections": None} | data
    return gather.gather(Data(**given), Path("gathered"))


def known(corpus: gather.Corpus) -> dict[str, tuple[str, ...]]:
    """Each clip's source -> its label, group and part."""
    return {
        clip.item.source: (
            clip.item.label,
            clip.facts.get("group", ""),
            clip.facts.get("part", ""),
        )
        for clip in corpus.clips
    }


def write_card(name: str, text: str) -> Path:
    Path(name).mkdir()
    Path(name, "corpus.yaml").write_text(text)
    return Path(name)


# -- the cards in corpora/ --

ESC_50 = with_sounds(
    {
        "ESC-50-master/meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take\n"
        "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
        "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A\n"
        "2-114280-A-0.wav,2,0,dog,True,114280,A\n"
        "5-9032-A-0.wav,5,0,dog,True,9032,A\n",
        "ESC-50-master/README.md": "# ESC-50",
        "ESC-50-master/LICENSE": "CC BY-NC",
    },
    [
        f"ESC-50-master/audio/{name}.wav"
        for name in ("1-100032-A-0", "1-100038-A-14", "2-114280-A-0", "5-9032-A-0")
    ],
)
URBAN = with_sounds(
    {
        "UrbanSound8K/metadata/UrbanSound8K.csv": "slice_file_name,fsID,start,end,salience,fold,"
        "classID,class\n"
        "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
        "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing\n"
        "101415-3-0-2.wav,101415,1.0,5.0,1,10,3,dog_bark\n",
        "UrbanSound8K/UrbanSound8K_README.txt": "CC BY-NC",
        "UrbanSound8K/audio/fold5/.DS_Store": "",
    },
    [
        f"UrbanSound8K/audio/{name}.wav"
        for name in ("fold5/100032-3-0-0", "fold5/100263-2-0-117", "fold10/101415-3-0-2")
    ],
)
WORDS = with_sounds(
    {
        "./validation_list.txt": "bed/0c40e715_nohash_0.wav\n",
        "./testing_list.txt": "bed/0c40e715_nohash_1.wav\ncat/00176480_nohash_0.wav\n",
        "./LICENSE": "CC BY",
        "./README.md": "",
    },
    [
        f"./{name}.wav"
        for name in (
            "bed/00176480_nohash_0",
            "bed/0c40e715_nohash_0",
            "bed/0c40e715_nohash_1",
            "cat/00176480_nohash_0",
            "cat/004ae714_nohash_0",
            "_background_noise_/doing_the_dishes",
        )
    ],
)
SHIPPED = {"esc50": ESC_50, "urbansound8k": URBAN, "speech_commands": WORDS}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> dict[str, gather.Corpus]:
    """Each card in corpora/, on an archive that has the real one's name, layout and columns."""
    place = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("GENREPRO_WORKERS", "1")
        found = {}
        for name, files in SHIPPED.items():
            shutil.copytree(ROOT / "corpora" / name, place / "corpora" / name)
            card = yaml.safe_load(Path("corpora", name, "corpus.yaml").read_text())
            assert card["licence"] and card["source"] and card["download"]
            with pytest.raises(PipelineError, match=f"download {card['download']}"):
                gathered(f"corpora/{name}")
            archived(place / card["path"], files)
            found[name] = gathered(f"corpora/{name}")
    return found


@pytest.mark.parametrize("name", ["gtzan", "esc50", "keyword-spotting"])
def test_a_recipe_sets_nothing_that_its_corpus_card_says_better(name):
    """A name pattern in params.yaml would take precedence over the card's."""
    data = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text())["data"]
    assert list(data) == ["corpus"] and (ROOT / data["corpus"] / "corpus.yaml").is_file()


def test_esc_50(shipped):
    assert known(shipped["esc50"]) == {
        "ESC-50-master/audio/1-100032-A-0.wav": ("dog", "100032", "1"),
        "ESC-50-master/audio/1-100038-A-14.wav": ("chirping_birds", "100038", "1"),
        "ESC-50-master/audio/2-114280-A-0.wav": ("dog", "114280", "2"),
        "ESC-50-master/audio/5-9032-A-0.wav": ("dog", "9032", "5"),
    }
    assert shipped["esc50"].skipped == {} and shipped["esc50"].warnings == []


def test_urbansound8k(shipped):
    assert known(shipped["urbansound8k"]) == {
        "UrbanSound8K/audio/fold5/100032-3-0-0.wav": ("dog_bark", "100032", "5"),
        "UrbanSound8K/audio/fold5/100263-2-0-117.wav": ("children_playing", "100263", "5"),
        "UrbanSound8K/audio/fold10/101415-3-0-2.wav": ("dog_bark", "101415", "10"),
    }
    assert shipped["urbansound8k"].skipped == {} and shipped["urbansound8k"].warnings == []


def test_speech_commands(shipped):
    assert known(shipped["speech_commands"]) == {
        "bed/00176480_nohash_0.wav": ("bed", "00176480", "train"),
        "bed/0c40e715_nohash_0.wav": ("bed", "0c40e715", "validation"),
        "bed/0c40e715_nohash_1.wav": ("bed", "0c40e715", "test"),
        "cat/00176480_nohash_0.wav": ("cat", "00176480", "test"),
        "cat/004ae714_nohash_0.wav": ("cat", "004ae714", "train"),
    }
    assert shipped["speech_commands"].skipped == {
        "_background_noise_/doing_the_dishes.wav": "its name does not match name_pattern"
    }


# -- cards of a few lines, as docs/corpora.md shows them --


def cards_of(page: str) -> dict[str, str]:
    """The cards on a page of the docs, by the first word of their titles."""
    blocks = [block.split("```")[0] for block in (ROOT / page).read_text().split("```yaml\n")[1:]]
    found = {}
    for block in blocks:
        card = yaml.safe_load(block)
        found[re.split("[ ,]", card.get("title", card["kind"]))[0]] = block
    return found


def test_fma():
    tracks = (
        ",artist,set,set,track,track\n,name,split,subset,genre_top,title\ntrack_id,,,,,\n"
        '2,AWOL,training,small,Hip-Hop,"Food, ""again"""\n5,AWOL,test,small,Rock,\n'
        "3,AWOL,training,medium,Hip-Hop,x\n1000,Ben,validation,small,Rock,\n"
        "77,Cy,training,small,Rock,lost\n"
    )
    sounds = [f"fma_small/{name}.wav" for name in ("000/000002", "000/000005", "001/001000")]
    unpacked(Path("fma"), with_sounds({"fma_metadata/tracks.csv": tracks}, sounds))
    found = gathered(write_card("card", cards_of("docs/corpora.md")["FMA"]))
    assert known(found) == {
        "fma_small/000/000002.wav": ("Hip-Hop", "AWOL", "train"),
        "fma_small/000/000005.wav": ("Rock", "AWOL", "test"),
        "fma_small/001/001000.wav": ("Rock", "Ben", "validation"),
    }
    assert found.clips[0].facts["title"] == 'Food, "again"'
    (warning,) = found.warnings
    assert "1 of 4 rows name no file" in warning and "000077" in warning


def test_ravdess_and_crema_d():
    names = ("Actor_01/03-01-01-01-01-01-01", "Actor_02/03-01-05-02-02-02-02")
    unpacked(Path("ravdess"), with_sounds({}, [f"{name}.wav" for name in names]))
    found = gathered(write_card("card", cards_of("docs/corpora.md")["RAVDESS"]))
    assert [*known(found).values()] == [("neutral", "01", ""), ("angry", "02", "")]
    names = ("1001_DFA_ANG_XX", "1002_IEO_SAD_HI", "1002_IEO_ODD_HI")
    unpacked(Path("CREMA-D"), with_sounds({}, [f"AudioWAV/{name}.wav" for name in names]))
    found = gathered(write_card("other", cards_of("docs/corpora.md")["CREMA-D"]))
    assert [*known(found).values()] == [("anger", "1001", ""), ("sad", "1002", "")]
    assert "its label 'ODD' is not among" in found.skipped["1002_IEO_ODD_HI.wav"]


# -- parts of a layout --


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_beside_its_card(ending):
    import pandas as pd

    frame = pd.DataFrame(
        {
            "id": [1, 2, 3, 3, 4],
            "what": ["a/b", "c", "c", "d", None],
            "by": ["x", None, "y", "y", "z"],
        }
    )
    folder = unpacked(Path("own"), with_sounds({}, [f"sounds/{n}.wav" for n in range(1, 6)]))
    table = folder / f"about.{ending}"
    match ending:
        case "jsonl":
            frame.to_json(table, orient="records", lines=True)
        case "parquet":
            frame.to_parquet(table)
        case _:
            frame.to_csv(table, sep="\t" if ending == "tsv" else ",", index=False)
    columns = {"file": "id", "label": "what", "group": "by"}
    card = {"kind": "table", "table": f"about.{ending}"} | columns
    (folder / "corpus.yaml").write_text(yaml.safe_dump(card))
    found = gathered(folder)
    assert known(found) == {"sounds/1.wav": ("a-b", "x", ""), "sounds/2.wav": ("c", "", "")}
    assert found.skipped == {
        "sounds/3.wav": f"has several labels in about.{ending} (c, d)",
        "sounds/4.wav": f"has no label in about.{ending}",
        "sounds/5.wav": f"not listed in about.{ending}",
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"table": "other.csv"}, "names other.csv, which is not there"),
        ({"label": "genre"}, "no column 'genre'; it has: file_name, label"),
        ({"file": "{id:0>6}"}, "no column 'id'"),
        ({"file": "{label:z}"}, "the card's `file`"),
        ({"where": {"set": "a"}}, "no column 'set'"),
        ({"repo": "a/b"}, "repo goes with a revision"),
        ({"table": "broken.parquet"}, "broken.parquet is not readable as a table"),
        ({"table": "broken.jsonl"}, "broken.jsonl is not readable as a table"),
    ],
)
def test_a_wrong_table_is_refused(change, words):
    texts = {"t.csv": "file_name,label\n1,a\n2,b\n", "broken.parquet": "x", "broken.jsonl": "[1]"}
    folder = unpacked(Path("own"), with_sounds(texts, ["1.wav", "2.wav"]))
    card = {"kind": "table", "table": "t.csv"}
    (folder / "corpus.yaml").write_text(yaml.safe_dump(card | change))
    with pytest.raises(PipelineError, match=words) as caught:
        gathered(folder)
    assert len(str(caught.value).splitlines()) == 1 or "cannot be used" in str(caught.value)


def test_speakers_in_folders_inside_their_labels():
    names = ("yes/ann/1", "yes/ben/1", "no/ann/1", "no/ben/2")
    unpacked(Path("own"), with_sounds({}, [f"{name}.wav" for name in names]))
    with pytest.raises(PipelineError, match="its label's folder; if") as caught:
        gathered("own")
    pattern = str(caught.value).split("data.name_pattern to '")[1].split("'")[0]
    found = gathered("own", name_pattern=pattern)
    assert {label_and_group[:2] for label_and_group in known(found).values()} == {
        (label, group) for label in ("yes", "no") for group in ("ann", "ben")
    }


@pytest.mark.parametrize("name", ["own.zip", "own.tar.gz"])
def test_an_archive_in_place_of_a_folder(name):
    files = with_sounds(
        {"a/notes.txt": "x", "__MACOSX/a/._1.wav": "x"},
        ["a/train/cat/1.wav", "a/train/dög/2.wav", "a/test/cat/3.wav", "a/test/dög/4.wav"],
    )
    archived(Path(name), files)
    found = gathered(name)
    parts = ["train", "train", "test", "test"]
    assert sorted(known(found).values()) == sorted(
        zip(["cat", "dög"] * 2, [""] * 4, parts, strict=True)
    )
    assert {path.name for path in Path("gathered").iterdir()} == {"cat", "dög"}
    Path(name).write_bytes(Path(name).read_bytes()[:300])
    with pytest.raises(PipelineError, match="cut short, damaged or not an archive"):
        gathered(name)
    Path("own.rar").write_bytes(b"x")
    with pytest.raises(PipelineError, match="neither a folder nor an archive"):
        gathered("own.rar")


def test_metadata_files_that_say_less_than_a_label():
    texts = {"metadata.csv": "file_name,group,title\ncat/1.wav,Ann,Miaow\n"}
    folder = unpacked(Path("own"), with_sounds(texts, ["cat/1.wav", "dog/2.wav"]))
    found = gathered(folder)
    assert [*known(found).values()] == [("cat", "Ann", ""), ("dog", "", "")]
    assert found.warnings == ["metadata.csv has no column label: labels are folders"]
    (folder / "metadata.csv").write_text("name,genre\n1,x\n")
    assert gathered(folder).warnings == ["metadata.csv has no column file_name: it is not used"]


def test_metadata_never_leads_out_of_its_folder():
    texts = {"a/metadata.csv": "file_name,label\n../b/2.wav,x\n/etc/1.wav,x\n1.wav,y\n3.wav,z\n"}
    sounds = ["a/1.wav", "a/3.wav", "b/2.wav"]
    found = gathered(unpacked(Path("own"), with_sounds(texts, sounds)))
    assert {source: about[0] for source, about in known(found).items()} == {
        "a/1.wav": "y",
        "a/3.wav": "z",
    }
    assert found.skipped == {"b/2.wav": "not listed in metadata.csv"}
    assert "2 of 4 rows name no file" in found.warnings[0]


def test_a_facts_table_says_how_many_clips_it_knows():
    sounds = [f"{label}/{label}{n}.wav" for label in ("cat", "dog") for n in range(3)]
    folder = unpacked(Path("own"), with_sounds({"facts.csv": "clip,group\ncat1,Ann\n"}, sounds))
    found = gathered(folder, facts="own/facts.csv")
    assert found.warnings == ["own/facts.csv lists 1 of the 6 clips"]


@pytest.mark.parametrize("place", ["data/raw", "data", "models/finetuned/mine", "export"])
def test_a_corpus_in_a_folder_that_a_stage_replaces_is_refused(place):
    unpacked(Path(place), with_sounds({}, ["cat/1.wav", "dog/2.wav"]))
    with pytest.raises(PipelineError, match="a folder that a stage replaces"):
        gathered(place)
    assert len(list(Path(place).rglob("*.wav"))) == 2


def test_a_corpus_beside_the_outputs_and_in_the_home_folder(monkeypatch):
    unpacked(Path("data/mine"), with_sounds({}, ["cat/1.wav", "dog/2.wav"]))
    assert len(gathered("data/mine").clips) == 2
    monkeypatch.setenv("HOME", str(Path("data").resolve()))
    assert len(gathered("~/mine").clips) == 2
    assert len(gathered(write_card("card", "kind: folder\npath: ~/mine\n")).clips) == 2


def test_clips_that_somebody_put_into_data_raw_are_not_replaced():
    from stages import fetch_data

    params = load(ROOT / "params.yaml")
    own = unpacked(Path("mine"), with_sounds({}, ["cat/1.wav", "dog/2.wav"]))
    params = params.model_copy(
        update={"data": Data(corpus="mine", facts=None, name_pattern=None, corrections=None)}
    )
    unpacked(Path("data/raw"), with_sounds({}, ["owl/1.wav"]))
    with pytest.raises(PipelineError, match=r"data/raw would be replaced.*data/raw/owl/1.wav"):
        fetch_data.main(params)
    assert Path("data/raw/owl/1.wav").is_file()
    shutil.rmtree("data/raw")
    fetch_data.main(params)
    fetch_data.main(params)
    clips = Path("data/clips.csv").read_text()
    (own / "dog/2.wav").rename(own / "dog/3.wav")
    fetch_data.main(params)
    Path("data/clips.csv").write_text(clips)  # as if it had been killed before it wrote this one
    fetch_data.REPLACING.touch()
    fetch_data.main(params)
    assert "dog/3.wav" in Path("data/clips.csv").read_text()
    unpacked(Path("data/raw"), with_sounds({}, ["dog/9.wav"]))
    with pytest.raises(PipelineError, match=r"data/raw/dog/9.wav"):
        fetch_data.main(params)


def test_make_clean_removes_outputs_and_nothing_else():
    for name in ("Makefile", ".gitignore"):
        shutil.copy(ROOT / name, name)
    outputs = ["data/raw/cat/1.wav", "data/encoded/x", "models/backbone/x", ".resume/x"]
    kept = ["data/mine/cat/1.wav", "models/mine/config.json", "data/split.csv", "export/own.md"]
    unpacked(Path(), dict.fromkeys([*outputs, *kept], b"x"))
    for command in ("git init -q", "git add -f data/split.csv export/own.md", "make -s clean"):
        subprocess.run(command.split(), check=True)
    assert [name for name in (*outputs, *kept) if Path(name).exists()] == kept
