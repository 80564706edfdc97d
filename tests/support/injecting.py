"""Plans of faults for whole runs: what happens where; ``injection/sitecustomize.py`` carries them out."""

import json
import os
import random
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from launching import ROOT

HOOK = ROOT / "tests" / "support" / "injection"
NO_SECONDS = struct.pack("d", 0.0)


@dataclass(frozen=True)
class Point:
    """One fault.

    Attributes:
        place: ``module:function`` or ``module:Class.method``.
        call: at which call of it, counted in its process from when this point is the next one.
        fault: a name of ``FAULTS`` in the hook.
        fraction: for signals, after which share of the time that the place took the last time.
        file: for the faults of the disk.
        seconds: for the clock, how far it is off from then on.
    """

    place: str
    call: int = 1
    fault: str = "kill"
    fraction: float = 0.5
    file: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return self.place.rpartition(":")[2]


class Plan:
    """Points that are carried out one after the other.

    Args:
        folder: for the plan and its traces.
        seconds: folder that holds how long places took, shared between runs.
        watched: places that are only measured.
        clock: whether some point moves the clock.
    """

    def __init__(self, folder: Path, seconds: Path, points: Sequence[Point], watched=(), clock: bool = False):
        self.folder, self.points = folder, list(points)
        folder.mkdir(parents=True)
        seconds.mkdir(exist_ok=True)
        described = {"points": [asdict(point) for point in points], "seconds": str(seconds)}
        (folder / "plan.json").write_text(json.dumps(described | {"watched": list(watched), "clock": clock}))
        (folder / "clock").write_bytes(NO_SECONDS)

    def environment(self) -> dict[str, str]:
        """What a run needs in its environment."""
        paths = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"INJECT": str(self.folder), "PYTHONPATH": os.pathsep.join(paths)}

    @property
    def num_fired(self) -> int:
        """Points that have begun."""
        return len(list(self.folder.glob("fired_*")))


def random_points(seed: int, *places: tuple[str, int, int]) -> list[Point]:
    """A kill for each (place, first call, last call), at a random one of these calls and a random moment of it."""
    draw = random.Random(seed)
    return [Point(place, call=draw.randint(first, last), fraction=draw.random()) for place, first, last in places]
