"""Faults at named places of a run; every Python process that finds this folder on PYTHONPATH loads this file.

INJECT names a folder with plan.json:
    points: what happens, one after the other, across processes and starts; ``injecting.Point`` says what each holds
    seconds: folder in which every process notes how long a place took, one file a place
    clock: whether ``time.time`` is that of the file "clock" in the folder: a number of seconds off, 0 at first

A point that has begun leaves the file fired_<number>, with the process.
"""

import functools
import importlib
import importlib.machinery
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

UNKNOWN_S = 0.05  # how long a place is thought to take that was never seen to end
SECONDS_TO_DIE = 60


class Injection:
    """What the plan holds for this process."""

    def __init__(self, folder: Path):
        plan = json.loads((folder / "plan.json").read_text())
        self.folder, self.points, self.seconds = folder, plan["points"], Path(plan["seconds"])
        self.clock = _moved_clock(folder / "clock") if plan["clock"] else None
        self.counted, self.calls = None, 0
        self.places: dict[str, list[str]] = {}
        for place in {*plan["watched"], *(point["place"] for point in self.points)}:
            module, _, path = place.partition(":")
            self.places.setdefault(module, []).append(path)

    def current(self) -> int:
        """The point that comes next; as many as there are when all have begun."""
        return sum((self.folder / f"fired_{number}").exists() for number in range(len(self.points)))

    def wrap(self, place: str, function):
        """``function``, with what the plan has for its place."""

        @functools.wraps(function)
        def called(*args, **kwargs):
            point = self._begun(place)
            if point is None:
                start = time.perf_counter()
                result = function(*args, **kwargs)
                (self.seconds / place).write_text(repr(time.perf_counter() - start))
                return result
            FAULTS[point["fault"]](self, point, args)
            try:
                return function(*args, **kwargs)
            finally:
                if point["fault"] == "kill":
                    time.sleep(SECONDS_TO_DIE)  # it died inside the place or not at all

        return called

    def _begun(self, place: str) -> dict | None:
        """The point that begins with this call, None when none does."""
        number = self.current()
        if number == len(self.points) or self.points[number]["place"] != place:
            return None
        if self.counted != number:
            self.counted, self.calls = number, 0
        self.calls += 1
        if self.calls < self.points[number]["call"]:
            return None
        try:
            with open(self.folder / f"fired_{number}", "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:  # another worker was first
            return None
        return self.points[number]

    def usual_seconds(self, place: str) -> float:
        """How long the place took the last time."""
        try:
            return float((self.seconds / place).read_text())
        except (OSError, ValueError):
            return UNKNOWN_S


def _signal_later(injection: Injection, point: dict, number: int) -> None:
    """From outside, so that nothing in this process delays it."""
    seconds = point["fraction"] * injection.usual_seconds(point["place"])
    command = ["sh", "-c", f"sleep {seconds:.4f}; kill -{int(number)} {os.getpid()}"]
    subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def _kill(injection: Injection, point: dict, args) -> None:
    _signal_later(injection, point, signal.SIGKILL)


def _term(injection: Injection, point: dict, args) -> None:
    _signal_later(injection, point, signal.SIGTERM)


def _stop(injection: Injection, point: dict, args) -> None:
    """Stands still inside the place until it is killed: no thread of this process goes on."""
    os.kill(os.getpid(), signal.SIGSTOP)


def _mark(injection: Injection, point: dict, args) -> None:
    """Nothing: whoever waits for the trace of this point does what there is to do, from outside."""


def _nan(injection: Injection, point: dict, args) -> None:
    """One number of one gradient; the place is a method of the actor."""
    parameter = next(p for p in args[0].actor_module.parameters() if p.grad is not None)
    gradient = getattr(parameter.grad, "_local_tensor", parameter.grad)
    gradient.view(-1)[0] = float("nan")


def _fill(injection: Injection, point: dict, args) -> None:
    """Leaves no byte on the disk that the point's file is on."""
    with open(point["file"], "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def _empty(injection: Injection, point: dict, args) -> None:
    os.unlink(point["file"])


def _clock(injection: Injection, point: dict, args) -> None:
    struct.pack_into("d", injection.clock, 0, point["seconds"])


def _load_ray(injection: Injection, point: dict, args) -> None:
    """Before what forks workers could say how: they are not forked then."""
    importlib.import_module("ray")


def _kill_graders(injection: Injection, point: dict, args) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"recipes.archer.grading.worker" in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:  # gone by now
            continue


FAULTS = {
    "kill": _kill,
    "term": _term,
    "stop": _stop,
    "mark": _mark,
    "nan": _nan,
    "fill": _fill,
    "empty": _empty,
    "clock": _clock,
    "kill_graders": _kill_graders,
    "load_ray": _load_ray,
}


def _moved_clock(file: Path) -> mmap.mmap:
    """Puts a clock that is off by what the file says in the place of this process's."""
    with open(file, "r+b") as stream:
        offset = mmap.mmap(stream.fileno(), 8)
    true_time = time.time
    time.time = lambda: true_time() + struct.unpack_from("d", offset)[0]
    return offset


class _Finder:
    """Wraps the places of a module as soon as it is loaded."""

    def __init__(self, injection: Injection):
        self.injection = injection

    def find_spec(self, name, path=None, target=None):
        if name not in self.injection.places:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_and_wrap(module):
            load(module)
            for inside in self.injection.places[name]:
                owner_path, _, attribute = inside.rpartition(".")
                owner = getattr(module, owner_path) if owner_path else module
                setattr(owner, attribute, self.injection.wrap(f"{name}:{inside}", getattr(owner, attribute)))

        spec.loader.exec_module = load_and_wrap
        return spec


if "INJECT" in os.environ:
    sys.meta_path.insert(0, _Finder(Injection(Path(os.environ["INJECT"]))))
