"""YAML from strangers: small and plain files are read, anything else is one short error, soon."""

from __future__ import annotations

import time

import pytest

from genrepro.core import config, params
from genrepro.core.errors import PipelineError
from genrepro.corpus.card import load_card

LEVEL = "{b}: &{b} [{items}]\n"
BOMB = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    LEVEL.format(b=b, items=", ".join([f"*{a}"] * 9)) for a, b in zip("abcdefgh", "bcdefghi")
)
UNREADABLE = {
    "deep lists": ("[" * 20_000, "nested too deeply"),
    "deep list": ("- " * 40_000, "nested too deeply"),
    "large": ("# " + "x" * config.MAX_BYTES, "larger than"),
    "two documents": ("a: 1\n---\nb: 2", "expected a single document"),
    "code": ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "digits": ("a: " + "9" * 90_000, "4300 digits"),
    "no such day": ("a: 2001-99-99", "month must be"),
    "an empty number": ("a: !!int ''", "not readable"),
    "no bool": ("a: !!bool maybe", "not readable"),
    "no time": ("a: !!timestamp soon", "not readable"),
    "no character": ("a: \0", "special characters"),
}
UNUSABLE = {
    "bomb": f"{BOMB}seed: *i\nkind: *i\n",
    "deep mappings": "".join(f"{' ' * n}a:\n" for n in range(300)),
    "recursive": "seed: &a [*a]\nkind: &b [*b]",
    "base 60": "seed: " + "1:" * 20_000 + "1",
}


@pytest.mark.parametrize(
    ("reader", "name"),
    [("params.yaml", name) for name in (*UNREADABLE, *UNUSABLE)]
    + [("corpus.yaml", "code"), ("corpus.yaml", "bomb")],
)
def test_yaml_that_is_not_plain_is_refused_soon_and_in_short(tmp_path, reader, name):
    text, words = UNREADABLE.get(name) or (UNUSABLE[name], "cannot be used")
    (tmp_path / reader).write_text(text)
    start = time.perf_counter()
    with pytest.raises(PipelineError) as caught:
        params.load(tmp_path / reader) if reader == "params.yaml" else load_card(tmp_path)
    assert time.perf_counter() - start < 10  # 2 s at most on an idle core
    message = str(caught.value)
    assert words in message and reader in message and len(message) < 4000
    assert name in UNUSABLE or "\n" not in message


def test_bytes_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"a: \xff")
    with pytest.raises(PipelineError, match="not readable as YAML: 'utf-8'"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "value",
    ["x" * 90_000, 0xF << 90_000, [["x" * 90_000] * 9] * 9, {"x" * 90_000: {"y": [1] * 9}}],
    ids=["text", "number", "lists", "mapping"],
)
def test_a_long_value_is_shown_in_short(value):
    assert len(config.shorten(value)) < 1000
    assert config.shorten("short") == "'short'"


def test_plain_yaml_is_read(tmp_path):
    path = tmp_path / "plain.yaml"
    path.write_text("a: [1, 0.5, 1.0e-3, true, null, text, 'a: b']\nb: {c: {d: [{e: 2026}]}}\n")
    assert config.read_yaml(path) == {
        "a": [1, 0.5, 1e-3, True, None, "text", "a: b"],
        "b": {"c": {"d": [{"e": 2026}]}},
    }
    path.write_text("")
    assert config.read_yaml(path) is None


def test_every_problem_of_a_file_is_named_at_once(tmp_path):
    class Inner(config.Section):
        rate: float

    class Outer(config.Section):
        inner: Inner
        count: int

    with pytest.raises(PipelineError) as caught:
        config.validate(Outer, {"inner": {"rat": 1}, "count": "x"}, tmp_path / "f.yaml", "Fix it.")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/f.yaml cannot be used:",
        "  inner.rate: is missing",
        "  inner.rat: no such key (did you mean rate?); the keys here are rate",
        "  count: should be a valid integer, unable to parse string as an integer, not 'x'",
        "Fix it.",
    ]
