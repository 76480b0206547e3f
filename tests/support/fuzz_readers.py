"""The readers of foreign bytes, each with intact files for `fuzz` to damage.

A function yields intact contents, each with a reader that returns "read" or "skipped", or raises.
Between two yields it restores what it changed.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")
)
Reader = Callable[[bytes], str]
Sources = Iterator[tuple[bytes, Reader]]


def archive(folder: Path) -> Sources:
    from genrepro.corpus import archive
    from genrepro.corpus.shelf import Shelf

    def read(content: bytes) -> str:
        shutil.rmtree(folder / "raw", ignore_errors=True)
        (folder / "x.tar").write_bytes(content)
        shelf = Shelf(folder / "raw")
        archive.unpack(folder / "x.tar", folder / "raw/unpacked", shelf)
        return "skipped" if shelf.skipped else "read"

    sound = wav(folder)
    names = ("a/1.wav", "a/2.wav", "b/3.wav")
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode=mode) as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(sound)
                tar.addfile(member, io.BytesIO(sound))
        yield packed.getvalue(), read
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, sound)
    yield packed.getvalue(), read


def table(folder: Path) -> Sources:
    import pandas as pd

    from genrepro.corpus import folder as files
    from genrepro.corpus.card import Table
    from genrepro.corpus.shelf import Shelf
    from genrepro.corpus.sources import walk

    (folder / "own").mkdir()
    for number in range(3):
        (folder / f"own/{number}.wav").write_bytes(b"x")
    rows = [{"file_name": f"{n}.wav", "label": "ab"[n % 2], "part": n} for n in range(3)]

    def reader(ending: str) -> Callable[[bytes], str]:
        card = Table(kind="table", table=f"metadata.{ending}", part="part")

        def read(content: bytes) -> str:
            for old in (folder / "own").glob("metadata.*"):
                old.unlink()
            (folder / f"own/metadata.{ending}").write_bytes(content)
            for each in (None, card):
                shutil.rmtree(folder / "raw", ignore_errors=True)
                shelf = Shelf(folder / "raw")
                files.take(walk(folder / "own"), shelf, each)
            return "skipped" if shelf.skipped else "read"

        return read

    frame = pd.DataFrame(rows)
    yield frame.to_csv(index=False).encode(), reader("csv")
    lines = "\n" + frame.to_json(orient="records", lines=True)  # not one JSON object, says the \n
    yield lines.encode(), reader("jsonl")
    packed = io.BytesIO()
    frame.to_parquet(packed)
    yield packed.getvalue(), reader("parquet")


def parquet(folder: Path) -> Sources:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    from genrepro.corpus import parquet
    from genrepro.corpus.card import Parquet
    from genrepro.corpus.shelf import Shelf

    card = Parquet(kind="parquet", repo="a/b", revision="0" * 40, files="*.parquet")
    parquet.client.fetch_matching = lambda *_: folder / "hub"
    (folder / "hub").mkdir()

    def read(content: bytes) -> str:
        shutil.rmtree(folder / "raw", ignore_errors=True)
        (folder / "hub/x.parquet").write_bytes(content)
        shelf = Shelf(folder / "raw")
        parquet.take(card, shelf)
        return "skipped" if shelf.skipped else "read"

    audio = [{"bytes": wav(folder), "path": f"{n}.wav"} for n in range(6)]
    table = pa.table({"audio": audio, "label": ["a", "b"] * 3})
    for compression in ("snappy", "none"):
        written = io.BytesIO()
        write_table(table, written, compression=compression)
        yield written.getvalue(), read


def audio(folder: Path) -> Sources:
    import soundfile

    from genrepro.audio import AudioFault
    from genrepro.audio import read as decode
    from genrepro.corpus.inspection import inspect_clip
    from tests.support.encoded import encode

    noise = np.random.default_rng(0).normal(0, 0.1, (8000, 2))
    for extension in ("wav", "flac", "ogg", "mp3", "m4a", "wma"):
        path = folder / f"x.{extension}"
        if extension in ("m4a", "wma"):
            encode(path, noise.T, 16_000, "aac" if extension == "m4a" else "wmav2")
        else:
            soundfile.write(path, noise, 16_000)

        def read(content: bytes, path: Path = path) -> str:
            path.write_bytes(content)
            with contextlib.suppress(AudioFault):
                decode(path, 30.0)
            return "skipped" if isinstance(inspect_clip(path), str) else "read"

        yield path.read_bytes(), read


def model_folder(folder: Path, name: str) -> Reader:
    from genrepro import pretrained
    from genrepro.core.params import Model

    def read(content: bytes) -> str:
        shutil.rmtree(folder / "taken", ignore_errors=True)
        (folder / "model" / name).write_bytes(content)
        model = Model(id=str(folder / "model"), revision=None, allow_pickle=False)
        pretrained.take(model, folder / "taken")
        return "read"

    return read


def safetensors(folder: Path) -> Sources:
    from safetensors.numpy import save

    shutil.copytree(ROOT / "tests/support/tiny-ast", folder / "model")
    weights = {f"layer.{number}": np.ones((4, 4)) for number in range(20)}
    yield save(weights), model_folder(folder, "model.safetensors")


def model_json(folder: Path) -> Sources:
    shutil.copytree(ROOT / "tests/support/tiny-ast", folder / "model")
    for name in ("config.json", "preprocessor_config.json"):
        yield (folder / "model" / name).read_bytes(), model_folder(folder, name)
        shutil.copy(ROOT / "tests/support/tiny-ast" / name, folder / "model")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    yield json.dumps(index).encode(), model_folder(folder, "model.safetensors.index.json")


def card(folder: Path) -> Sources:
    from genrepro.corpus.card import Generated, load_card

    def read(content: bytes) -> str:
        (folder / "corpus.yaml").write_bytes(content)
        found = load_card(folder)
        if isinstance(found, Generated):
            from genrepro.corpus.demo.composer import check

            check(found.model_dump())
        return "read"

    for name in ("demo", "gtzan"):
        yield (ROOT / "corpora" / name / "corpus.yaml").read_bytes(), read
    yield b"kind: parquet\nrepo: a/b\nrevision: " + b"0" * 40 + b"\nfiles: ['*.parquet']\n", read
    yield BOMB.encode() + b"kind: folder\npath: *i\n", read


def facts(folder: Path) -> Sources:
    from genrepro.corpus.facts import read_table

    def read(content: bytes) -> str:
        (folder / "facts.csv").write_bytes(content)
        read_table(folder / "facts.csv")
        return "read"

    lines = ["clip,group,title,part"] + [f'c{n},g{n % 3},"a, ""t""",train' for n in range(30)]
    yield "\n".join(lines).encode(), read
    yield "\r\n".join(lines).encode("utf-8-sig"), read


