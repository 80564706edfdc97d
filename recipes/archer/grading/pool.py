"""The processes that grade: requests in, replies out, whatever a request does to its process.

Knows nothing of mathematics. Each worker is a keeper process (`worker.py`) and a thread of this
process that only reads and writes its pipes; deadlines are the keeper's, so a busy parent cannot make
them late. A keeper that does not hold them (it was stopped, say) is killed after a multiple of them.
"""

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from recipes.archer.grading import frames
from recipes.archer.grading.worker import START_TIMEOUT_S, STARVED_TIMES

_ROOT = Path(__file__).resolve().parents[3]
_MAX_FAILED_STARTS = 3
_MARGIN_S = 60.0  # beyond what a keeper allows a check and the start of a checker, as a busy machine may take
_WATCH_S = 0.5  # between two looks at who is late
_CRASHED: dict[str, Any] = {"outcome": "timeout", "note": "the grading process died"}

Callback = Callable[[dict[str, Any] | BaseException], None]


class Budget:
    """The worker time that a batch's checks may take in all.

    Args:
        seconds: of worker time; what is asked after them gets no check.
        when_spent: called once, with no argument, when the first check is not made.
    """

    def __init__(self, seconds: float, when_spent: Callable[[], None]):
        self.seconds, self._left, self._lock = seconds, seconds, threading.Lock()
        self._tell: Callable[[], None] | None = when_spent

    def spend(self, seconds: float) -> None:
        with self._lock:
            self._left -= seconds

    def refusal(self) -> dict[str, Any] | None:
        """The reply to a request that comes when nothing is left."""
        with self._lock:
            if self._left > 0:
                return None
            tell, self._tell = self._tell, None
        if tell is not None:
            tell()
        return {"outcome": "timeout", "note": f"not checked: the {self.seconds:g} s of its batch were spent"}


class GradingError(RuntimeError):
    """The grading processes cannot work at all, or the pool is closed."""


