"""Whether its workers are forked or started by Ray is nothing that a run's results depend on."""

import os
import signal

import psutil
import pytest

from comparing import assert_nothing_stays_behind, assert_same_end
from injecting import Point
from launching import SERVER, steps_logged, workers_of

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]


def _servers_of(driver: int) -> list[int]:
    return [child.pid for child in psutil.Process(driver).children() if SERVER in "".join(child.cmdline())]


def test_workers_that_ray_starts_do_what_forked_ones_do(short_run, planned, straight):
    seen = []
    run = short_run(
        "not-forked",
        plan=planned("not-forked", [Point("recipes.archer.session.fork_server:can_fork", fault="load_ray")]),
        until=lambda folder: steps_logged(folder) >= 1,
        then=lambda driver: seen.append((_servers_of(driver), len(workers_of(driver)))),
    )
    assert seen == [([], 1)]
    assert_same_end(run, straight)
    assert_nothing_stays_behind()


def test_where_the_server_has_died_ray_starts_the_next_worker(short_run, straight):
    def kill_both(driver):
        (server,), (worker,) = _servers_of(driver), workers_of(driver)
        for process in (server, worker):
            os.kill(process, signal.SIGKILL)

    run = short_run("server-killed", until=lambda folder: steps_logged(folder) >= 3, then=kill_both)
    assert len(run.run["restarts"]) == 1, run.output[-3000:]
    assert_same_end(run, straight)
    assert_nothing_stays_behind()
