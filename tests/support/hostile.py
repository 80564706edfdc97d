"""What a stranger may put into a file, and how a command takes it."""

import contextlib
import io
import json
import random
import sys

import pytest

from recipes.archer.commands import cli

DEEP = 100_000
JSON = {
    "nothing": b"",
    "a word": b"hello",
    "torn": b'{"step": 1, "a',
    "a list": b"[]",
    "a text": b'"x"',
    "a number": b"5",
    "null": b"null",
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep mappings": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "never closed": b"[" * DEEP,
    "5,000 digits": b'{"step": 1, "a": ' + b"9" * 5000 + b"}",
    "10 to the 400": b'{"step": 1, "a": 1' + b"0" * 400 + b"}",
    "no UTF-8": b'{"step": 1, "a": "\xff\xfe"}',
    "zeros": bytes(300),
    "lone surrogates": b'{"step": 1, "\\ud800": "\\udfff"}',
}
_DOUBLED = (b"%c: &%c [*%c, *%c]\n" % (k, k, k - 1, k - 1) for k in range(98, 122))
YAML = {
    "a list": b"[1]",
    "a scalar": b"x",
    "a bad date": b"a: 2026-13-45",
    "a bad float": b"a: !!float abc",
    "a tag that runs code": b"a: !!python/object/apply:os.system [id]",
    "an alias bomb": b"a: &a [x, x]\n" + b"".join(_DOUBLED),
    "a cycle": b"a: &a [*a]",
    "deep lists": b"[" * DEEP,
    "deep mappings": b"{a: " * DEEP,
    "5,000 digits": b"a: " + b"9" * 5000,
    "two documents": b"--- 1\n--- 2",
    "a key twice": b"a: 1\na: 2",
    "a control character": b"a: \x1b",
    "no UTF-8": b"a: \xff",
    "sexagesimal without end": b"a: " + b":".join([b"1"] * 5000),
}
ESCAPES = {
    "CSI": "\x1b[2J\x1b[31m",
    "OSC 52": "\x1b]52;c;cm0gLXJm\x07",
    "OSC 8": "\x1b]8;;http://x\x1b\\y\x1b]8;;\x1b\\",
    "C1 control": "\x9b2J\x9d52;c;x\x9c",
    "bidirectional mark": "\u202e\u2066\u200f\u061c",
    "lone surrogate": "\udfff\ud800",
    "carriage return": "x\rnothing wrong",
    "zero width": "\u200b\u200d\u2060\ufeff",
    "line separator": "\u2028\u2029",
    "DEL and NUL": "\x7f\x00\x08",
}
HARMLESS = "\n\t"


def call(monkeypatch, *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of an `archer` command, which may end but not fall."""
    monkeypatch.setattr(sys, "argv", ["archer", *map(str, words)])
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.main()
    code = end.value.code or 0
    assert code in (0, 2, 10, 20), err.getvalue()
    assert code != 2 or (err.getvalue().startswith("archer: ") and err.getvalue().count("\n") == 1), err.getvalue()
    return code, out.getvalue(), err.getvalue()


def steers(text: str) -> set[str]:
    """Characters of an output that a terminal or a reader would act upon."""
    return {c for c in text if not c.isprintable() and c not in HARMLESS and c != "\xa0"}


def values(seed: int) -> list:
    """JSON values of every type in a fixed random order, the worst among them."""
    worst = ["text", "", "NaN", None, True, -1, 0, 10**400, 1e308, -1e308, float("nan"), float("inf"), [], [1], {}]
    worst += [{"a": {"b": []}}, 10**15, -(10**300), "\ud800", "2026-13-45", [[[[]]]], 0.5]
    random.Random(seed).shuffle(worst)
    return worst


def spoilt(tree, seed: int):
    """A JSON value with one part of it, chosen by the seed, replaced by something else."""
    dice = random.Random(seed)
    tree = json.loads(json.dumps(tree))
    node = tree
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = dice.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and dice.random() < 0.8:
            node = node[key]
            continue
        node[key] = values(seed)[0]
        return tree
