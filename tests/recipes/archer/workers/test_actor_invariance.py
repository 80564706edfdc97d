"""The actor's update does not depend on how its rows were cut, and is what the definition says.

Two workers run in processes of their own, once, over all cases: 80 s of processor time, a third of it imports.
It is the proof that a run's curve is a property of its settings and not of its machine.
"""

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from omegaconf import OmegaConf

from actor_cases import (
    CUTS,
    TEMPERATURE,
    Case,
    Worker,
    join,
    make_batch,
    plain_log_probs,
    rows_of_worker,
    run_worker,
    small_qwen3,
    whole_state,
    worker_state,
)
from recipes.archer.losses.aggregation import aggregate
from recipes.archer.losses.kl import kl_token_loss
from recipes.archer.losses.objective import step_loss
from recipes.archer.losses.policy import archer_policy_loss, archer_token_loss, low_entropy_mask, rollout_is_weight
from recipes.archer.settings.configuration import compose
from recipes.archer.workers import actor as actor_module
from recipes.archer.workers.micro_batches import columns_of_rows, cut_by_length
from update_cases import BASES, CASES, EVERYTHING, LOSSES
from wrapping import STRATEGY

# FSDP2 warns of in-place operations on what the forward pass returns; there are none
pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")

# fp32 with sums in another order: 1e-7 or so is seen, over a few updates ten times that
GRADIENT_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def settings():
    overrides = ["experiment=tiny", "device=cpu", "data.train_files=a", "data.val_files=b"]
    actor = compose([*overrides, "actor_rollout_ref.model.path=m"]).actor_rollout_ref.actor
    own = {"strategy": STRATEGY, "recomputed": STRATEGY == "fsdp", "grad_clip": 1e9}  # no clipping
    return OmegaConf.to_container(actor, resolve=True) | own


@pytest.fixture(scope="module")
def two_workers(settings, tmp_path_factory):
    """Started first, so that they work while this process does."""
    folder = tmp_path_factory.mktemp("two")
    arguments = (2, str(folder / "meeting"), settings, CASES, str(folder / "out"))
    return multiprocessing.spawn(run_worker, arguments, nprocs=2, join=False), folder


@pytest.fixture(scope="module")
def alone(settings, tmp_path_factory):
    threads = torch.get_num_threads()
    join(0, 1, str(tmp_path_factory.mktemp("one") / "meeting"))
    yield Worker(settings)
    dist.destroy_process_group()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def results(two_workers, alone):
    """(workers, case) of each name to gradients and metrics, and the metrics of the second worker."""
    found = {(1, i): alone.update(case) for i, case in enumerate(CASES)}
    processes, folder = two_workers
    while not processes.join():
        pass
    first, second = (torch.load(folder / f"out.{rank}") for rank in range(2))
    assert [metrics for _, metrics in first] == [metrics for _, metrics in second]
    return found | {(2, i): result for i, result in enumerate(first)}


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(a.double() - b.double()) / torch.linalg.vector_norm(b.double()))


def _assert_same_metrics(metrics: dict, expected: dict) -> None:
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        same = metrics[name] is None if value is None else metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-6)
        assert same, f"{name}: {metrics[name]} instead of {value}"


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
def test_same_update_however_cut(results, base):
    of_base = [i for i, case in enumerate(CASES) if case.name == base.name]
    expected_gradients, expected_metrics = results[1, next(i for i in of_base if CASES[i] == base)]
    assert all(torch.linalg.vector_norm(g) > 1e-3 for g in expected_gradients)
    for workers in (1, 2):
        for i in of_base:
            gradients, metrics = results[workers, i]
            assert len(gradients) == len(expected_gradients)
            for number, (gradient, expected) in enumerate(zip(gradients, expected_gradients, strict=True)):
                difference = _difference(gradient, expected)
                assert difference < GRADIENT_TOLERANCE, f"{workers} workers, update {number}, {CASES[i]}: {difference}"
            _assert_same_metrics(metrics, expected_metrics)


def test_two_workers_would_cut_differently_by_themselves(alone):
    """The case in which FSDP would wait for ever for the worker with fewer micro-batches."""
    case = Case("any", cut="by tokens")
    limit = alone.config(case).ppo_max_token_len_per_gpu
    shares = (rows_of_worker(alone.batches[False, False], case, 2, rank) for rank in range(2))
    columns = (columns_of_rows(share.batch["attention_mask"]) for share in shares)
    first, second = (len(cut_by_length(*of_worker, limit)) for of_worker in columns)
    assert first != second


