"""Words and pieces found by running sums are those that regular expressions and str.split find."""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recipes.archer.text.scan import LONGEST_WORD, UNSPACED, Scan, hashes_of
from recipes.archer.text.word_families import FAMILY_OF

RANGES = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED)
LETTERS, CHARACTER = re.compile(rf"[^\W{RANGES}]+"), re.compile(f"[{RANGES}]")
PIECE = re.compile(rf"[{RANGES}]|[^{RANGES}]+")  # of what stands between two spaces
# what the tables have to tell apart: scripts, digits, signs, spaces, astral letters, halves of surrogate pairs
PARTS = st.sampled_from([*"aBé_7²ゆ・因한𝑥𠀀😀&$", "\\", "\0", "\ud800"])
SPACES = st.sampled_from([" ", "\n", "\u00a0", "\u2003", "\u3000", "\x1c", ""])
TEXTS = st.lists(st.tuples(PARTS, st.integers(1, 50), SPACES), max_size=30).map(
    lambda parts: "".join(part * times + space for part, times, space in parts)
)


def pattern(items) -> list[int]:
    """Which items are equal, whatever they are: each as the place of its first occurrence."""
    first: dict = {}
    return [first.setdefault(item, place) for place, item in enumerate(items)]


@given(TEXTS | st.text())
@example("")
@example(" ")
@example("x" * LONGEST_WORD + " " + "y" * (LONGEST_WORD + 1))
def test_words_and_pieces(text):
    scan = Scan(text)
    assert pattern(scan.words().tolist()) == pattern(LETTERS.findall(text) + CHARACTER.findall(text))
    pieces = [piece for part in text.split() for piece in PIECE.findall(part)]
    units = [unit for piece in pieces for unit in (piece if len(piece) > LONGEST_WORD else [piece])]
    assert pattern(scan.pieces().tolist()) == pattern(units)


def test_every_character_is_what_the_regular_expressions_call_it():
    characters = list(map(chr, range(0x110000)))
    for limit in (0x80, 0x10000, 0x110000):
        text = "&".join(characters[:limit])
        scan = Scan(text)
        assert len(scan.words()) == len(LETTERS.findall(text)) + len(CHARACTER.findall(text))
        parts = " ".join(characters[:limit]).split()
        assert len(Scan(" ".join(characters[:limit])).pieces()) == sum(len(PIECE.findall(part)) for part in parts)


@pytest.mark.parametrize("before", ["", "x ", "ゆ ", "𝑥 ", " " * 100_000])
def test_a_words_hash_does_not_depend_on_where_it_stands_or_what_else_is_there(before):
    words = sorted(FAMILY_OF)
    hashes = hashes_of(words)
    assert len(set(hashes.tolist())) == len(words)
    assert set(hashes.tolist()) <= set(Scan(before + " ".join(words)).words().tolist())


def test_a_hundred_thousand_words_have_as_many_hashes():
    random = np.random.default_rng(0)
    words = {"".join(map(chr, random.integers(97, 123, size=size))) for size in random.integers(1, 9, 100_000)}
    assert len(set(Scan(" ".join(words)).words().tolist())) == len(words)
