"""What is known of a setting: who reads it and which values make sense, or that it keeps its value, and why.

A line of the table is made with one of the functions below; ``by`` names the file that reads the setting, without its
suffix, below ``recipes/archer`` or, for upstream's, below the checkout (``verl/...``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recipes.archer.ending import UserError

if TYPE_CHECKING:  # the commands, which take `seconds` from here, start without it
    from omegaconf import DictConfig

A_DAY_S = 86_400  # a day: a time that somebody waits for
_MOST_WHOLE = 2**63 - 1


@dataclass(frozen=True)
class OnlyIf:
    """What must hold for a setting to have an effect, and how to bring it about."""

    holds: Callable[[DictConfig], bool]
    how: str


@dataclass(frozen=True)
class Read:
    """A setting that something acts on.

    Attributes:
        by: the file that reads it.
        fits: whether a value makes sense.
        use: what to use, as in "use true or false".
        only_if: what it has an effect with; without that it keeps its value.
        cpu: why ``device=cpu`` decides it, where it does.
        optional: upstream's configuration does not have it, so that it is given with a + in front.
        section: it holds settings of the user's own naming.
    """

    by: str
    fits: Callable[[Any], bool]
    use: str
    only_if: OnlyIf | None = None
    cpu: str | None = None
    optional: bool = False
    section: bool = False


@dataclass(frozen=True)
class Kept:
    """A setting, or a whole section, that nothing acts on here: it keeps its value."""

    remedy: str


def whole(
    by: str, least: int, most: int | None = None, *, null: bool = False, besides: Iterable[int] = (), **more: Any
) -> Read:
    """A whole number from ``least`` to ``most``, or one of ``besides``."""

    def fits(value: Any) -> bool:
        if value is None:
            return null
        return _is(value, int) and (value in besides or least <= value <= (_MOST_WHOLE if most is None else most))

    bounds = f"{least} or more" if most is None else f"from {least} to {most}"
    words = [f"a whole number, {bounds}", *map(str, besides), *["null"] * null]
    return Read(by, fits, " or ".join(words), **more)


def number(by: str, holds: Callable[[float], bool], words: str, *, null: bool = False, **more: Any) -> Read:
    """A finite number for which ``holds`` is true; ``words`` say when, e.g. "0 or more"."""

    def fits(value: Any) -> bool:
        return null if value is None else _is(value, int | float) and is_finite(value) and holds(value)

    return Read(by, fits, f"a finite number{words and ', '}{words}{' or null' * null}", **more)


def positive(by: str, *, infinite: bool = False, **more: Any) -> Read:
    """A number above 0; infinity switches off what it limits."""
    if not infinite:
        return number(by, lambda value: value > 0, "above 0", **more)
    null = more.pop("null", False)

    def fits(value: Any) -> bool:
        return (
            null if value is None else _is(value, int | float) and (value == math.inf or is_finite(value)) and value > 0
        )

    return Read(by, fits, f"a number, above 0{' or null' * null}", **more)


def not_negative(by: str, **more: Any) -> Read:
    """A finite number, 0 or more."""
    return number(by, lambda value: value >= 0, "0 or more", **more)


def share(by: str, *, zero: bool = True, **more: Any) -> Read:
    """A number up to 1, from 0 on or above it."""
    if zero:
        return number(by, lambda value: 0 <= value <= 1, "from 0 to 1", **more)
    return number(by, lambda value: 0 < value <= 1, "above 0, at most 1", **more)


def switch(by: str, **more: Any) -> Read:
    """True or false; a text, whatever it says, would count as true."""
    return Read(by, lambda value: isinstance(value, bool), "true or false", **more)


def choice(by: str, *values: str, null: bool = False, **more: Any) -> Read:
    """One of several words."""
    words = " or ".join((*values, *["null"] * null))
    return Read(by, lambda value: null if value is None else value in values, words, **more)


def text(by: str, what: str = "a text", *, null: bool = False, **more: Any) -> Read:
    """A text that is not empty."""
    return Read(by, lambda value: null if value is None else _is_text(value), f"{what}{' or null' * null}", **more)


def texts(by: str, what: str, **more: Any) -> Read:
    """A text, or a list of them that is not empty."""

    def fits(value: Any) -> bool:
        return _is_text(value) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))

    return Read(by, fits, what, **more)


def listed(by: str, *values: str, **more: Any) -> Read:
    """A list of known words."""
    return Read(
        by,
        lambda value: isinstance(value, list) and all(word in values for word in value),
        f"a list of {', '.join(values)}, e.g. [{values[0]}]",
        **more,
    )


def judged(by: str) -> Read:
    """A setting whose reader also judges it, for all the checks that have to agree with one another."""
    return Read(by, lambda value: True, "")


def section(by: str, fits: Callable[[Any], bool], use: str, **more: Any) -> Read:
    """Settings of the user's own naming, seen as one value: a plain mapping."""
    return Read(by, fits, use, section=True, **more)


def is_finite(value: float) -> bool:
    """Whether a number is finite, and no whole number that is too large for a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def seconds(option: str, least: float) -> Callable[[float], float]:
    """What checks an option of a command that is a time in seconds, from ``least`` to a day.

    Raises:
        UserError: names the option; for a time that is none, too.
    """

    def checked(value: float) -> float:
        if not least <= value <= A_DAY_S:
            raise UserError(f"{option} {value:g}: use seconds, from {least:g} to {A_DAY_S:g}")
        return value

    return checked


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value
