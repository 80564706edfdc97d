"""Names of a run folder's files, for who writes them and for who reads them."""

import re

METRICS, CONFIG, RUN = "metrics.jsonl", "config.yaml", "run.json"
SAMPLES, SAMPLE_FILE = "samples", re.compile(r"step_(0|[1-9][0-9]*)\.jsonl")  # the folder, and the names in it
BRANCHES = "branches"  # what a run went back behind and does not return to: a folder for each time
LOCK, CHECKPOINT = ".lock", "global_step_"  # the latter with the step behind it
STEP_KEYS = ("step", "training/global_step", "_step")  # a row's step: ours, verl's, W&B's; the first of them counts


_COURSE = re.compile(r"-course-[1-9]\d*$")


def of_course(name: str, course: int) -> str:
    """What a tracker calls a run after it has gone back ``course`` times; before that, the run's own name."""
    return f"{name}-course-{course}" if course else name


def without_course(name: str) -> str:
    """The run that :func:`of_course` was given."""
    return _COURSE.sub("", name)
