"""Scores as lines of tables, and those that lie in a run's folder; names are as they were found, not safe to show."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.archer.evaluation.comparison import ALIKE, compare
from recipes.archer.evaluation.responses import SCORES
from recipes.archer.evaluation.stored import read_scores
from recipes.archer.reading.regular import UnreadableError

EVALUATIONS = "evaluations"  # the folder in a run's
MOST = 500  # evaluations of a run that are looked at
HEADINGS = ("model", "questions", "avg@n", "pass@n", "maj@n", "cut", "no answer", "tokens right/wrong")
NOTE = "shares with 95% intervals over questions"

Scores = Mapping[str, Any]


def evaluations_in(run_folder: Path) -> list[Scores]:
    """The scores in a run's ``evaluations/`` that can be used, the least step first, then by name."""
    return read_evaluations(run_folder)[0]


def read_evaluations(run_folder: Path) -> tuple[list[Scores], list[str]]:
    """The same, and what was left out, a line each; no link is followed."""
    root = run_folder / EVALUATIONS
    if root.is_symlink() or not root.is_dir():
        return [], []
    found, left_out = [], []
    paths = [path for path in sorted(root.glob(f"*/*/{SCORES}")) if not _linked(path)]
    for path in paths[:MOST]:
        try:
            found.append(read_scores(path))
        except UnreadableError as error:
            left_out.append(f"left out: {path.relative_to(run_folder)}: {error.reason}")
    if len(paths) > MOST:
        left_out.append(f"left out: {len(paths) - MOST:,} of {len(paths):,} evaluations")
    return sorted(found, key=lambda scores: (_step(scores), scores["data"], scores["model"])), left_out


def _linked(path: Path) -> bool:
    return any(part.is_symlink() for part in (path, path.parent, path.parent.parent))


def _step(scores: Scores) -> float:
    step = scores.get("step")
    return float("inf") if step is None else step


def highest(evaluations: Sequence[Scores]) -> str:
    """The one with the highest score, in a few words; empty where there is none."""
    best = max(evaluations, key=lambda scores: float(scores["avg"]), default=None)
    return "" if best is None else f"{best['avg']:.3f} {best.get('data')}{_at_step(best)}"


def best_lines(evaluations: Sequence[Sequence[Scores]]) -> list[tuple[str, list[str]]]:
    """(file and n, the highest score with its interval in each run), for what any run was evaluated on.

    A file is known by its content, whatever its name.

    Args:
        evaluations: of each run.
    """
    files = _names([scores for of_run in evaluations for scores in of_run], "data")
    bests: list[dict[str, Scores]] = []
    for of_run in evaluations:
        best: dict[str, Scores] = {}
        for scores in of_run:
            name = f"{files[scores['plan']['data']]}, avg@{scores['n']}"
            best[name] = max(best.get(name, scores), scores, key=lambda one: float(one["avg"]))
        bests.append(best)
    names = sorted({name for best in bests for name in best})
    return [(name, [_best(best.get(name)) for best in bests]) for name in names]


def distinguished(evaluations: Sequence[Scores]) -> list[Scores]:
    """Evaluations that are shown together; a name that several files, or several models, have gets their digest."""
    names = {kind: _names(evaluations, kind) for kind in ("data", "model")}
    return [{**one, **{kind: of[one["plan"][kind]] for kind, of in names.items()}} for one in evaluations]


def _names(evaluations: Sequence[Scores], kind: str) -> dict[str, str]:
    """What each file, or model, is called: by its first name, and where others have that, by its digest besides."""
    first: dict[str, str] = {}
    for scores in evaluations:
        first.setdefault(scores["plan"][kind], scores[kind])
    number = Counter(first.values())
    return {digest: name if number[name] == 1 else f"{name} ({digest[:8]})" for digest, name in first.items()}


def _best(scores: Scores | None) -> str:
    return "–" if scores is None else with_interval(scores, "avg") + _at_step(scores)


def _at_step(scores: Scores) -> str:
    return f" (step {scores['step']})" if _step(scores) < float("inf") else ""


def lines(scores: Scores) -> Iterator[tuple[str, ...]]:
    """A cell for each of ``HEADINGS``: over everything, then by data source where there are several."""
    yield line(scores)
    sources = scores.get("by_source")
    if isinstance(sources, dict) and len(sources) > 1:
        for name, part in sources.items():
            yield line({**part, "model": "", "data": f"  {name}"})


def line(scores: Scores) -> tuple[str, ...]:
    """The figures of an evaluation, a cell for each of ``HEADINGS``."""
    n = scores["n"]
    return (
        str(scores.get("model")),
        f"{scores.get('data')}, {scores['num_questions']} × {n}",
        with_interval(scores, "avg"),
        f"{_share(scores['pass_at'].get(str(n)))} {_bounds((scores.get('pass_at_ci95') or {}).get(str(n)))}".strip(),
        with_interval(scores, "maj"),
        _share(scores.get("truncated")),
        _share(scores.get("no_answer")),
        f"{_tokens(scores.get('length_correct'))}/{_tokens(scores.get('length_wrong'))}",
    )


def with_interval(scores: Scores, name: str) -> str:
    """A share with its interval: ``0.513 [0.441, 0.584]``."""
    return f"{_share(scores.get(name))} {_bounds(scores.get(f'{name}_ci95'))}".strip()


def comparison_sentence(scores: Scores) -> str:
    """What ``--against`` found, and how many questions changed sides."""
    against = scores["against"]
    told = f"{scores.get('model')}, {scores.get('data')}: {against['sentence']}"
    changed = f"questions that went to right: {against['gained']}, to wrong: {against['lost']}"
    left_out = against["only_here"] + against["only_there"]
    return f"{told}; {changed}" + (f"; {left_out} that only one of the two answered are left out" if left_out else "")


def course_sentence(course: Sequence[Scores]) -> str:
    """Where the peak is, and whether what comes after it is outside the noise.

    Args:
        course: scores of one run on one file, in the order of the steps.
    """
    peak, last = max(course, key=lambda scores: float(scores["avg"])), course[-1]
    told = f"peak at step {peak['step']}, {with_interval(peak, 'avg')}"
    if last is peak:
        return f"{told}; it is the last step that was evaluated"
    found = compare(last, peak, f"step {peak['step']}")
    bounds = f"[{100 * found.difference_ci95[0]:+.1f}, {100 * found.difference_ci95[1]:+.1f}]"
    gap = f"step {last['step']} is {100 * found.difference:+.1f} points from it {bounds}"
    noise = "inside the noise" if found.verdict == ALIKE else "outside the noise"
    return f"{told}; {gap}: the decline is {noise}"


def _share(value: Any) -> str:
    return f"{value:.3f}" if _is_number(value) else "–"


def _bounds(value: Any) -> str:
    usable = isinstance(value, list) and len(value) == 2 and all(_is_number(bound) for bound in value)
    return f"[{value[0]:.3f}, {value[1]:.3f}]" if usable else ""


def _tokens(value: Any) -> str:
    return f"{value:.0f}" if _is_number(value) else "–"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
