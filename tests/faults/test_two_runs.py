"""Two runs on one machine at the same time: they do not meet, and one folder is one run's."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from launching import lasting, left_behind

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]


def _without_validation(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith("val/")} for row in lasting(rows)]


def test_two_at_once_and_a_third_in_the_folder_of_the_first(short_run, straight):
    """The third comes while the first starts its workers."""
    thirds = []

    def start_third(_):
        thirds.append(short_run("one-of-two", "trainer.total_training_steps=9"))

    with ThreadPoolExecutor(2) as pool:
        two_steps = ("trainer.total_training_steps=2", "trainer.test_freq=-1")
        conditions = {"until": lambda folder: (folder / "setup.log").exists(), "then": start_third}
        first = pool.submit(short_run, "one-of-two", *two_steps, **conditions)
        second = pool.submit(short_run, "other-of-two", *two_steps)
        runs = [first.result(), second.result()]
    for run in runs:
        assert run.code == 0, run.output[-3000:]
        assert _without_validation(run.rows) == _without_validation(straight.rows)[:2]
    (third,) = thirds
    assert third.code == 24
    assert f"error: another run is using {third.folder}; wait for it, or set trainer.experiment_name" in third.output
    assert left_behind() == []
