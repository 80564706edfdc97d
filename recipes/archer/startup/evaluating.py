"""The evaluations of one call: settings from options and the run's validation, then one model after the other."""

import math
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from recipes.archer.ending import UserError
from recipes.archer.evaluation.course import Evaluation
from recipes.archer.evaluation.plan import Plan, Sampling, file_digest
from recipes.archer.evaluation.questions import read_questions
from recipes.archer.export.targets import PREFIX_OF_MODELS, Target
from recipes.archer.grading.answers import ANSWER_FORMATS
from recipes.archer.grading.grader import GradingPool, GroundTruthError
from recipes.archer.grading.ground_truths import check_file
from recipes.archer.prompts.file import PromptFileError, read_prompt_file
from recipes.archer.reading.json import read_json
from recipes.archer.runs.folder import Run
from recipes.archer.session.temporary import remove_leftovers
from recipes.archer.settings.configuration import compose, plain
from recipes.archer.settings.model_folder import context_length
from recipes.archer.startup.engines import Engines

_VALIDATION = "actor_rollout_ref.rollout.val_kwargs"


@dataclass(frozen=True)
class Options:
    """What the user gave; None: as the run validates."""

    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Settings:
    """By what all targets of a call are evaluated.

    Attributes:
        n, temperature, top_p, seed: as ``Sampling``.
        max_tokens: the cap; ``given``: by the user, so that it must fit; otherwise it is lowered to the context.
        grading: answer format and seconds a check.
        source: whose settings they are, in words.
    """

    n: int
    temperature: float
    top_p: float
    seed: int
    max_tokens: int
    given: bool
    grading: dict[str, Any]
    source: str

    def __str__(self) -> str:
        told = f"n={self.n}, temperature={self.temperature:g}, top_p={self.top_p:g}, at most {self.max_tokens} tokens"
        return f"{told}, seed {self.seed}; what was not given is {self.source}"


def settings_for(targets: Sequence[Target], options: Options) -> Settings:
    """The options, and where one was not given, the validation of the first target that is of a run.

    Raises:
        UserError: that run's configuration, or an option, has a value that cannot be.
    """
    return validation_of(next((t.run for t in targets if t.run is not None and t.run.config), None), options)


def validation_of(run: Run | None, options: Options) -> Settings:
    """The options, and where one was not given, a run's validation, or the recipe's.

    Raises:
        UserError: as :func:`settings_for`.
    """
    own, default = (run.config if run is not None else {}), _recipe()

    def said(name: str) -> Any:
        """As the run has it, else the recipe; its text is data: nothing in it is looked up or called."""
        value = _at(own, name)
        return _at(default, name) if value is None else value

    sampled = said(f"{_VALIDATION}.do_sample")
    found = Settings(
        n=_given(options.n, said(f"{_VALIDATION}.n")),
        temperature=_given(options.temperature, said(f"{_VALIDATION}.temperature") if sampled else 0.0),
        top_p=_given(options.top_p, said(f"{_VALIDATION}.top_p")),
        seed=options.seed,
        max_tokens=_given(options.max_tokens, said("data.max_val_response_length") or said("data.max_response_length")),
        given=options.max_tokens is not None,
        grading={name: said(f"grading.{name}") for name in ("answer_format", "timeout_s")},
        source=f"that of {run.folder}'s validation" if run is not None else "the recipe's default for validation",
    )
    _check(found, options)
    return found


@cache
def _recipe() -> dict[str, Any]:
    """The recipe's own configuration."""
    return plain(compose())


def _given(option: Any, otherwise: Any) -> Any:
    return otherwise if option is None else option


