"""The `archer` command; each of its commands is a function in recipes.archer.commands."""

import errno

import typer

from recipes.archer.commands.compare import compare
from recipes.archer.commands.evaluate import evaluate
from recipes.archer.commands.experiment import experiment_app
from recipes.archer.commands.export import export
from recipes.archer.commands.grade import grade_command
from recipes.archer.commands.job import job_app
from recipes.archer.commands.monitor import monitor
from recipes.archer.commands.report import report
from recipes.archer.commands.runs import runs
from recipes.archer.commands.samples import samples
from recipes.archer.commands.search import search_app
from recipes.archer.commands.submit import submit
from recipes.archer.ending import UserError
from recipes.archer.printable import complain, guard_logs

_OF_A_NAME = (errno.ENAMETOOLONG, errno.EACCES)  # wherever a name that was given is first looked at
_SHOWN = 200  # characters of it

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reinforcement-learning runs: grade, monitor, compare, report, export, evaluate, submit them, and search.",
)
app.command()(submit)
app.command("grade")(grade_command)
for command in (monitor, runs, compare, report, samples, export, evaluate):
    app.command()(command)
app.add_typer(experiment_app, name="experiment")
app.add_typer(job_app, name="job")
app.add_typer(search_app, name="search")


def main() -> None:
    """Entry point; what the user can put right is one line, with its exit code, without a traceback."""
    guard_logs()
    try:
        app()
    except UserError as error:
        complain(f"archer: {error}")
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if error.errno not in _OF_A_NAME or error.filename is None:
            raise
        complain(f"archer: {_shortened(str(error.filename))}: {error.strerror}; name another")
        raise SystemExit(UserError.exit_code) from None


def _shortened(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