def params(folder: Path) -> Sources:
    from genrepro.core.params import load

    def read(content: bytes) -> str:
        (folder / "params.yaml").write_bytes(content)
        load(folder / "params.yaml")
        return "read"

    yield (ROOT / "params.yaml").read_bytes(), read


def encoded(folder: Path) -> Sources:
    from genrepro.encoding.store import Encoded, write_index, write_shard

    shard = folder / "data-00000-of-00001.arrow"
    rows = [(f"c{n}", 0, np.ones((30, 8), np.float16)) for n in range(5)]
    write_shard(shard, rows, "input_values", 2)
    write_index(folder, [shard])
    for path in (shard, folder / "state.json"):
        whole = path.read_bytes()

        def read(content: bytes, path: Path = path) -> str:
            path.unlink()  # the old one is still mapped
            path.write_bytes(content)
            opened = Encoded.open(folder)
            [opened[row].sum() for row in range(len(opened))]
            return "read"

        yield whole, read
        path.write_bytes(whole)


def extractor(folder: Path) -> Sources:
    from genrepro.core.params import load
    from genrepro.encoding.extractor import adapt, load_extractor

    encode = load(ROOT / "params.yaml").encode

    def read(content: bytes) -> str:
        (folder / "preprocessor_config.json").write_bytes(content)
        adapt(load_extractor(folder), encode, longest_seconds=1.0)
        return "read"

    yield (ROOT / "tests/support/tiny-ast/preprocessor_config.json").read_bytes(), read


def config(folder: Path) -> Sources:
    from genrepro.core.params import load
    from genrepro.encoding.extractor import load_extractor
    from genrepro.model import backbone

    train = load(ROOT / "params.yaml").train
    extractor = load_extractor(ROOT / "tests/support/tiny-ast")

    def read(content: bytes) -> str:
        (folder / "config.json").write_bytes(content)
        backbone.build(folder, ["a", "b"], extractor, train, seed=0)
        return "read"

    yield (ROOT / "tests/support/tiny-ast/config.json").read_bytes(), read


def wav(folder: Path) -> bytes:
    import soundfile

    noise = np.random.default_rng(0).normal(0, 0.1, 4000)
    soundfile.write(folder / "sound.wav", noise, 16_000)
    return (folder / "sound.wav").read_bytes()
