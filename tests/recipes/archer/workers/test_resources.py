"""The machines of a cluster: which have something to give, and the wait for those that have not come yet."""

from types import SimpleNamespace

import pytest

from recipes.archer.workers import resources as module
from recipes.archer.workers.deadlines import WorkerHungError
from recipes.archer.workers.resources import HostResourcePoolManager, free_machines, wait_for_machines

FIRST = {"CPU": 2.0, "GPU": 4.0, "node:10.0.0.1": 1.0, "node:__internal_head__": 1.0, "memory": 1e9}
SECOND = {"node:10.0.0.2": 0.999, "CPU": 1.0, "GPU": 3.0}


@pytest.fixture
def cluster(monkeypatch):
    """What Ray's nodes have free, a list for each time it is asked; a second passes between two."""
    seen: list[list[dict]] = []
    clock = [0.0]

    def asked():
        now = seen.pop(0) if len(seen) > 1 else seen[0]
        return {f"id{number}": node for number, node in enumerate(now)}

    monkeypatch.setattr(module.ray._private.state, "available_resources_per_node", asked)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    return seen


@pytest.mark.parametrize(
    ("resource", "number", "names"),
    [
        ("CPU", 1, ["node:10.0.0.1", "node:10.0.0.2"]),
        ("CPU", 2, ["node:10.0.0.1"]),
        ("GPU", 4, ["node:10.0.0.1"]),
        ("GPU", 5, []),
        ("TPU", 1, []),
    ],
)
def test_machines_with_something_to_give(cluster, resource, number, names):
    cluster.append([SECOND, FIRST])
    assert free_machines(resource, number) == names


def test_a_machine_that_comes_back_is_waited_for_and_said_to_be_missing_once(cluster, capsys):
    cluster.extend([[FIRST]] * 60 + [[FIRST, SECOND]])
    assert wait_for_machines("GPU", [3, 3], lambda: (100.0, "a setting")) == ["node:10.0.0.1", "node:10.0.0.2"]
    assert len(cluster) == 1
    line = "waiting for machines: there are 1 of 2 machines with 3 free GPUs in the Ray cluster\n"
    assert capsys.readouterr().err == line


def test_what_an_earlier_session_held_is_not_worth_a_word(cluster, capsys):
    cluster.extend([[FIRST]] * 5 + [[FIRST, SECOND]])
    wait_for_machines("GPU", [3, 3], lambda: (100.0, "a setting"))
    assert capsys.readouterr().err == ""


def test_one_that_does_not_come_is_a_fault_that_names_the_setting(cluster):
    cluster.append([FIRST])
    said = "^hung in set-up: 1 of 2 machines with 1 free CPU within trainer.deadlines_s.set_up=30$"
    with pytest.raises(WorkerHungError, match=said):
        wait_for_machines("CPU", [1, 1], lambda: (30.0, "trainer.deadlines_s.set_up=30"))


@pytest.fixture
def placed(monkeypatch):
    """The groups of workers that Ray is asked for, and how many of them it gives."""
    asked, given = [], [99]

    def group(bundles, strategy):
        asked.append((bundles, strategy))
        number = len(asked)
        return SimpleNamespace(wait=lambda seconds: number <= given[0] or module.time.sleep(seconds))

    monkeypatch.setattr(module, "placement_group", group)
    return asked, given


def _pool(trainer: dict, seconds: float = float("inf")):
    settings = SimpleNamespace(**trainer)
    manager = HostResourcePoolManager.for_roles(["actor"], settings, lambda: (seconds, "a setting"))
    manager.create_resource_pool()
    return manager.get_resource_pool("actor")


@pytest.mark.parametrize(("device", "worker"), [("cpu", {"CPU": 1}), ("cuda", {"CPU": 1, "GPU": 1})])
def test_each_group_of_workers_has_a_machine_of_its_own(cluster, placed, device, worker):
    cluster.append([FIRST, SECOND | {"CPU": 2.0}])
    pool = _pool({"device": device, "n_gpus_per_node": 2, "nnodes": 2})
    assert len(pool.get_placement_groups()) == 2
    pinned = [worker | {f"node:10.0.0.{number}": module.A_LITTLE} for number in (1, 2)]
    assert placed[0] == [([bundle] * 2, "STRICT_PACK") for bundle in pinned]
    pool.get_placement_groups()  # of the next role: the same
    assert len(placed[0]) == 2


def test_machines_that_ray_does_not_give_are_a_fault(cluster, placed):
    """One that went down a moment ago still counts as free."""
    cluster.append([FIRST, SECOND])
    placed[1][0] = 1
    with pytest.raises(WorkerHungError, match="^hung in set-up: Ray has not given the run its machines within a sett"):
        _pool({"device": "cpu", "n_gpus_per_node": 1, "nnodes": 2}, seconds=0.0).get_placement_groups()