def _at(config: Any, name: str) -> Any:
    """The value under a dotted name in plain mappings; None where there is none."""
    for part in name.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _check(settings: Settings, options: Options) -> None:
    fits = {
        "n": _is_whole(settings.n),
        "temperature": _is_number(settings.temperature) and settings.temperature >= 0,
        "top_p": _is_number(settings.top_p) and 0 < settings.top_p <= 1,
        "max_tokens": _is_whole(settings.max_tokens),
    }
    for name, holds in fits.items():
        if not holds:
            flag = "-n" if name == "n" else f"--{name.replace('_', '-')}"
            what = f"{flag} {getattr(settings, name)!a:.80}"
            by_run = f" (it is {settings.source})" if getattr(options, name) is None else ""
            raise UserError(f"{what} cannot be{by_run}; give another")
    answer_format, timeout_s = settings.grading["answer_format"], settings.grading["timeout_s"]
    if answer_format not in ANSWER_FORMATS or not (_is_number(timeout_s) and timeout_s > 0):
        raise UserError(
            f"{settings.source}: its grading is {answer_format!a:.40}, {timeout_s!a:.40} s: correct config.yaml"
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 1 << 31


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Work:
    """Evaluates targets on files, one engine at a time; a context manager that ends the grading processes.

    Args:
        files: of questions; those of one content are taken for one.
        settings: for all of them.
        engines: that draw the responses.

    Raises:
        UserError: a file cannot be read, or has ground truths that cannot be graded against.
    """

    def __init__(self, files: Sequence[Path], settings: Settings, engines: Engines):
        self.settings, self.engines = settings, engines
        remove_leftovers(PREFIX_OF_MODELS, Path(tempfile.gettempdir()))
        self._digests = {path: _checked(path) for path in files}
        by_content: dict[str, Path] = {}
        for path in files:
            by_content.setdefault(self._digests[path], path)
        self.files = list(by_content.values())
        self._stack = ExitStack()
        grading = settings.grading
        workers = max(1, (os.cpu_count() or 2) // 2)
        self.pool = self._stack.enter_context(
            GradingPool(workers, grading["timeout_s"], answer_format=grading["answer_format"])
        )
        try:
            for path in files:
                check_file(path, pool=self.pool)
        except GroundTruthError as error:
            self._stack.close()
            raise UserError(str(error)) from None

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def on(self, target: Target, watched: Any) -> list[tuple[Path, dict[str, Any]]]:
        """The results' folder and the scores of a target, for each file.

        Args:
            target: what is evaluated.
            watched: (description, total) to a context manager that gives a ``Progress``.
        """
        target.remove_leftovers()
        evaluations = self.planned(target)
        with self.engines.of(target, evaluations) as responder:
            found = []
            for evaluation in evaluations:
                scores = evaluation.finished()
                if scores is None:
                    total = evaluation.num_responses
                    with watched(f"{target.name}, {evaluation.labels['data']}", total) as told:
                        scores = evaluation.run(responder, self.pool, told)
                found.append((evaluation.folder, scores))
        return found

    def planned(self, target: Target) -> list[Evaluation]:
        from recipes.archer.startup.inputs import load_tokenizer
        from recipes.archer.startup.stop_tokens import stop_tokens_of

        model = read_json(target.folder / "config.json")
        context = context_length(model)
        tokenizer = load_tokenizer(str(target.folder), trust_remote_code=False)
        stops = stop_tokens_of(target.folder, model, _ends(target), tokenizer).ids
        return [self._evaluation(target, path, tokenizer, stops, context) for path in self.files]

    def _evaluation(self, target: Target, path: Path, tokenizer, stops: tuple[int, ...], context: float) -> Evaluation:
        wanted = self.settings.max_tokens
        questions = read_questions(path, tokenizer, context - (wanted if self.settings.given else 1))
        room = context - max(len(question.prompt_ids) for question in questions)
        plan = Plan(
            model=target.digest,
            data=self._digests[path],
            sampling=self._sampling(int(min(wanted, room))),
            stop_token_ids=stops,
            grading=self.settings.grading,
            device=self.engines.device,
        )
        labels = {"model": target.name, "step": target.step, "data": path.name}
        if target.step is None:
            del labels["step"]
        if plan.sampling.max_tokens == room:
            labels["capped_by_context"] = True
        return Evaluation(plan, target.home / plan.folder_name(path.stem), questions, tokenizer, labels)

    def _sampling(self, max_tokens: int) -> Sampling:
        settings = self.settings
        return Sampling(settings.n, settings.temperature, settings.top_p, max_tokens, settings.seed)


def _checked(path: Path) -> str:
    """The digest of a file of questions, every row of which can be used.

    Raises:
        UserError: names the row and the field that cannot.
    """
    try:
        read_prompt_file(path)
    except PromptFileError as error:
        raise UserError(str(error)) from None
    return file_digest(path)


def _ends(target: Target) -> SimpleNamespace:
    """Where the run that a target is of lets a response end; the recipe's default of what is of none."""
    config = target.run.config if target.run is not None else {}
    section = "actor_rollout_ref.rollout"
    ids = _at(config, f"{section}.stop_token_ids")
    at_turn_end = _at(config, f"{section}.stop_at_turn_end") is not False
    return SimpleNamespace(stop_at_turn_end=at_turn_end, stop_token_ids=ids if isinstance(ids, list) else [])