def test_short_last_mini_batch_is_a_step_of_its_own(results, alone):
    """Its first update's gradient is that of its rows alone, not theirs divided by a full mini-batch."""
    rows = slice(8, 11)
    batch = {key: value[rows] for key, value in alone.batches[False, False].items()}
    expected, _ = alone.update(Case("rows alone", EVERYTHING), batch)
    whole = replace(next(b for b in BASES if b.name == "short last mini-batch"), learning_rate=0.0)
    gradients, _ = alone.update(whole)
    assert len(gradients) == 6
    assert _difference(gradients[2], expected[0]) < GRADIENT_TOLERANCE


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean"])
def test_gradient_is_the_definitions(alone, mode):
    """The whole objective, written out over all logits of one unsharded model."""
    model, batch = small_qwen3(tied=False), alone.batches[False, False]
    log_prob, entropy = plain_log_probs(model, batch)
    mask = batch["response_mask"]
    low = low_entropy_mask(batch["rollout_entropy"], mask, 0.8)
    token_loss, _ = archer_token_loss(batch["old_log_probs"], log_prob, batch["advantages"], mask, low)
    token_loss = token_loss * rollout_is_weight(batch["old_log_probs"], batch["rollout_log_probs"], 1.5)
    token_loss = token_loss - 0.01 * entropy + kl_token_loss(log_prob, batch["ref_log_prob"], low, 0.05, 0.015)
    aggregate(token_loss, mask, mode).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    gradients, _ = alone.update(Case("all terms", EVERYTHING | {"loss_agg_mode": mode}, cut="four rows"))
    assert _difference(gradients[0], expected) < GRADIENT_TOLERANCE


def test_on_policy_shortcut_equals_the_log_probabilities_given(alone):
    batch = dict(alone.batches[False, False])
    with torch.no_grad():
        batch["old_log_probs"], _ = plain_log_probs(small_qwen3(tied=False), batch)
    given, _ = alone.update(Case("given", EVERYTHING), batch)
    shortcut, metrics = alone.update(Case("shortcut", EVERYTHING, without=("old_log_probs",)))
    assert _difference(shortcut[0], given[0]) < GRADIENT_TOLERANCE
    assert metrics["actor/ratio/max"] == metrics["actor/ratio/min"] == 1.0
    # without a pass of its own for old_log_probs, the update is where engine and trainer are compared
    assert metrics["rollout/log_ratio/abs_max"] > metrics["rollout/log_ratio/abs_mean"] > 0


UPSTREAM = {
    "archer": ({"policy_loss": {"loss_mode": "archer"}, "clip_high_entropy": [0.2, 0.2]}, "vanilla"),
    "clip-higher": ({"policy_loss": {"loss_mode": "clip-higher"}, "clip_ratio_high": 0.28}, "vanilla"),
    "kl-cov": ({"policy_loss": {"loss_mode": "kl-cov", "kl_cov_ratio": 0.2}}, "kl_cov"),
}


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean"])
@pytest.mark.parametrize("name", UPSTREAM)
def test_equals_upstreams_actor_on_one_micro_batch(alone, monkeypatch, name, mode):
    """With classes and cap off, and where upstream's own dependence on the cut does not show."""
    from verl import DataProto
    from verl.workers.actor import DataParallelPPOActor

    ours, upstream_loss = UPSTREAM[name]
    common = {"loss_agg_mode": mode, "entropy_coeff": 0.02, "kl_loss_coef": 0.03, "clip_ratio_c": 1e6}
    lengths = (10, 1, 4, 7, 3, 10, 5, 2)  # upstream's mean of means divides by an empty response's length
    case = Case(name, ours | common, mini_batch_rows=len(lengths))
    model = small_qwen3(tied=False)
    batch = make_batch(model, lengths)
    gradients, metrics = alone.update(case, batch)

    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # upstream's bf16 on every device
    config = OmegaConf.merge(alone.config(case), {"policy_loss": {"loss_mode": upstream_loss}})
    config.ppo_micro_batch_size_per_gpu = len(lengths)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    expected: list[torch.Tensor] = []
    optimizer.step = lambda: expected.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    upstream = DataParallelPPOActor(config, model, optimizer)
    figures = upstream.update_policy(DataProto.from_dict(batch, meta_info={"temperature": TEMPERATURE}))
    assert _difference(gradients[0], expected[0]) < GRADIENT_TOLERANCE
    keys = ["actor/pg_loss", "actor/grad_norm"]
    if upstream_loss == "vanilla":  # its KL-Cov reports other quantities under these two names
        keys += ["actor/ppo_kl", "actor/pg_clipfrac"]
    for key in keys:
        assert metrics[key] == pytest.approx(figures[key][0], rel=1e-5, abs=1e-6), key


@pytest.mark.parametrize("cut", CUTS)
def test_log_probabilities_and_entropies_of_the_actor(alone, cut):
    from verl import DataProto

    batch = alone.batches[True, True]
    with torch.no_grad():
        log_prob, entropy = plain_log_probs(small_qwen3(tied=True), batch)
    settings = CUTS[cut]
    meta = {"temperature": TEMPERATURE, "max_token_len": 40, "use_dynamic_bsz": settings["use_dynamic_bsz"]}
    meta["micro_batch_size"] = settings.get("ppo_micro_batch_size_per_gpu")
    output = alone.actor(Case("score", cut=cut, tied=True)).compute_log_prob(
        DataProto.from_dict(batch, meta_info=meta), calculate_entropy=True
    )
    for found, expected in zip(output, (log_prob, entropy), strict=True):
        torch.testing.assert_close(found, expected * batch["response_mask"], rtol=1e-5, atol=1e-5)


