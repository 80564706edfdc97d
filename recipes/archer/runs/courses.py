"""The courses of a run: where it went back, why, and with what changed.

``courses.json`` decides.  Written whole or not at all, it makes a run go back; what is then to be moved is moved again
by whoever starts the run, until the file says that it is done.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.files import write_atomically
from recipes.archer.reading.json import read_json
from recipes.archer.reading.regular import UnreadableError

COURSES = "courses.json"
_MOST_TEXT = 4096  # characters of one text
_TEXTS = ("cause", "verdict", "source", "change", "at")


@dataclass(frozen=True)
class Course:
    """What a run does after it went back; the ``number``-th time that it did.

    Attributes:
        left: the last step of the course before.
        back_to: the step that this one goes on after; 0: from where training began.
        cause: a criterion in words, a detector, or the setting of a rule.
        verdict: why, one sentence.
        source: where the change is written.
        change: it in words.
        overrides: the settings that are changed, on top of those of all courses before.
        at: when, ISO.
        resume_from_path: ``trainer.resume_from_path`` of the command that went back.
    """

    number: int
    left: int
    back_to: int
    cause: str
    verdict: str
    source: str
    change: str
    overrides: tuple[str, ...]
    at: str
    resume_from_path: str | None = None

    def __str__(self) -> str:
        where = f"step {self.back_to}" if self.back_to else "the start"
        return f"course {self.number}, from {where}: {self.change} ({' '.join(self.overrides)})"


@dataclass(frozen=True)
class Courses:
    """All courses after the first one, and whether everything of the last turn is done."""

    turns: tuple[Course, ...] = ()
    settled: bool = True

    @property
    def overrides(self) -> list[str]:
        """Of all courses, in their order."""
        return [override for course in self.turns for override in course.overrides]

    @property
    def number(self) -> int:
        """Of the present one; 0: the run has not gone back."""
        return len(self.turns)

    def facts(self) -> list[dict[str, Any]]:
        """As run.json has them."""
        return [as_fact(course) for course in self.turns]


def as_fact(course: Course) -> dict[str, Any]:
    """A course as JSON; its two steps are called ``from`` and ``back_to``."""
    fact = asdict(course) | {"overrides": list(course.overrides)}
    return {"from" if name == "left" else name: value for name, value in fact.items()}


def read_courses(folder: Path) -> Courses:
    """The courses of the run in a folder.

    Raises:
        UserError: the file is not as a run writes it.
    """
    path = Path(folder) / COURSES
    try:
        content = read_json(path, inside=Path(folder))
    except UnreadableError as error:
        if error.absent:
            return Courses()
        raise UserError(f"{error}; put it right, or set trainer.experiment_name to another name") from None
    try:
        turns, settled = tuple(map(_course, content["courses"])), content["settled"]
        if not isinstance(settled, bool) or [course.number for course in turns] != list(range(1, len(turns) + 1)):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} does not hold what a run writes; put it right, or set trainer.experiment_name to another name"
        ) from None
    return Courses(turns, settled)


def course_of(fact: Any) -> Course | None:
    """A course as run.json has it, which may be anyone's; None where it is none."""
    try:
        return _course(fact)
    except (KeyError, TypeError, ValueError):
        return None


def write_courses(folder: Path, courses: Courses) -> None:
    """Replaces the file.

    Raises:
        OSError: the disk is full.
    """
    content = {"settled": courses.settled, "courses": courses.facts()}
    write_atomically(Path(folder) / COURSES, json.dumps(content, indent=1))


def _course(fact: Any) -> Course:
    """
    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    steps = {name: fact[key] for name, key in (("number", "number"), ("left", "from"), ("back_to", "back_to"))}
    texts = {name: fact[name] for name in _TEXTS}
    overrides, path = fact["overrides"], fact["resume_from_path"]
    if not all(type(step) is int and step >= 0 for step in steps.values()) or not isinstance(overrides, list):
        raise ValueError
    said = [*texts.values(), *overrides, path or ""]
    if not all(isinstance(text, str) and len(text) <= _MOST_TEXT for text in said):
        raise ValueError
    return Course(**steps, **texts, overrides=tuple(overrides), resume_from_path=path)
