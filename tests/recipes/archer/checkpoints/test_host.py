"""A rank's own state: generators and schedule round-trip to the bit, and a file can hold nothing else."""

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from recipes.archer.checkpoints.host import HostState


def _scheduler():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 3))


def _draws() -> list:
    """What each generator gives next, by every way in which it keeps a number for later."""
    drawn = [torch.rand(3).tolist(), torch.randn(17).tolist(), np.random.rand(3).tolist(), random.random()]
    return [*drawn, np.random.normal(), random.gauss(), random.getrandbits(100), int(np.random.randint(1 << 60))]


@pytest.fixture
def written(tmp_path):
    torch.manual_seed(3), np.random.seed(4), random.seed(5)
    scheduler = _scheduler()
    for _ in range(7):
        scheduler.optimizer.step()
        scheduler.step()
    np.random.normal(), random.gauss()  # each draws two and keeps one
    HostState.of_this_process(scheduler).write(tmp_path, 2)
    return tmp_path, scheduler


def test_every_generator_goes_on_as_it_would_have(written):
    folder, scheduler = written
    expected = _draws()
    torch.manual_seed(30), np.random.seed(40), random.seed(50)
    assert _draws() != expected
    state, fresh = HostState.read(folder, 2), _scheduler()
    state.set_generators()
    assert _draws() == expected
    state.set_schedule(fresh)
    assert fresh.state_dict() == scheduler.state_dict() and fresh.last_epoch == 7
    assert fresh.get_last_lr() == scheduler.get_last_lr()


def test_what_is_read_is_what_was_written(written):
    folder, scheduler = written
    (folder / "again").mkdir()
    HostState.read(folder, 2).write(folder / "again", 2)
    names = ("host_2.json", "host_2.safetensors")
    assert [(folder / "again" / name).read_bytes() for name in names] == [(folder / n).read_bytes() for n in names]
    assert sorted(p.name for p in (folder / "again").iterdir()) == sorted(names)


def test_a_schedule_that_is_no_json_is_an_error_at_the_first_save(tmp_path):
    scheduler = _scheduler()
    scheduler.state_dict = lambda: {"lambda": object()}
    with pytest.raises(TypeError):
        HostState.of_this_process(scheduler).write(tmp_path, 0)


def test_what_format_1_had_is_the_same_state(tmp_path):
    """Read only where trainer.trust_old_checkpoints says so: it is a pickle."""
    torch.manual_seed(3), np.random.seed(4), random.seed(5)
    np.random.normal(), random.gauss()
    scheduler = _scheduler()
    state = {
        "scheduler": scheduler.state_dict(),
        "torch": torch.get_rng_state(),
        "device": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }
    torch.save(state, tmp_path / "host_0.pt")
    expected = _draws()
    read = HostState.read_old(tmp_path, 0)
    read.set_generators()
    assert _draws() == expected and read.schedule == scheduler.state_dict()


def _facts(folder, change) -> None:
    content = json.loads((folder / "host_2.json").read_text())
    change(content)
    (folder / "host_2.json").write_text(json.dumps(content))


def _tensors(folder, change) -> None:
    content = load((folder / "host_2.safetensors").read_bytes())
    change(content)
    (folder / "host_2.safetensors").write_bytes(save(content))


JSON = {
    "no schedule": lambda c: c.pop("schedule"),
    "a schedule that is a list": lambda c: c.update(schedule=[]),
    "no generators": lambda c: c.pop("generators"),
    "generators that are a text": lambda c: c.update(generators="numpy"),
    "a position beyond the words": lambda c: c["generators"]["numpy"].update(position=625),
    "a position before them": lambda c: c["generators"]["numpy"].update(position=-1),
    "a position that is a fraction": lambda c: c["generators"]["numpy"].update(position=1.5),
    "a gauss that is a text": lambda c: c["generators"]["numpy"].update(gauss="0"),
    "a gauss too many": lambda c: c["generators"]["numpy"].update(has_gauss=2),
    "a gauss of Python's that is a list": lambda c: c["generators"]["python"].update(gauss_next=[]),
}
TENSORS = {
    "one is missing": lambda c: c.pop("python"),
    "one too many": lambda c: c.update(other=torch.ones(1)),
    "of another dtype": lambda c: c.update(numpy=c["numpy"].double()),
    "of another length": lambda c: c.update(numpy=c["numpy"][:-1].clone()),
    "of another shape": lambda c: c.update(python=c["python"].reshape(5, 125)),
    "a word below zero": lambda c: c["numpy"].__setitem__(3, -1),
    "a word beyond 32 bits": lambda c: c["python"].__setitem__(3, 1 << 32),
    "a position that is none": lambda c: c["python"].__setitem__(624, 625),
}
BYTES = {
    "text that is no JSON": ("json", b"{"),
    "text that is no text": ("json", b"\xff\xfe{}"),
    "a list": ("json", b"[]"),
    "nested": ("json", b"[" * 100_000),
    "a number of thousands of digits": ("json", b'{"schedule": ' + b"1" * 5000 + b"}"),
    "far too much": ("json", b" " * (1 << 20) + b"{}"),
    "no tensors": ("safetensors", b""),
    "a pickle": ("safetensors", b"\x80\x04."),
    "a header of gigabytes": ("safetensors", b"\xff" * 8),
    "a header without shapes": ("safetensors", b'\x0c\0\0\0\0\0\0\0{"torch": 1}'),
    "too much": ("safetensors", bytes(2 << 20)),
}


@pytest.mark.parametrize("kind", [*JSON, *TENSORS, *BYTES])
def test_what_is_of_another_kind_is_refused(written, kind):
    folder, _ = written
    if kind in BYTES:
        suffix, content = BYTES[kind]
        (folder / f"host_2.{suffix}").write_bytes(content)
    else:
        _facts(folder, JSON[kind]) if kind in JSON else _tensors(folder, TENSORS[kind])
    with pytest.raises(ValueError, match=r"^host_2\.") as caught:
        HostState.read(folder, 2)
    assert "\n" not in str(caught.value)
