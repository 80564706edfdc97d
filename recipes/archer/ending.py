"""How a run ends: a reason in words, and the exit code that a launcher or a cluster acts on."""

from dataclasses import dataclass

FINISHED = 0
FAILED = 1
WRONG_CALL = 2  # configuration or data: the same command fails the same way again
GUARD = 20  # the monitor's verdict is bad
EMPTY = 21  # nothing valid to learn from for too long
NOT_FINITE = 22  # no finite gradient for too long
DISK = 23  # checkpoints cannot be written
FOLDER = 24  # the run folder is another run's, or out of reach: soon it may not be
HUNG_UP = 129  # the terminal was closed
INTERRUPTED = 130
TERMINATED = 143


@dataclass(frozen=True)
class Cause:
    """What makes a run not worth going on with.

    Attributes:
        name: a criterion in words, a detector, or the setting of a rule; by it a cause is known again.
        metric: that it is mainly about.
        since: the step at which it began.
        goes: ``up`` or ``down``, as the metric has; None: that is not said.
    """

    name: str
    metric: str
    since: int
    goes: str | None = None


@dataclass(frozen=True)
class Ending:
    """Why training is over.

    Attributes:
        status: ``finished`` (as planned), ``stopped`` (a rule or a signal), ``failed`` (an error).
        reason: one sentence.
        exit_code: one of this module's constants.
        cause: where a rule ends a run that is not worth going on with.
    """

    status: str
    reason: str
    exit_code: int
    cause: Cause | None = None


class UserError(Exception):
    """A setting, file or call that the user can put right; shown as one line, without a traceback."""

    exit_code = WRONG_CALL


class FolderInUseError(UserError):
    """Another run holds the folder; on a cluster it may be the one that this run replaces, which is just ending."""

    exit_code = FOLDER


class DiskFullError(UserError):
    """A disk has no room for what was to be written."""

    exit_code = DISK
