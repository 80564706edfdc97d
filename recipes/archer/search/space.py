"""What a search may change: settings with their values or ranges, as text and as Optuna's distributions."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from recipes.archer.ending import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log)?")
DIGITS = 4  # significant ones of a number that is drawn, so that a setting can be read and written again

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Choices:
    """A setting with the values that it may have, as Hydra reads them; at least two."""

    key: str
    texts: tuple[str, ...]

    @property
    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.texts)

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that are checked before anything runs: all of them."""
        return self.texts

    def at(self, share: float) -> Any:
        """The value at a share, in [0, 1), of the way through."""
        return self.texts[int(share * len(self.texts))]

    def holding(self, value: Any, texts: Mapping[str, Any]) -> Any:
        """The choice that is this value, None where none is; ``texts``: what each choice is to the configuration."""
        return next((text for text in self.texts if texts.get(text) == value), None)

    def __str__(self) -> str:
        return ", ".join(self.texts)


@dataclass(frozen=True)
class Span:
    """A setting with a range of numbers, both ends included.

    Attributes:
        log: whether it is drawn evenly by its logarithm.
        whole: whether it is a whole number.
    """

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    @property
    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that are checked before anything runs: the least and the greatest."""
        return text_of(self._kind(self.low)), text_of(self._kind(self.high))

    def at(self, share: float) -> Any:
        """The value at a share, in [0, 1), of the way through."""
        if self.whole and not self.log:
            return int(self.low) + int(share * (int(self.high) - int(self.low) + 1))
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = low + share * (high - low)
        return self.fitted(math.exp(value) if self.log else value)

    def fitted(self, value: float) -> Any:
        """The value as it is set: readable, and in the range."""
        readable = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return self._kind(min(max(readable, self.low), self.high))

    def holding(self, value: Any, texts: Mapping[str, Any]) -> Any:
        """The value where it is a number in the range, else None."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return self._kind(value) if number and self.low <= value <= self.high else None

    def _kind(self, value: float) -> Any:
        return int(value) if self.whole else float(value)

    def __str__(self) -> str:
        return f"{self.ends[0]}..{self.ends[1]}" + (":log" if self.log else "")


Axis = Choices | Span


def axis_of(key: str, text: str, present: Any) -> Axis:
    """What ``--set KEY=TEXT`` means: values with commas between, or ``LOW..HIGH``, with ``:log`` behind it.

    Args:
        present: the setting's value in the base; a range of a whole number has whole numbers.

    Raises:
        UserError: there is nothing to choose from, or the range is empty.
    """
    said = f"--set {key}={text}"
    if ".." in text and "," not in text:
        if (match := _RANGE.fullmatch(text.strip())) is None:
            raise UserError(f"{said}: write a range as LOW..HIGH, or LOW..HIGH:log, of two numbers")
        return _span(key, match, present, said)
    texts = tuple(part.strip() for part in _parts(text))
    if not all(texts):
        raise UserError(f"{said}: an empty value is none; write KEY=A,B or KEY=LOW..HIGH")
    if len(set(texts)) < len(texts):
        raise UserError(f"{said} has a value twice; write each once")
    if len(texts) < 2:
        raise UserError(f"{said} is one value, nothing to search; give it behind the options, as an override")
    return Choices(key, texts)


def _span(key: str, match: re.Match[str], present: Any, said: str) -> Span:
    low, high, log = float(match[1]), float(match[2]), match[3] is not None
    whole = isinstance(present, int) and not isinstance(present, bool)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"{said}: an end is too large for a number")
    if not low < high:
        raise UserError(f"{said} is an empty range; the lower end comes first, and below the upper one")
    if log and low <= 0:
        raise UserError(f"{said}: a logarithmic range begins above 0")
    if whole and (low % 1 or high % 1):
        raise UserError(f"{said}: {key} is a whole number, and so are the ends of its range")
    return Span(key, low, high, log, whole)


def _parts(text: str) -> Iterator[str]:
    """The text cut at the commas that stand in no brackets and no quotation marks."""
    depth, quote, part = 0, "", ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        elif character == "," and depth == 0:
            yield part
            part = ""
            continue
        part += character
    yield part


def text_of(value: Any) -> str:
    """A value as an override has it."""
    return str(value)


def size(axes: Sequence[Axis]) -> int | None:
    """How many settings there are; None where a range of real numbers is among them."""
    total = 1
    for axis in axes:
        if isinstance(axis, Choices):
            total *= len(axis.texts)
        elif axis.whole:
            total *= int(axis.high) - int(axis.low) + 1
        else:
            return None
    return total


def grid(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Every combination of the values, the last setting's changing first.

    Raises:
        UserError: one has a range.
    """
    for axis in axes:
        if isinstance(axis, Span):
            raise UserError(f"--set {axis.key}={axis}: a grid takes values, not a range; write KEY=A,B,C")
    values = [axis.texts for axis in axes if isinstance(axis, Choices)]
    return [dict(zip([axis.key for axis in axes], point, strict=True)) for point in product(*values)]


def words(params: Params) -> str:
    """What a trial changes, in few words: the last part of each key, more of it where two end alike."""
    return ", ".join(f"{name}={text_of(params[key])}" for key, name in short_names(list(params)).items())


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The shortest ending of each key that no other has."""
    names = {}
    for key in keys:
        parts = key.split(".")
        endings = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        others = [other for other in keys if other != key]
        names[key] = next((e for e in endings if not any(o == e or o.endswith(f".{e}") for o in others)), key)
    return names
