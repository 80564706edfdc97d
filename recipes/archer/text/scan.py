"""Words and pieces of a text as arrays of hashes: what counting needs of them, at the speed of NumPy.

A hash is a polynomial of the character codes modulo 2^64. Those of all words come from one running sum over the text:
the sum from a word's start to its end, divided by the power at the start (an odd number has an inverse modulo 2^64).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]  # (words or pieces,)
Places = NDArray[np.intp]  # of characters in a text

# A longer piece without a space is a degenerate run, or a script that is not listed: it is compared by characters.
LONGEST_WORD = 40
# Scripts without spaces between words, where a character counts as a word and a piece: kana, Han, Hangul.
UNSPACED = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF))
LETTER, CHARACTER, SPACE = 1, 2, 4  # part of a word, a word by itself, between pieces

_BASE = 0x9E3779B97F4A7C15  # odd, with well-mixed bits: 2^64 divided by the golden ratio


class Scan:
    """A text, lower-case or not, scanned once.

    Args:
        text: may hold half a surrogate pair, which JSON allows.
    """

    def __init__(self, text: str):
        if text.isascii():
            codes, limit = np.frombuffer(text.encode("ascii"), np.uint8), 0x80
        else:
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
            limit = 0x10000 if codes.max() < 0x10000 else 0x110000
        self._kinds = _kinds(limit)[codes]
        powers, self._inverses = _powers(1 << len(text).bit_length())
        terms = np.empty(len(text) + 1, np.uint64)
        terms[0] = 0
        np.add(codes, 1, out=terms[1:], dtype=np.uint64)  # 1 more, so that a character of code 0 counts, too
        terms[1:] *= powers[: len(text)]
        self._sums: NDArray[np.uint64] = np.cumsum(terms, out=terms)

    def words(self) -> Hashes:
        """(words,) uint64: a hash of each run of letters, digits and underscores, and of each unspaced character."""
        starts, ends = _runs(self._kinds == LETTER)
        single = np.flatnonzero(self._kinds == CHARACTER)
        return np.concatenate([self._hashes(starts, ends), self._hashes(single, single + 1)])

    def pieces(self) -> Hashes:
        """(pieces,) uint64 in the order of the text: what stands between spaces or unspaced characters, these one by
        one, and each character of what is long."""
        starts, ends = _runs(self._kinds & (SPACE | CHARACTER) == 0)
        single = np.flatnonzero(self._kinds == CHARACTER)
        if len(single):  # runs do not overlap, so that starts and ends have the same order
            starts = np.sort(np.concatenate([starts, single]))
            ends = np.sort(np.concatenate([ends, single + 1]))
        long = ends - starts > LONGEST_WORD
        if long.any():
            lengths = np.where(long, ends - starts, 1)
            first = np.repeat(np.cumsum(lengths) - lengths, lengths)  # place of a piece's first unit among all
            offset = np.arange(lengths.sum()) - first
            starts, ends = np.repeat(starts, lengths) + offset, np.repeat(ends, lengths)
            ends = np.where(np.repeat(long, lengths), starts + 1, ends)
        return self._hashes(starts, ends)

    def _hashes(self, starts: Places, ends: Places) -> Hashes:
        hashes: Hashes = (self._sums[ends] - self._sums[starts]) * self._inverses[starts]
        return hashes


def hashes_of(words: list[str]) -> Hashes:
    """(words,) uint64: the hash under which each word is found in `Scan.words`."""
    return np.array([Scan(word).words()[0] for word in words], np.uint64)


def _runs(inside: NDArray[np.bool_]) -> tuple[Places, Places]:
    """Where runs of True start, and where they end (the end is not part of it)."""
    changes = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    return changes[::2], changes[1::2]


@lru_cache(maxsize=3)
def _kinds(limit: int) -> NDArray[np.uint8]:
    """What each character code below a limit is; letters are what Python's regular expressions call so."""
    characters = [chr(code) for code in range(limit)]
    letters = [character.isalnum() or character == "_" for character in characters]
    kinds = np.where(letters, LETTER, 0).astype(np.uint8)
    for first, last in UNSPACED:
        kinds[first : last + 1] = CHARACTER
    kinds[[character.isspace() for character in characters]] |= SPACE
    return kinds


@lru_cache(maxsize=8)
def _powers(length: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(length + 1,) powers of the base modulo 2^64 from the 0th on, and their inverses."""
    bases = (_BASE, pow(_BASE, -1, 1 << 64))
    steps = np.ones((2, length + 1), np.uint64)
    steps[:, 1:] = np.array(bases, np.uint64)[:, None]
    return tuple(np.multiply.accumulate(steps, axis=1))
