"""A grading process: `python -P -m recipes.archer.grading.worker CONFIG`, started by `pool.py`.

Two processes, so that a killed check costs milliseconds instead of SymPy's import: the keeper loads
the judge once, reads requests and watches the clock, and never parses anything itself; the checker, forked
from it, does the checks and is killed and forked again when one overruns its limits. The keeper has one
thread, so the fork is safe; a user's functions are loaded in the checker, as they may start threads.
"""

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from recipes.archer.grading import frames, sandbox

_MEMORY_EXIT = 77  # how a checker says that its memory limit stopped it
START_TIMEOUT_S = 300.0  # a user's reward function may import a lot
# A checker is forked anew after so many checks: what the libraries cache would grow for the whole run.
_CHECKS_PER_CHECKER = 500
_STARVED_SHARE = 0.25  # of its timeout as processor time: less, and a check was starved
STARVED_TIMES = 3


def load_function(spec: str | Sequence[str]) -> Callable[..., Any]:
    """The function that `package.module:function` or `[path of a file, name]` names.

    Raises:
        ImportError, AttributeError, OSError: when there is no such module, function or file.
    """
    if isinstance(spec, str):
        module_name, _, name = spec.partition(":")
        return _attribute(importlib.import_module(module_name), name)
    path, name = spec
    module_spec = importlib.util.spec_from_file_location(f"score_fn_{Path(path).stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    module_spec.loader.exec_module(module)
    return _attribute(module, name)


def _attribute(module: ModuleType, name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(module, name)
    return function


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> bytes:
    """A user's reward function on one row; what it raises is the row's, not the batch's."""
    try:
        return frames.encode({"value": function(**arguments)})
    except MemoryError:
        raise
    except Exception as error:  # the function is the user's and its input a model's
        return frames.encode({"error": f"{type(error).__name__}: {error}"})


def _judge(request: dict[str, Any]) -> dict[str, Any]:
    from recipes.archer.grading import judge  # loaded by the keeper, where there is anything to judge

    try:
        if "answer" in request:
            return judge.judge(request["answer"], request["forms"], request.get("restated", False))
        return {"reasons": [judge.unreadable(form) for form in request["forms"]]}
    except MemoryError:
        raise
    except Exception as error:  # a model's answer can make SymPy raise anything
        return {"outcome": "unparseable", "note": f"{type(error).__name__} in the judge"}


def _answer_to(request: dict[str, Any], functions: dict[str, Callable[..., Any]]) -> bytes:
    if "function" in request:
        return _call(functions[request["function"]], request["arguments"])
    return frames.encode(_judge(request))


def _load(config: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    sandbox.limit_resources(config["memory_mb"])
    functions = {name: load_function(spec) for name, spec in config["functions"].items()}
    if not functions:  # a user's function may need files or a network
        sandbox.deny_side_effects()
    return functions


def _serve(config: dict[str, Any], incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """The checker's loop; ends with `Disconnected` when the keeper has closed its end."""
    try:
        functions = _load(config)
    except Exception as error:  # told to the pool, which raises it where the results are asked for
        frames.write(outgoing, frames.encode({"fatal": f"{type(error).__name__}: {error}"}))
        return
    frames.write(outgoing, frames.encode({"ready": True}))
    while True:
        frames.write(outgoing, _answer_to(json.loads(frames.read(incoming)), functions))


def _run_checker(config: dict[str, Any], keeper_pid: int, requests: int, replies: int) -> None:
    """The forked process, from its first line to its exit."""
    status = 1
    try:
        os.setpgid(0, 0)  # so that what a user's function starts can be killed with it
        sandbox.die_with_parent(keeper_pid)
        os.dup2(os.open(os.devnull, os.O_RDONLY), config["input"])
        os.dup2(2, config["output"])  # the keeper's line to the pool is not the checker's
        _serve(config, os.fdopen(requests, "rb"), os.fdopen(replies, "wb"))
    except frames.Disconnected:
        status = 0
    except MemoryError:
        os._exit(_MEMORY_EXIT)
    finally:
        os._exit(status)


def _cpu_seconds(pid: int) -> float:
    """Processor time of another process, from the clock that Linux keeps for it (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


class Checker:
    """The keeper's handle on one checker."""

    def __init__(self, config: dict[str, Any]):
        self.config, self.num_checks = config, 0
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        keeper_pid = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._requests)
            os.close(self._replies)
            _run_checker(config, keeper_pid, requests, replies)
        os.close(requests)
        os.close(replies)
        self._stream = os.fdopen(self._requests, "wb")
        end = time.monotonic() + START_TIMEOUT_S
        self.greeting = self._receive(lambda: end - time.monotonic())

    def _receive(self, time_left: Callable[[], float]) -> bytes:
        return frames.read_in_time(self._replies, time_left, self.config["input"])

    def _clock(self) -> Callable[[], float]:
        """The seconds left to a check that starts now.

        The judge only computes. A check that got little of the processor by its deadline was not slow
        but starved, by a training step that uses every core, say: it gets up to three times as long. A
        user's function may wait for something, and gets its timeout.
        """
        timeout_s: float = self.config["timeout_s"]
        start, pid = time.monotonic(), self.pid
        cpu_at_start = _cpu_seconds(pid)

        def time_left() -> float:
            waited = time.monotonic() - start
            if waited < timeout_s or self.config["functions"] or waited > STARVED_TIMES * timeout_s:
                return timeout_s - waited
            starved = _cpu_seconds(pid) - cpu_at_start < _STARVED_SHARE * timeout_s
            return _STARVED_SHARE * timeout_s if starved else 0.0

        return time_left

    def is_spent(self) -> bool:
        """Whether the next request needs a new checker: this one was killed, died idle, or did its share."""
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        return self.pid == 0 or self.num_checks >= _CHECKS_PER_CHECKER

    def ask(self, body: bytes) -> bytes:
        """The reply to one request; a row whose check had to be killed gets one that says why."""
        self.num_checks += 1
        try:
            clock = self._clock()
            frames.write(self._stream, body)
            return self._receive(clock)
        except frames.DeadlinePassed:
            self._reap()
            note = f"no verdict within {self.config['timeout_s']:g} s"
        except frames.Disconnected:
            status = self._reap()
            memory = f"needs more than {self.config['memory_mb']} MiB"
            note = memory if status == _MEMORY_EXIT else f"the check crashed ({status})"
        return frames.encode({"outcome": "timeout", "note": note})

    def _reap(self) -> int:
        """Kills the checker and whatever a user's function started from it; the exit status."""
        os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        if self.pid:
            self._reap()
        with contextlib.suppress(OSError):  # a request that nobody read is still in the buffer
            self._stream.close()
        os.close(self._replies)


def _keep(config: dict[str, Any], incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """The keeper's loop: one request, one reply, in order."""
    checker = Checker(config)
    frames.write(outgoing, checker.greeting)
    while True:
        body = frames.read(incoming)
        if checker.is_spent():
            checker.close()
            checker = Checker(config)
        frames.write(outgoing, checker.ask(body))


def main() -> None:
    """Entry point; `CONFIG` is JSON: parent_pid, timeout_s, memory_mb, functions, judge."""
    config = json.loads(sys.argv[1])
    sandbox.die_with_parent(config["parent_pid"])
    # What a library or a user's function prints must not land between the messages.
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    config |= {"input": incoming.fileno(), "output": outgoing.fileno()}
    if config["judge"]:
        from recipes.archer.grading import judge

        judge.warm_up()
    gc.freeze()  # the checkers share these pages
    try:
        _keep(config, incoming, outgoing)
    except (frames.Disconnected, BrokenPipeError):
        sys.exit(0)  # the pool is closed, or gone


if __name__ == "__main__":
    main()