def test_a_gradient_that_is_not_finite_changes_nothing(alone):
    batch = dict(alone.batches[False, False])
    batch["advantages"] = batch["advantages"].clone()
    batch["advantages"][0, 0] = -math.inf
    case = Case("poison", {"clip_ratio_c": 1e6}, learning_rate=0.1, mini_batch_rows=8)
    gradients, metrics = alone.update(case, batch)
    assert (metrics["actor/num_skipped"], metrics["actor/num_updates"]) == (1, 1)
    rest = {key: value[8:] for key, value in batch.items()}
    expected, alone_metrics = alone.update(case, rest)  # from the first parameters: the poisoned update moved none
    assert _difference(gradients[-1], expected[0]) < GRADIENT_TOLERANCE
    for name in ("actor/grad_norm", "actor/pg_loss"):  # of the update that was applied
        assert metrics[name] == pytest.approx(alone_metrics[name], rel=1e-5), name


def test_a_skipped_update_is_a_skip_and_no_figure_that_is_not_finite(alone):
    """A guard that stops at the first NaN would end the run before ``trainer.max_skipped_updates`` does."""
    batch = dict(alone.batches[False, False])
    batch["ref_log_prob"] = batch["ref_log_prob"].clone()
    batch["ref_log_prob"][0, 0] = math.nan
    for rows in (8, 11):  # the first mini-batch of two, and the only one
        case = Case("poisoned reference", {"use_kl_loss": True}, learning_rate=0.1, mini_batch_rows=rows)
        _, metrics = alone.update(case, batch)
        assert metrics["actor/num_skipped"] == 1
        assert [name for name, value in metrics.items() if value is not None and not math.isfinite(value)] == []
    assert metrics["actor/grad_norm"] is metrics["actor/pg_loss"] is None


def test_of_a_skipped_update_what_is_finite_counts(alone):
    batch = dict(alone.batches[False, False])
    batch["advantages"] = torch.full_like(batch["advantages"], math.inf) * batch["response_mask"]
    batch["advantages"] = torch.nan_to_num(batch["advantages"], nan=0.0, posinf=math.inf)
    _, metrics = alone.update(Case("infinite advantages", mini_batch_rows=11), batch)
    assert metrics["actor/num_skipped"] == 1 and metrics["actor/entropy/kept"] > 0


def test_a_mini_batch_without_a_token_moves_nothing(alone):
    """Adam's momentum of the update before it, and the weight decay, would move every parameter."""
    case = Case("empty", EVERYTHING, mini_batch_rows=11)
    actor, state = worker_state(alone, case)
    own = rows_of_worker(alone.batches[False, False], case, 1, 0)
    own.meta_info["temperature"] = TEMPERATURE
    assert actor.update_policy(own)["actor/num_updates"] == 1
    before = [tensor.clone() for tensor in whole_state(state)]
    own.batch["response_mask"] = torch.zeros_like(own.batch["response_mask"])
    metrics = actor.update_policy(own)
    assert all(map(torch.equal, whole_state(state), before))
    assert metrics["actor/num_updates"] == metrics["actor/num_skipped"] == 0
    assert {value for name, value in metrics.items() if not name.startswith("actor/num_")} == {None}


def test_a_loss_that_is_not_finite_is_skipped_though_its_gradient_is_finite(alone):
    def infinite(*arguments):
        loss, *rest = step_loss(*arguments)
        return (loss + math.inf, *rest)  # a constant: the gradient stays as it was

    with patch.object(actor_module, "step_loss", infinite):
        _, metrics = alone.update(Case("infinite", learning_rate=0.1))
    assert (metrics["actor/num_updates"], metrics["actor/num_skipped"], metrics["actor/num_skipped_last"]) == (0, 1, 1)
    assert metrics["actor/grad_norm"] is None


def test_loss_functions_agree_with_what_the_actor_reports(alone):
    batch, model = alone.batches[False, False], small_qwen3(tied=False)
    with torch.no_grad():
        log_prob, entropy = plain_log_probs(model, batch)
    mask = batch["response_mask"]
    low = low_entropy_mask(entropy, mask, 0.8)
    loss, expected = archer_policy_loss(batch["old_log_probs"], log_prob, batch["advantages"], mask, low)
    _, metrics = alone.update(Case("archer", LOSSES["archer"], cut="one row"))
    assert metrics["actor/pg_loss"] == pytest.approx(float(loss), abs=1e-6)
    for name in ("actor/pg_clipfrac", "actor/clipfrac/pos/high_entropy", "actor/ppo_kl", "actor/ratio/max"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name


def test_a_checkpoint_of_two_workers_is_read_by_one(results, alone, two_workers):
    from recipes.archer.checkpoints.manifest import write_manifest
    from recipes.archer.checkpoints.shards import load_shards

    path = str(two_workers[1] / "out.checkpoint")
    tensors, schedule = torch.load(f"{path}.expected")
    _, state = worker_state(alone, Case("checkpoint"))
    write_manifest(Path(path))
    load_shards(path, state)
    for found, expected in zip(whole_state(state), tensors, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert state.scheduler.state_dict() == schedule
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)  # after one step of the schedule
