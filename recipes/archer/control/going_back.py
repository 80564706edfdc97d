"""A run that is not worth going on with goes back to where it was sound, and goes on with something changed.

The order: the run's last state is saved, as at every end; a checkpoint and a change are chosen; ``courses.json`` is
replaced, which decides; then, at the next start, be it in this process or in another one, `settle` moves away what was
left behind.  Killed before the decision, the run comes to it again; killed after it, whoever starts it settles first.
"""

from pathlib import Path

from omegaconf import DictConfig

from recipes.archer.checkpoints.store import CheckpointStore
from recipes.archer.ending import Cause, Ending
from recipes.archer.experiments.courses import Change, next_change
from recipes.archer.printable import complain
from recipes.archer.runs.courses import Course, Courses, read_courses, write_courses
from recipes.archer.runs.history import branch_off
from recipes.archer.runs.log import RunLog, now


class GoingBack:
    """Decides what becomes of a run that a rule has ended.

    Args:
        config: in force on the present course, not resolved.
        log: the run's.
    """

    def __init__(self, config: DictConfig, log: RunLog):
        self.config, self.settings, self.log = config, config.guard.rollback, log

    def after(self, ending: Ending, store: CheckpointStore) -> Ending | None:
        """The run's end, told as it is where it cannot go back; None once it is decided that it does.

        Raises:
            OSError: the decision could not be written.
        """
        if self.config.guard.action != "rollback" or ending.cause is None:
            return ending
        courses = read_courses(self.log.folder)
        step, why_not = self._back_to(ending.cause, store)
        change, why_not = self._change(ending.cause, courses, why_not)
        if step is None or change is None:
            return Ending(ending.status, f"{ending.reason}; not gone back: {why_not}", ending.exit_code, ending.cause)
        course = Course(
            number=courses.number + 1,
            left=int(self.log.run["steps"]),
            back_to=step,
            cause=ending.cause.name,
            verdict=ending.reason,
            source=change.source,
            change=change.what,
            overrides=change.overrides,
            at=now(),
            resume_from_path=self._resume_from_path(),
        )
        write_courses(self.log.folder, Courses((*courses.turns, course), settled=False))
        complain(f"warning: {ending.reason}; going back: {course}")
        return None

    def _back_to(self, cause: Cause, store: CheckpointStore) -> tuple[int | None, str | None]:
        """The step to go back to, or why there is none."""
        if (checkpoint := store.sound_before(cause.since)) is not None:
            return checkpoint.step, None
        if not self.settings.to_start:
            return None, f"no checkpoint from before step {cause.since} is sound (guard.rollback.to_start=false)"
        if cause.since <= 1:  # what training began with is itself the trouble
            return None, "it was so from the first step on"
        return 0, None

    def _change(self, cause: Cause, courses: Courses, why_not: str | None) -> tuple[Change | None, str | None]:
        """What to change, or why there is nothing; ``why_not``: there is no place to go back to."""
        if why_not is not None:
            return None, why_not
        before = [course for course in courses.turns if course.cause == cause.name]
        if len(before) >= self.settings.max:
            return None, f"it has been {len(before)} times for this cause (guard.rollback.max)"
        chosen = next_change(
            self.config, cause, {course.source for course in before}, lambda text: complain(f"warning: {text}")
        )
        if chosen is None:
            return None, "there is nothing left to change (guard.rollback.courses, or the record's contingency)"
        return chosen[0], None

    def _resume_from_path(self) -> str | None:
        trainer = self.config.trainer
        return str(trainer.resume_from_path) if trainer.resume_mode == "resume_path" else None


def settle(folder: Path, store: CheckpointStore) -> Courses:
    """Moves what the last turn left behind into ``branches/<k>/``, unless that is done; returns the courses.

    Raises:
        UserError: a file of the run cannot be read, or a link is in the way.
        OSError: the disk is full.
    """
    courses = read_courses(folder)
    if courses.settled:
        return courses
    course = courses.turns[-1]
    branch = branch_off(folder, course.number, course.back_to)
    store.go_back(course.back_to, branch)
    courses = Courses(courses.turns)
    write_courses(folder, courses)
    return courses
