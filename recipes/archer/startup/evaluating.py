"""The evaluations of one call: settings from options and the run's validation, then one model after the other."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipes.archer.ending import UserError
from recipes.archer.evaluation.course import Evaluation
from recipes.archer.evaluation.plan import Plan, Sampling, file_digest
from recipes.archer.evaluation.questions import Question, read_questions
from recipes.archer.export.targets import Target
from recipes.archer.grading.grader import GradingPool, GroundTruthError
from recipes.archer.grading.ground_truths import check_file
from recipes.archer.prompts.file import PromptFileError, read_prompt_file
from recipes.archer.settings.configuration import compose
from recipes.archer.settings.model_folder import context_length

_SAID_BY_RUN = ("n", "temperature", "top_p", "max_tokens")


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
        UserError: that run's configuration has a value that cannot be.
    """
    run = next((target.run for target in targets if target.run is not None and target.run.config), None)
    config = compose()
    if run is not None:
        # its own reward functions are left out: a run folder's code is never called
        said = {name: run.config.get(name) for name in ("data", "actor_rollout_ref", "grading")}
        config = OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(config)), {k: v for k, v in said.items() if v})
    try:
        validation = config.actor_rollout_ref.rollout.val_kwargs
        cap = OmegaConf.select(config, "data.max_val_response_length") or config.data.max_response_length
        temperature = validation.temperature if validation.do_sample else 0.0
        known = dict(zip(_SAID_BY_RUN, (validation.n, temperature, validation.top_p, cap), strict=True))
        known |= {name: value for name in _SAID_BY_RUN if (value := getattr(options, name)) is not None}
        grading = {"answer_format": config.grading.answer_format, "timeout_s": float(config.grading.timeout_s)}
        found = Settings(
            **{"n": int(known["n"]), "max_tokens": int(known["max_tokens"])},
            **{name: float(known[name]) for name in ("temperature", "top_p")},
            seed=options.seed,
            given=options.max_tokens is not None,
            grading=grading,
            source=f"that of {run.folder}'s validation" if run is not None else "the recipe's default for validation",
        )
    except Exception as error:  # whatever a configuration of elsewhere may hold
        where = f"{run.folder}/config.yaml" if run is not None else "the configuration"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{where} does not say how to validate ({reason!a:.200})") from None
    _check(found)
    return found


def _check(settings: Settings) -> None:
    right = {
        "n": settings.n >= 1,
        "temperature": settings.temperature >= 0 and math.isfinite(settings.temperature),
        "top-p": 0 < settings.top_p <= 1,
        "max-tokens": settings.max_tokens >= 1,
    }
    for name, holds in right.items():
        if not holds:
            value = getattr(settings, name.replace("-", "_"))
            raise UserError(f"--{name} {value} cannot be; give another")


class Work:
    """Evaluates targets on files, one engine at a time; a context manager that ends the grading processes.

    Args:
        files: of questions.
        settings: for all of them.
        device: cpu or cuda.

    Raises:
        UserError: a file cannot be read, or has ground truths that cannot be graded against.
    """

    def __init__(self, files: Sequence[Path], settings: Settings, device: str):
        self.files, self.settings, self.device = files, settings, device
        self._prepare_process()
        self._digests = {path: _checked(path) for path in files}
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
        evaluations = self._planned(target)
        with _engine_of(target, evaluations, self.device) as responder:
            found = []
            for evaluation in evaluations:
                scores = evaluation.finished()
                if scores is None:
                    total = evaluation.num_responses
                    with watched(f"{target.name}, {evaluation.labels['data']}", total) as told:
                        scores = evaluation.run(responder, self.pool, told)
                found.append((evaluation.folder, scores))
        return found

    def _planned(self, target: Target) -> list[Evaluation]:
        from recipes.archer.startup.inputs import load_tokenizer
        from recipes.archer.startup.stop_tokens import stop_tokens_of

        model = json.loads((target.folder / "config.json").read_text(encoding="utf-8"))
        context = context_length(model)
        tokenizer = load_tokenizer(str(target.folder))
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
            device=self.device,
        )
        labels = {"model": target.name, "step": target.step, "data": path.name}
        if target.step is None:
            del labels["step"]
        return Evaluation(plan, target.home / plan.folder_name(path.stem), questions, tokenizer, labels)

    def _sampling(self, max_tokens: int) -> Sampling:
        settings = self.settings
        return Sampling(settings.n, settings.temperature, settings.top_p, max_tokens, settings.seed)

    def _prepare_process(self) -> None:
        """What an engine finds in its environment; before torch and vLLM are imported."""
        from recipes.archer.session.ray_session import worker_environment

        config = OmegaConf.create({"trainer": {"device": self.device, "n_gpus_per_node": 1}})
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its warnings are of what is meant
        os.environ.update(worker_environment(config))
        if self.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""


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


def _ends(target: Target) -> DictConfig:
    """Where the run that a target is of lets a response end; the recipe's default of what is of none."""
    config = target.run.config if target.run is not None else {}
    section = OmegaConf.select(OmegaConf.create(config), "actor_rollout_ref.rollout")
    own = section if isinstance(section, DictConfig) else {}
    return OmegaConf.create(
        {"stop_at_turn_end": own.get("stop_at_turn_end", True), "stop_token_ids": own.get("stop_token_ids") or []}
    )


@contextmanager
def _engine_of(target: Target, evaluations: Sequence[Evaluation], device: str) -> Iterator[Any]:
    """A function that makes the target's engine when it is first called, and gives the same one afterwards."""
    with ExitStack() as stack:
        engines: list[Any] = []

        def engine() -> Any:
            if not engines:
                from recipes.archer.evaluation.engine import Engine

                length = max(_longest(e.questions) + e.plan.sampling.max_tokens for e in evaluations)
                folder = stack.enter_context(target.weights())
                try:
                    engines.append(Engine(folder, device, length))
                except ValueError as error:  # vLLM's word for a cache that is too small, and for settings it refuses
                    reason = str(error).splitlines()[0]
                    raise UserError(
                        f"{target.name}: the engine refuses ({reason!a:.300}); lower --max-tokens"
                    ) from None
                stack.callback(engines[0].close)
            return engines[0]

        yield engine


def _longest(questions: Sequence[Question]) -> int:
    return max(len(question.prompt_ids) for question in questions)
