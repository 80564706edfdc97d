"""YAML as OmegaConf reads it, without what is dangerous in it."""

import math
import random
import time

import pytest
import yaml
from omegaconf import OmegaConf

import hostile
from recipes.archer.reading.regular import DamagedError
from recipes.archer.reading.yaml import parse_yaml, read_yaml
from recipes.archer.settings.configuration import CONFIG_DIR


@pytest.mark.parametrize("path", sorted(CONFIG_DIR.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_ours_reads_as_omegaconf_reads_it(path):
    value = read_yaml(path)
    assert repr(value or {}) == repr(OmegaConf.to_container(OmegaConf.load(path), resolve=False))
    assert read_yaml(path, as_written=True) == yaml.load(path.read_text(), yaml.BaseLoader)


@pytest.mark.parametrize("kind", hostile.YAML)
def test_what_is_refused_is_one_line_with_the_place(tmp_path, kind):
    path = tmp_path / "a.yaml"
    path.write_bytes(hostile.YAML[kind])
    if kind in ("a list", "a scalar", "a bad date"):
        assert read_yaml(path) in ([1], "x", {"a": "2026-13-45"})
        return
    start = time.monotonic()
    with pytest.raises(DamagedError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# x", None),
        ("~", None),
        ("yes", True),
        ("1e-6", 1e-6),
        ("010", 8),
        ("1_000", 1000),
        ("0x1F", 31),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("1" + "0" * 400, math.inf),
        ("1e999", math.inf),
        ("2026-01-02", "2026-01-02"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("! 1", "1"),
        ("!!int '3'", 3),
        ("=", "="),
        ("[a, {b: c}]", ["a", {"b": "c"}]),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("1: 2\ntrue: 3", {"1": 2, "true": 3}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
    ],
)
def test_values(text, value):
    assert parse_yaml(text, "f") == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: *x", "line 2 has the alias"),
        ("a: 1\n? [x]\n: 1", "line 2 has a key that is no text"),
        ("a: 1\na: 2", "line 2 has a twice"),
        ("a:\n  !!int x", "line 2 has 'x', which is no int"),
        ("a: [\n", "not YAML in line 2"),
        ("--- 1\n--- 2", "second document"),
        ("!!set {a}", "the tag"),
        ("!x y", "the tag !x"),
        ("[" * 101 + "]" * 101, "nested too deep"),
    ],
)
def test_faults(text, words):
    with pytest.raises(DamagedError, match=words):
        parse_yaml(text, "f")


def test_what_is_as_large_as_may_be_takes_seconds():
    for text in ("[" + "[]," * 340_000 + "]", "- " + "x" * 1_000_000, "a: " + '"' + "\\x41" * 250_000 + '"'):
        start = time.monotonic()
        parse_yaml(text, "f")
        assert time.monotonic() - start < 15


def test_fuzz():
    """Seeded: a configuration with bytes changed, and grammar strewn in."""
    dice = random.Random(15)
    whole = (CONFIG_DIR / "experiment" / "v1.yaml").read_text()[:1500]
    grammar = [
        "&a ",
        "*a",
        "!!float ",
        "!!",
        "? ",
        "- ",
        ": ",
        "{",
        "[",
        "|",
        ">",
        "'",
        '"',
        "%",
        "\t",
        "\0",
        "---\n",
        "<<: *a",
        "9" * 40,
    ]
    for _ in range(400):
        text = whole
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(text))
            text = text[:place] + dice.choice(grammar) + text[place + dice.randint(0, 2) :]
        try:
            parse_yaml(text, "f")
        except DamagedError as error:
            assert str(error).startswith("f: ") and "\n" not in str(error)
