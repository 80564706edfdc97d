"""`archer evaluate`: how good a model is on held-out questions, and how surely."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from recipes.archer.ending import UserError
from recipes.archer.printable import complain, printable


class Device(StrEnum):
    """Where the engine runs."""

    cpu = "cpu"
    cuda = "cuda"


def evaluate(
    targets: Annotated[
        list[str], typer.Argument(metavar="TARGET...", help="Runs, checkpoints, model folders, names on the hub.")
    ],
    data: Annotated[
        list[Path] | None, typer.Option(metavar="FILE...", help="Prompt files with ground truths (docs/data.md).")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="Responses a question.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0: greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Of the probability to draw from.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of a response.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all responses.")] = 0,
    steps: Annotated[
        str | None,
        typer.Option(metavar="best|last|all|40,80", help="Of runs; default: best where one is kept, else last."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default: the run's evaluations/.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="SCORES_OR_TARGET", help="A scores.json, or a target, to compare with.")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Default: cuda where there is a GPU.")] = None,
    engines: Annotated[
        int | None, typer.Option(min=1, help="Default: one for each GPU, of RAY_ADDRESS's cluster if set; 1 on a CPU.")
    ] = None,
) -> None:
    """Evaluate models on questions: avg@n, pass@k, maj@n with 95% intervals; started again, it goes on."""
    from recipes.archer.session.signals import StopRequested, StopSignals

    names, files = _sorted_out(targets, data or [])
    with StopSignals() as stop:
        try:
            with stop.nothing_to_save():  # responses are on disk as they come
                where = (device and device.value, engines)
                _evaluate(names, files, (n, temperature, top_p, max_tokens, seed), steps, out, against, where)
        except StopRequested:
            complain("archer: stopped; the responses so far are kept, the same command goes on")
            raise typer.Exit(stop.ending().exit_code) from None


def _sorted_out(targets: list[str], data: list[Path]) -> tuple[list[str], list[Path]]:
    """Targets and files: `--data A B` hands B over among the targets, which are never files of prompts.

    Raises:
        UserError: one of the two is missing.
    """
    from recipes.archer.prompts.file import SUFFIXES

    files = list(dict.fromkeys([*data, *(Path(name) for name in targets if Path(name).suffix in SUFFIXES)]))
    names = [name for name in targets if Path(name).suffix not in SUFFIXES]
    if not files:
        raise UserError("no questions: give a prompt file with --data FILE (docs/data.md says where to get them)")
    if not names:
        raise UserError("nothing to evaluate: give a run, a checkpoint, a model folder or a name on the hub")
    return names, files


def _evaluate(names, files, options, steps, out, against, where) -> None:
    from recipes.archer.export.targets import find_targets
    from recipes.archer.startup.engines import Engines
    from recipes.archer.startup.evaluating import Options, Work, settings_for

    found = find_targets(names, steps, out)
    base = _Base(against, out)
    settings = settings_for([*found, *base.targets], Options(*options))
    results: list[tuple[Any, Path, dict[str, Any]]] = []
    with Engines(*where) as engines:
        complain(f"{settings}; {engines}")
        with Work(files, settings, engines) as work:
            theirs = base.scores(work, _progress)
            for target in found:
                results += [(target, *result) for result in work.on(target, _progress)]
    compared = base.compare(results, theirs)
    _show(results, compared)
    _show_steps(results)


class _Base:
    """What the results are compared with: scores from before, or another target; nothing, where nothing is said."""

    def __init__(self, name: str | None, out: Path | None):
        from recipes.archer.evaluation.responses import SCORES
        from recipes.archer.evaluation.stored import read_scores
        from recipes.archer.export.targets import find_targets
        from recipes.archer.reading.regular import UnreadableError

        self.targets, self.name, self._read = [], name, []
        if name is None:
            return
        path = Path(name) / SCORES if (Path(name) / SCORES).exists() else Path(name)
        if path.suffix != ".json":
            self.targets = find_targets([name], None, out)
            return
        try:
            self._read = [read_scores(path)]
        except UnreadableError as error:
            raise UserError(f"--against {error}; name a {SCORES} of archer evaluate") from None

    def scores(self, work, watched) -> list[dict[str, Any]]:
        """Those of each file."""
        return self._read or [scores for target in self.targets for _, scores in work.on(target, watched)]

    def compare(self, results, theirs) -> list[tuple[Path, dict[str, Any]]]:
        """The results that have something to be compared with, the comparison written into their scores.json.

        Raises:
            UserError: none of them has.
        """
        from recipes.archer.evaluation.comparison import shared, with_comparison
        from recipes.archer.evaluation.responses import rewrite_scores

        compared = []
        for _, folder, scores in results:
            same = (other for other in theirs if other["plan"]["data"] == scores["plan"]["data"])
            other = next(same, next((other for other in theirs if shared(scores, other)), None))
            if other is not None:
                compared.append((folder, with_comparison(scores, other)))
                rewrite_scores(*compared[-1])
        if self.name is not None and not compared:
            raise UserError(f"--against {self.name}: it was evaluated on other questions than --data has")
        return compared


def _show(results, compared) -> None:
    """A table of the results, where they lie, and what they are compared with."""
    from rich.table import Table

    from recipes.archer.evaluation.responses import SCORES
    from recipes.archer.evaluation.tables import HEADINGS, NOTE, comparison_sentence, distinguished, lines
    from recipes.archer.reports.terminal import console, shown

    table = Table(caption=NOTE, caption_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for scores in distinguished([scores for _, _, scores in results]):
        for cells in lines(scores):
            table.add_row(*map(shown, cells))
    terminal = console()
    terminal.print(table)
    for told in [str(folder / SCORES) for _, folder, _ in results] + [comparison_sentence(one) for _, one in compared]:
        terminal.print(shown(told), soft_wrap=True)


def _show_steps(results) -> None:
    """For each run and file with several steps: the peak, whether the decline after it is real, and a picture."""
    from recipes.archer.evaluation.plan import apart_from_model, digest_of
    from recipes.archer.evaluation.responses import write_result
    from recipes.archer.evaluation.tables import course_sentence, distinguished
    from recipes.archer.reports.curves import scores_png
    from recipes.archer.reports.terminal import console, shown

    courses: dict[tuple[Path, str], list[tuple[Any, Path, dict[str, Any]]]] = {}
    for (target, folder, _), scores in zip(results, distinguished([scores for _, _, scores in results]), strict=True):
        if target.step is not None and target.run is not None:
            asked = digest_of(apart_from_model(scores["plan"]))
            courses.setdefault((target.run.folder.resolve(), asked), []).append((target, folder, scores))
    for (run, asked), found in courses.items():
        if len(found) < 2:
            continue
        course = sorted((scores for _, _, scores in found), key=lambda scores: scores["step"])
        target, folder, last = found[0][0], found[0][1], course[-1]
        place = folder.parent.parent
        # beside the results of other runs its name says which run's it is
        digest = asked if place.resolve().is_relative_to(run) else digest_of([asked, str(run)])
        named = folder.name.rpartition("-")[0]  # the file and n, as in the names of the results' folders
        picture = place / f"{named}-{digest}.png"
        write_result(picture, scores_png(course, run.name))
        for told in (f"{target.run.folder}, {last['data']}: {course_sentence(course)}", f"picture: {picture}"):
            console().print(shown(told), soft_wrap=True)


@contextmanager
def _progress(description: str, total: int) -> Iterator[Any]:
    """A bar on stderr with the running score."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from recipes.archer.reports.terminal import console

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[score]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console(stderr=True)) as progress:
        task = progress.add_task(escape(printable(description)), total=total, score="")

        def told(num_done: int, num_correct: int) -> None:
            score = f"score {num_correct / num_done:.3f}" if num_done else ""
            progress.update(task, completed=num_done, score=score)

        yield told
