"""YAML of strangers: what is small and plain is read, all else is one sentence, soon."""

from __future__ import annotations

import time

import pytest

from genrepro.core import config, params
from genrepro.core.errors import PipelineError
from genrepro.corpus import parquet
from genrepro.corpus.card import Parquet, load_card

LEVEL = "{b}: &{b} [{items}]\n"
BOMB = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    LEVEL.format(b=b, items=", ".join([f"*{a}"] * 9)) for a, b in zip("abcdefgh", "bcdefghi")
)
REFUSED = {
    "bomb": (BOMB, "alias"),
    "recursive": ("a: &a [*a]", "alias"),
    "deep lists": ("[" * 90_000, "nested more than"),
    "deep list": ("- " * 40_000, "nested more than"),
    "deep mappings": ("".join(f"{' ' * n}a:\n" for n in range(300)), "nested more than"),
    "large": ("# " + "x" * config.MAX_BYTES, "larger than"),
    "two documents": ("a: 1\n---\nb: 2", "expected a single document"),
    "code": ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "digits": ("a: " + "9" * 90_000, "4300 digits"),
    "base 60": ("seed: " + "1:" * 40_000 + "1", ""),
    "no such day": ("a: 2001-99-99", "month must be"),
    "an empty number": ("a: !!int ''", "its tag"),
    "no bool": ("a: !!bool maybe", "its tag"),
    "no time": ("a: !!timestamp soon", "its tag"),
    "no character": ("a: \0", "special characters"),
}


@pytest.mark.parametrize("reader", ["params.yaml", "corpus.yaml"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_plain_is_refused_in_short(tmp_path, reader, name):
    text, words = REFUSED[name]
    (tmp_path / reader).write_text(text)
    start = time.perf_counter()
    with pytest.raises(PipelineError) as caught:
        params.load(tmp_path / reader) if reader == "params.yaml" else load_card(tmp_path)
    assert time.perf_counter() - start < 10  # 2 s at most on an idle core
    said = str(caught.value)
    assert words in said and reader in said and len(said) < 1000
    assert not words or "\n" not in said


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"a: \xff")
    with pytest.raises(PipelineError, match="not readable as YAML: 'utf-8'"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "value",
    ["x" * 90_000, 0xF << 90_000, [["x" * 90_000] * 9] * 9, {"x" * 90_000: {"y": [1] * 9}}],
    ids=["text", "number", "lists", "mapping"],
)
def test_a_long_value_is_shown_in_short(value):
    assert len(config.shortened(value)) < 1000
    assert config.shortened("short") == "'short'"


def test_plain_yaml_is_read_as_ever():
    text = "a: [1, 0.5, 1.0e-3, true, null, text, 'a: b']\nb: {c: {d: [{e: 2026}]}}\n"
    assert config.parse(text) == {
        "a": [1, 0.5, 1e-3, True, None, "text", "a: b"],
        "b": {"c": {"d": [{"e": 2026}]}},
    }
    assert config.parse("") is None


@pytest.mark.parametrize("text", [BOMB, "[" * 90_000, "a: [", "- a list", "x" * 2_000_000])
def test_a_readme_that_is_not_plain_says_nothing_of_its_configurations(monkeypatch, tmp_path, text):
    readme = tmp_path / "README.md"
    monkeypatch.setattr(parquet.hub, "fetch", lambda *_: readme)
    card = Parquet(kind="parquet", repo="someone/words", revision="0" * 40)
    readme.write_text("---\nconfigs:\n- config_name: small\n---\n# words\n")
    assert parquet._readme(card) == {"configs": [{"config_name": "small"}]}
    readme.write_text(f"---\n{text}\n---\n# words\n")
    assert parquet._readme(card) == {}
