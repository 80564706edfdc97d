"""What the text of the responses says about a run: reasoning words, repetition, bare answers, cut responses.

Pure Python and NumPy, so that light processes can use it too. Every key is always there: None where a class is empty.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from recipes.archer.text.scan import UNSPACED, Hashes, Scan, hashes_of
from recipes.archer.text.word_families import FAMILIES, FAMILY_OF

NGRAM = 20
BARE_ANSWER_WORDS = 10

_UNSPACED = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_BOX_START = re.compile(r"\\f?boxed\b")
_FLAT_BOX = re.compile(r"\\f?boxed\s*\{[^{}]*\}")
# An odd multiplier with well-mixed bits, and its powers for the doubling below. Not the one that hashes a piece's
# characters: 20-grams in which one number counts up and the next one down would then have the same hash.
_POWERS = [np.uint64(pow(0xD6E8FEB86659FD93, exponent, 1 << 64)) for exponent in (1, 2, 4, 8)]
# The counted words' hashes in order, the greatest possible at the end for a search to stop at, and their families.
_HASHES = hashes_of(list(FAMILY_OF))
_ORDER = np.argsort(_HASHES)
_SORTED = np.append(_HASHES[_ORDER], np.uint64(2**64 - 1))
_FAMILY = np.append(np.array(list(FAMILY_OF.values()))[_ORDER], len(FAMILIES))


@dataclass(frozen=True)
class ResponseText:
    """What is measured on one response.

    `repetition_ratio`: share of its 20-grams that occurred earlier in it, in [0, 1]; 0 when it has none.
    `compression_ratio`: bytes / zlib-compressed bytes; about 2 to 3 for prose, over 10 for degenerate text;
    1 when empty.
    """

    words: int
    family_counts: tuple[int, ...]  # in the order of FAMILIES
    repetition_ratio: float
    compression_ratio: float
    bare_answer: bool


def connective_counts(texts: Sequence[str]) -> list[int]:
    """Number of logical connectives in each text; whole words, any case."""
    position = FAMILIES.index("logical_connectives")
    return [_family_counts(Scan(text.lower()).words())[position] for text in texts]


def response_texts(texts: Sequence[str], *, bare_answer_words: int = BARE_ANSWER_WORDS) -> list[ResponseText]:
    """Measures each response; see `ResponseText`.

    Args:
        texts: decoded responses, without special tokens.
        bare_answer_words: a response with fewer words before its last box (or at all, if it has no box) is bare.
    """
    # zlib and NumPy let go of the interpreter lock, so that two threads keep two cores busy
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda text: _measure(text, bare_answer_words), texts))


def text_metrics(
    texts: Sequence[str],
    correct: Sequence[bool],
    truncated: Sequence[bool],
    *,
    bare_answer_words: int = BARE_ANSWER_WORDS,
) -> dict[str, float | None]:
    """Metrics of a batch over all responses, over the correct (`pos`) and over the wrong ones (`neg`).

    For each word family `<family>/mean`, `/pos/mean`, `/neg/mean` (words a response) and `<family>/per_100_words`,
    `/pos/per_100_words`, `/neg/per_100_words` (all such words / all words, so that length cannot move it). In the form
    of the first three: `repetition/ratio`, `repetition/compression_ratio`, and as shares in [0, 1]
    `response/truncated` and `response/bare_answer`.

    Args:
        texts: decoded responses.
        correct: the grader's verdict for each.
        truncated: whether each was cut at the cap.

    Returns:
        Always the same keys; None where there is no response (or no word) to measure.

    Raises:
        ValueError: the three differ in length.
    """
    if not len(texts) == len(correct) == len(truncated):
        raise ValueError(
            f"text_metrics: {len(texts)} texts, {len(correct)} verdicts, {len(truncated)} truncation flags; "
            "pass one of each for every response"
        )
    measured = response_texts(texts, bare_answer_words=bare_answer_words)
    quantities = _quantities(measured, truncated)
    words = np.array([response.words for response in measured], dtype=float)
    verdicts = np.array([bool(verdict) for verdict in correct], dtype=bool)
    metrics: dict[str, float | None] = {}
    for infix, chosen in (("", np.ones_like(verdicts)), ("/pos", verdicts), ("/neg", ~verdicts)):
        for name, values in quantities.items():
            metrics[f"{name}{infix}/mean"] = _ratio(values[chosen].sum(), chosen.sum())
        for family in FAMILIES:
            rate = _ratio(100 * quantities[family][chosen].sum(), words[chosen].sum())
            metrics[f"{family}{infix}/per_100_words"] = rate
    return metrics


def _quantities(measured: Sequence[ResponseText], truncated: Sequence[bool]) -> dict[str, NDArray[np.float64]]:
    """One value for each response, by metric name."""
    counts = np.array([response.family_counts for response in measured], dtype=float).reshape(-1, len(FAMILIES))
    return dict(zip(FAMILIES, counts.T, strict=True)) | {
        "repetition/ratio": np.array([response.repetition_ratio for response in measured]),
        "repetition/compression_ratio": np.array([response.compression_ratio for response in measured]),
        "response/truncated": np.array([bool(flag) for flag in truncated], dtype=float),
        "response/bare_answer": np.array([response.bare_answer for response in measured], dtype=float),
    }


def _measure(text: str, bare_answer_words: int) -> ResponseText:
    scan = Scan(text.lower())
    words = scan.words()
    return ResponseText(
        words=len(words),
        family_counts=_family_counts(words),
        repetition_ratio=_repetition_ratio(scan.pieces()),
        compression_ratio=_compression_ratio(text),
        bare_answer=_is_bare_answer(text, bare_answer_words),
    )


def _family_counts(words: Hashes) -> tuple[int, ...]:
    """Words of each family among hashed words."""
    place = np.searchsorted(_SORTED, words)
    families = _FAMILY[place[_SORTED[place] == words]]
    return tuple(np.bincount(families, minlength=len(FAMILIES))[: len(FAMILIES)].tolist())


def _repetition_ratio(pieces: Hashes) -> float:
    total = len(pieces) - NGRAM + 1
    if total < 1:
        return 0.0
    ordered = np.sort(_ngram_hashes(pieces))
    return float(np.count_nonzero(ordered[1:] == ordered[:-1])) / total


def _ngram_hashes(hashes: Hashes) -> Hashes:
    """Polynomial hash modulo 2^64 of every 20-gram, doubling the length 1, 2, 4, 8, 16 and adding the last 4."""
    grams = hashes
    for doubling, power in enumerate(_POWERS):
        width = 2**doubling
        grams = grams[:-width] * power + grams[width:]
        if width == 2:
            fours = grams
    return grams[: -(NGRAM - 16)] * _POWERS[2] + fours[16:]


def _compression_ratio(text: str) -> float:
    # A response may hold half a surrogate pair (JSON allows it); it must not stop a training step.
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, 1)) if raw else 1.0


def _is_bare_answer(text: str, fewest_words: int) -> bool:
    """An answer with fewer than `fewest_words` words before its last box; blank text is no answer."""
    if not text.strip():
        return False
    before = text
    for box in _BOX_START.finditer(text):
        before = text[: box.start()]
    # Earlier boxes are guesses, not reasoning.
    words = _WORD.finditer(_FLAT_BOX.sub(" ", before))
    return sum(1 for _ in islice(words, fewest_words)) < fewest_words


def _ratio(total: float, count: float) -> float | None:
    return float(total) / float(count) if count else None
