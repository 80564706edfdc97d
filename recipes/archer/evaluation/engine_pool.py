"""Several engines, an actor of Ray's each: the questions are dealt as they are answered, and survive an engine."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from recipes.archer.ending import FAILED, UserError
from recipes.archer.evaluation.drawing import Drawn, EngineRefusedError, Request, refusal
from recipes.archer.evaluation.plan import Sampling
from recipes.archer.printable import complain

AT_ONCE = 512  # responses that an engine has: twice as many as vLLM draws together, so that none waits for another
CALLS = 2  # an engine has always the next one, and does not wait for an answer to be read
SLICE_S = 0.2  # of drawing between two answers
SILENCE_S = 600.0  # after which an engine is taken for dead
START_S = 1200.0  # until all engines have their weights

MakeEngine = Callable[[Path, str, int], Any]  # folder of the model, device, tokens of the longest sequence


class EngineFailedError(UserError):
    """No engine is left; the responses so far are kept."""

    exit_code = FAILED


class EngineWorker:
    """What runs in the actor: an engine, and what it is drawing."""

    def __init__(self) -> None:
        self.engine: Any = None

    def start(self, make: MakeEngine, folder: str, device: str, max_model_len: int) -> str | None:
        """Makes the engine; what is wrong where it cannot be made, in words."""
        if not (Path(folder) / "config.json").is_file():
            return (
                f"node {os.uname().nodename} does not see {folder}: with RAY_ADDRESS, models and results "
                "lie on a disk that all nodes share; name a folder there with --out"
            )
        try:
            self.engine = make(Path(folder), device, max_model_len)
        except ValueError as error:
            return refusal(error)
        return None

    def draw(self, requests: list[Request], sampling: Sampling, stop_token_ids: list[int]) -> list[Drawn]:
        """Takes up requests, and draws for a moment; the responses that ended in it."""
        self.engine.add(requests, sampling, stop_token_ids)
        until, ended = time.monotonic() + SLICE_S, []
        while self.engine.busy and time.monotonic() < until:
            ended += self.engine.step()
        return ended


@dataclass(eq=False)
class _Member:
    """An engine as the driver sees it."""

    number: int
    actor: Any
    drawing: dict[int, Request] = field(default_factory=dict)
    calls: deque[Any] = field(default_factory=deque)
    heard: float = 0.0


class EnginePool:
    """Engines of one model, all alike; :meth:`close` ends them.

    Args:
        make: makes an engine in its actor; has ``add``, ``busy`` and ``step`` as ``engine.Engine``.
        folder: of the model, on every node.
        device: cpu or cuda.
        max_model_len: tokens of the longest prompt and response together.
        num_engines: each on a GPU, or a core, of its own; Ray must have them free.
        cause: why an engine died, of the text of Ray's error.

    Raises:
        EngineRefusedError: the engine cannot be made.
        EngineFailedError: one died on its start, or all of them did.
    """

    def __init__(
        self,
        make: MakeEngine,
        folder: Path,
        device: str,
        max_model_len: int,
        num_engines: int,
        cause: Callable[[str], str],
    ):
        self._cause, self.num_engines = cause, num_engines
        needs = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
        worker: Any = ray.remote(EngineWorker)
        self._members = [_Member(number, worker.options(**needs).remote()) for number in range(1, num_engines + 1)]
        try:
            self._start(make, str(folder.absolute()), device, max_model_len)
        except BaseException:
            self.close()
            raise

    def respond(
        self, requests: Iterable[Request], sampling: Sampling, stop_token_ids: Iterable[int]
    ) -> Iterator[list[Drawn]]:
        """The responses as they come, whichever engine draws them; those of one that dies are drawn by the others.

        Raises:
            EngineFailedError: no engine is left.
        """
        waiting, stops = deque(requests), list(stop_token_ids)
        while waiting or any(member.drawing for member in self._members):
            self._deal(waiting, sampling, stops)
            member = self._next()
            try:
                ended = ray.get(member.calls[0], timeout=0)
            except ray.exceptions.RayError as error:  # GetTimeoutError: it is silent
                self._lose(member, error, waiting)
                continue
            member.calls.popleft()
            member.heard = time.monotonic()
            for drawn in ended:
                del member.drawing[drawn.number]
            if ended:
                yield ended

    def close(self) -> None:
        """Ends the engines, so that others can be made."""
        for member in self._members:
            ray.kill(member.actor)
        self._members = []

    def _start(self, make: MakeEngine, folder: str, device: str, max_model_len: int) -> None:
        started = {m.actor.start.remote(make, folder, device, max_model_len): m for m in self._members}
        ready, late = ray.wait(list(started), num_returns=len(started), timeout=START_S)
        if late:
            raise EngineFailedError(f"engine {started[late[0]].number} of {self.num_engines} did not start in time")
        for answer in ready:
            try:
                refusal = ray.get(answer)
            except ray.exceptions.RayError as error:
                raise EngineFailedError(f"{self._death(started[answer], error)}, while it started") from None
            if refusal is not None:
                raise EngineRefusedError(refusal)

    def _deal(self, waiting: deque[Request], sampling: Sampling, stops: Sequence[int]) -> None:
        """Gives each engine its share of what is not answered, and a next call where it has none."""
        left = len(waiting) + sum(len(member.drawing) for member in self._members)
        share = min(AT_ONCE, -(-left // max(1, len(self._members))))
        for member in self._members:
            # neighbours are of one question, whose prompt an engine reads once
            taken = [waiting.popleft() for _ in range(min(len(waiting), share - len(member.drawing)))]
            member.drawing |= {request.number: request for request in taken}
            if not member.calls:
                member.heard = time.monotonic()
            while member.drawing and (taken or len(member.calls) < CALLS):
                member.calls.append(member.actor.draw.remote(taken, sampling, stops))
                taken = []

    def _next(self) -> _Member:
        """The member whose first call has an answer; that which has been silent for too long where none has."""
        asked = {member.calls[0]: member for member in self._members if member.calls}
        if not asked:
            raise EngineFailedError("no engine is left; the responses so far are kept, the same command goes on")
        silent = min(asked.values(), key=lambda member: member.heard)
        answered = ray.wait(list(asked), timeout=max(0.0, silent.heard + SILENCE_S - time.monotonic()))[0]
        return asked[answered[0]] if answered else silent

    def _lose(self, member: _Member, error: Exception, waiting: deque[Request]) -> None:
        """Goes on without an engine; what it was drawing is drawn by another."""
        ray.kill(member.actor)
        self._members.remove(member)
        waiting.extendleft(reversed(member.drawing.values()))
        told = self._death(member, error)
        if not self._members:
            raise EngineFailedError(f"{told}, and it was the last; the responses so far are kept, the same command "
                                    "goes on")  # fmt: skip
        complain(f"warning: {told}; its {len(member.drawing)} questions go to the others")

    def _death(self, member: _Member, error: Exception) -> str:
        name = f"engine {member.number} of {self.num_engines}"
        if isinstance(error, ray.exceptions.GetTimeoutError):
            return f"{name} has not answered for {SILENCE_S:g} s"
        if isinstance(error, ray.exceptions.RayTaskError):
            last = (str(error.cause or error).strip().splitlines() or [""])[-1]
            return f"{name} failed ({type(error.cause).__name__}: {last!a:.300})"
        return f"{name} died: {self._cause(str(error))}"