class _Keeper:
    """One keeper process, started but not waited for."""

    def __init__(self, config: dict[str, Any]):
        self.patience_s = START_TIMEOUT_S + STARVED_TIMES * config["timeout_s"] + _MARGIN_S
        self._deadline = math.inf
        arguments = json.dumps({**config, "parent_pid": os.getpid()})
        paths = [str(_ROOT), *(path or os.getcwd() for path in sys.path)]
        # A fixed hash seed: SymPy's order of terms, and with it a verdict, must not change with the process.
        environment = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "recipes.archer.grading.worker", arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then closes the pool
        )
        assert self.process.stdin is not None and self.process.stdout is not None  # they are pipes
        self._requests, self._replies = self.process.stdin, self.process.stdout

    def wait_until_ready(self) -> None:
        with self._in_time():
            greeting = json.loads(frames.read(self._replies))
        if "fatal" in greeting:
            raise GradingError(f"a grading process cannot start: {greeting['fatal']}")

    def ask(self, body: bytes) -> dict[str, Any]:
        with self._in_time():
            frames.write(self._requests, body)
            reply: dict[str, Any] = json.loads(frames.read(self._replies))
        return reply

    def kill_if_late(self) -> None:
        """To whoever waits for a reply it is then disconnected."""
        if time.monotonic() > self._deadline:
            self.process.kill()

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        self._deadline = time.monotonic() + self.patience_s
        try:
            yield
        finally:
            self._deadline = math.inf

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Workers:
    """`num_workers` grading processes behind one queue.

    Args:
        num_workers: processes, at least 1.
        config: what every one of them is told: timeout_s, memory_mb, functions, judge.

    Raises:
        ValueError: for fewer than one worker or a timeout that is not positive.
    """

    def __init__(self, num_workers: int, config: dict[str, Any]):
        if num_workers < 1:
            raise ValueError(f"workers is {num_workers}: use at least 1")
        if not config["timeout_s"] > 0:
            raise ValueError(f"timeout_s is {config['timeout_s']}: use a number of seconds above 0")
        self._config, self._owner = config, os.getpid()
        self._requests: queue.SimpleQueue[tuple[bytes, Callback, Budget | None] | None] = queue.SimpleQueue()
        self._keepers: dict[int, _Keeper] = {}
        self._lock = threading.Lock()
        self._failure: GradingError | None = None
        self._ready, self._over = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"grading-{number}", daemon=True)
            for number in range(num_workers)
        ]
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._watch, name="grading-watch", daemon=True).start()

    def submit(self, message: dict[str, Any], callback: Callback, budget: Budget | None = None) -> None:
        """Queues a request; `callback` gets its reply, or the error that ended the pool, in some thread.

        What it takes is spent from `budget`; with nothing left there, the reply says so and nothing is asked.

        Raises:
            GradingError: when the pool is closed, has failed, or belongs to the process this one was
                forked from.
        """
        self.check_usable()
        body = frames.encode(message)
        with self._lock:
            if self._failure is not None:  # closed meanwhile: nobody would answer
                raise self._failure
            self._requests.put((body, callback, budget))

    def check_usable(self) -> None:
        """Raises where nothing can be graded any more.

        Raises:
            GradingError: as :meth:`submit`.
        """
        if os.getpid() != self._owner:
            raise GradingError("this grading pool was made before a fork: make one in each process")
        if self._failure is not None:
            raise self._failure

    def ask_all(self, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The replies to `messages`, in order. Raises `GradingError` as `submit` does."""
        replies: queue.SimpleQueue[tuple[int, dict[str, Any] | BaseException]] = queue.SimpleQueue()

        def taker(number: int) -> Callback:
            return lambda reply: replies.put((number, reply))

        for number, message in enumerate(messages):
            self.submit(message, taker(number))
        received: dict[int, dict[str, Any]] = {}
        for number, reply in [replies.get() for _ in messages]:
            if isinstance(reply, BaseException):
                raise reply
            received[number] = reply
        return [received[number] for number in range(len(messages))]

    def wait_until_ready(self) -> None:
        """Returns once a worker is ready. Raises `GradingError` when none can start."""
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def close(self, failure: GradingError | None = None) -> None:
        """Kills the processes; requests without a reply get a `GradingError`. Harmless when repeated."""
        if os.getpid() != self._owner:
            return  # a fork of the owner: neither the threads nor the processes are its own
        with self._lock:
            if self._failure is not None:
                return
            failure = self._failure = failure or GradingError("the grading pool is closed")
            keepers = list(self._keepers.values())
        self._ready.set()
        self._over.set()
        for keeper in keepers:
            keeper.process.kill()
        self._answer_all_with(failure)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _answer_all_with(self, failure: GradingError) -> None:
        with contextlib.suppress(queue.Empty):
            while (item := self._requests.get_nowait()) is not None:
                _, callback, _ = item
                callback(failure)
        for _ in self._threads:
            self._requests.put(None)  # nothing is queued after a failure, so these are the last

    def _start(self, number: int) -> _Keeper:
        """A keeper that is ready.

        Started in the thread that serves it: Linux ties a child's life to the thread that made it.
        """
        for _ in range(_MAX_FAILED_STARTS):
            with self._lock:  # so that `close` sees every keeper or prevents it
                if self._failure is not None:
                    raise self._failure
                keeper = self._keepers[number] = _Keeper(self._config)
            try:
                keeper.wait_until_ready()
            except frames.Disconnected:
                keeper.kill()
            else:
                self._ready.set()
                return keeper
        raise self._failure or GradingError(
            f"a grading process died {_MAX_FAILED_STARTS} times while starting: its own words are on stderr; "
            f"memory_mb={self._config['memory_mb']} may be too small"
        )

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_S):
            with self._lock:
                keepers = list(self._keepers.values())
            for keeper in keepers:
                keeper.kill_if_late()

    def _asked(self, number: int, keeper: _Keeper, body: bytes) -> tuple[_Keeper, dict[str, Any]]:
        """The reply, and the keeper to ask next.

        A keeper that died on a request was killed from outside, since it reads none itself: another is asked, once.
        """
        for _ in range(2):
            try:
                return keeper, keeper.ask(body)
            except frames.Disconnected:
                keeper.kill()
                keeper = self._start(number)
        return keeper, dict(_CRASHED)

    def _work(self, number: int) -> None:
        try:
            keeper = self._start(number)
            while (item := self._requests.get()) is not None:
                body, callback, budget = item
                if budget is not None and (refusal := budget.refusal()) is not None:
                    callback(refusal)
                    continue
                if keeper.process.poll() is not None:  # killed from outside between two requests
                    keeper = self._start(number)
                start = time.monotonic()
                try:
                    keeper, reply = self._asked(number, keeper, body)
                except GradingError as error:
                    callback(error)
                    raise
                if budget is not None:
                    budget.spend(time.monotonic() - start)
                callback(reply)
        except GradingError as error:
            self.close(error)
        except Exception as error:  # whoever waits for a result must hear of it, then it is raised here
            self.close(GradingError(f"the grading pool failed: {error!r}"))
            raise
        finally:
            if number in self._keepers:
                self._keepers[number].kill()
