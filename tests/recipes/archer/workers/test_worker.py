"""Small parts of the worker; the whole of it is the end-to-end tests' affair."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch.distributed.fsdp import ShardingStrategy

from actor_cases import make_batch, plain_log_probs, small_qwen3
from recipes.archer.workers import worker as module
from recipes.archer.workers.fsdp import WHOLE, kept_whole
from recipes.archer.workers.groups import roles_of
from recipes.archer.workers.model_forward import bind_token_forward, packed_borders
from recipes.archer.workers.worker import ArcherWorker, _GatedScheduler
from verl.workers import fsdp_workers


def test_the_schedule_stands_still_without_an_applied_update():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    applied = [True]
    schedule = _GatedScheduler(torch.optim.lr_scheduler.StepLR(optimizer, 1), lambda: applied[0])
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [pytest.approx(0.1)]
    applied[0] = False  # the gradient was not finite
    schedule.step()
    assert schedule.get_last_lr() == [pytest.approx(0.1)]
    assert schedule.state_dict()["last_epoch"] == 1
    applied[0] = True
    schedule.step()
    assert schedule.get_last_lr() == [pytest.approx(0.01)]


def test_forward_over_all_positions_predicts_the_right_neighbour():
    """The form for rows without padding, as one long row: what upstream reads with padding removed."""
    model = small_qwen3(tied=True)
    batch = make_batch(model, (6,))
    with torch.no_grad():
        expected = plain_log_probs(model, batch)
        bind_token_forward(model)
        kept = batch["attention_mask"].bool()
        ids, positions = batch["input_ids"][kept][None], batch["position_ids"][kept][None]
        output = model(input_ids=ids, attention_mask=None, position_ids=positions, temperature=0.9, return_dict=True)
    assert output.log_probs.shape == output.entropy.shape == ids.shape
    for found, reference in zip((output.log_probs, output.entropy), expected, strict=True):
        torch.testing.assert_close(found[:, -7:-1], reference, rtol=1e-5, atol=1e-5)


def test_a_model_without_a_plain_head_is_refused():
    with pytest.raises(TypeError, match="Linear is not a causal language model with a bias-free lm_head"):
        bind_token_forward(torch.nn.Linear(2, 2))
    model = small_qwen3(tied=False)
    model.lm_head = torch.nn.Linear(32, 48, bias=True)
    with pytest.raises(TypeError, match="Qwen3ForCausalLM is not"):
        bind_token_forward(model)


@pytest.mark.parametrize("optimizer", [False, True])
@pytest.mark.parametrize("parameters", [False, True])
def test_what_is_offloaded_is_on_the_device_while_a_state_is_made_of_it(monkeypatch, tmp_path, parameters, optimizer):
    """For saving, loading and forking; a state of parameters that wait in the host's memory cannot be made."""
    done, fsdp = [], module.fsdp_workers
    monkeypatch.setattr(fsdp, "load_fsdp_model_to_gpu", lambda _: done.append("load"))
    monkeypatch.setattr(fsdp, "offload_fsdp_model_to_cpu", lambda _: done.append("offload"))
    monkeypatch.setattr(fsdp, "load_fsdp_optimizer", lambda **_: done.append("load moments"))
    monkeypatch.setattr(fsdp, "offload_fsdp_optimizer", lambda **_: done.append("offload moments"))
    for name in ("save_shards", "load_shards", "fork_shards"):
        monkeypatch.setattr(module, name, lambda *_, name=name: done.append(name))
    monkeypatch.setattr(module, "written_by_all", lambda write: write())
    worker = object.__new__(ArcherWorker)
    worker._rank, worker._is_offload_param, worker._is_offload_optimizer = 1, parameters, optimizer
    worker.actor_module_fsdp = worker.actor_optimizer = None
    monkeypatch.setattr(ArcherWorker, "_state", lambda self: None)
    monkeypatch.setattr(ArcherWorker, "rank", 1, raising=False)
    worker.save_state(str(tmp_path))
    worker.load_state(str(tmp_path))
    worker.fork_state(str(tmp_path), False)
    before = ["load"] * parameters + ["load moments"] * optimizer
    after = ["offload"] * parameters + ["offload moments"] * optimizer
    assert done == [word for name in ("save", "load", "fork") for word in (*before, f"{name}_shards", *after)]


def test_groups_wait_longer_than_any_deadline(monkeypatch):
    """Or the peers of a hung rank would fail first, and be named in its place."""
    distributed = module.dist.distributed_c10d
    monkeypatch.setattr(distributed, "default_pg_timeout", None)
    monkeypatch.setattr(distributed, "default_pg_nccl_timeout", None)
    monkeypatch.setattr("recipes.archer.rollout.engine.install", lambda: None)
    monkeypatch.setattr(module, "get_device_name", lambda: "cuda")
    module.prepare_process()
    for backend in ("gloo", "nccl"):
        assert distributed._get_default_timeout(backend).days == 30


@pytest.mark.parametrize(("use", "coefficient", "roles"), [(True, 0.01, 2), (True, 0.0, 1), (False, 0.01, 1)])
def test_there_is_a_reference_only_where_the_kl_term_pulls(use, coefficient, roles):
    actor = OmegaConf.create({"use_kl_loss": use, "kl_loss_coef": coefficient})
    assert len(roles_of(actor)) == roles


@pytest.mark.parametrize("keep", [False, True])
def test_fsdp1_heeds_whether_parameters_stay_whole(keep):
    """While a model is wrapped, and not afterwards."""
    sharded, hybrid = ShardingStrategy.FULL_SHARD, ShardingStrategy.HYBRID_SHARD
    with kept_whole(keep):
        found = [fsdp_workers.get_sharding_strategy(SimpleNamespace(ndim=ndim)) for ndim in (1, 2)]
    assert found == ([WHOLE[sharded], WHOLE[hybrid]] if keep else [sharded, hybrid])
    assert fsdp_workers.get_sharding_strategy(SimpleNamespace(ndim=1)) == sharded


def test_the_worker_asks_for_it_of_the_actor_alone(monkeypatch):
    """By the setting; the reference is on the host between its passes."""
    seen = []
    mesh = SimpleNamespace(ndim=1)
    build = lambda self, **_: seen.append(fsdp_workers.get_sharding_strategy(mesh))  # noqa: E731
    monkeypatch.setattr(fsdp_workers.ActorRolloutRefWorker, "_build_model_optimizer", build)
    worker = object.__new__(ArcherWorker)
    for role in ("actor", "ref"):
        for reshard in (False, True):
            settings = OmegaConf.create({"reshard_after_forward": reshard})
            worker._build_model_optimizer(fsdp_config=settings, role=role)
    sharded = ShardingStrategy.FULL_SHARD
    assert seen == [ShardingStrategy.SHARD_GRAD_OP, sharded, sharded, sharded]


def test_borders_of_sequences_one_behind_the_other():
    borders = packed_borders(torch.tensor([[0, 1, 2, 0, 0, 1]]))
    assert borders["cu_seq_lens_q"].tolist() == borders["cu_seq_lens_k"].tolist() == [0, 3, 4, 6]
    assert borders["cu_seq_lens_q"].dtype == torch.int32
    assert type(borders["max_length_q"]) is type(borders["max_length_k"]) is int and borders["max_length_q"] == 3
