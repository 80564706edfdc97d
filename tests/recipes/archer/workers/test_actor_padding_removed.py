"""The actor's update is the same with padding removed, which is what runs on a GPU.

`test_actor_invariance` has every loss with padding removed, on one worker and on two; here are all cuts of one loss,
and the pass for log-probabilities.
"""

import pytest
import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from transformers import modeling_flash_attention_utils

from actor_cases import CUTS, REMOVED, TEMPERATURE, Case, Worker, join
from benchmarks.host_syncs import host_syncs
from packing import like_a_gpu
from recipes.archer.settings.configuration import compose
from recipes.archer.workers import model_forward
from wrapping import STRATEGY, plain_module

pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")

TOLERANCE = 1e-5  # relative, fp32
TERMS = {
    "policy_loss": {"loss_mode": "aspo"},
    "entropy_coeff": 0.01,
    "use_kl_loss": True,
    "kl_loss_coef": 0.05,
    "kl_loss_high_entropy_scale": 0.3,
    "rollout_is_threshold": 1.5,
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    overrides = ["experiment=tiny", "device=cpu", "data.train_files=a", "data.val_files=b"]
    actor = compose([*overrides, "actor_rollout_ref.model.path=m"]).actor_rollout_ref.actor
    settings = OmegaConf.to_container(actor, resolve=True) | {"grad_clip": 1e9, "strategy": STRATEGY}
    threads = torch.get_num_threads()
    join(0, 1, str(tmp_path_factory.mktemp("one") / "meeting"))
    yield Worker(settings)
    dist.destroy_process_group()
    torch.set_num_threads(threads)


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_same_update_with_padding_removed(worker, cut, tied, wide):
    expected_gradients, expected = worker.update(Case("trimmed", TERMS, tied=tied))
    gradients, metrics = worker.update(Case("removed", TERMS | REMOVED, cut=cut, tied=tied, wide=wide))
    assert difference(gradients[0], expected_gradients[0]) < TOLERANCE
    assert {name for name in metrics if metrics[name] is None} == {name for name in expected if expected[name] is None}
    found, wanted = ({k: v for k, v in m.items() if v is not None} for m in (metrics, expected))
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_borders_of_packed_sequences_are_found_once_a_pass(worker, monkeypatch):
    """And the result is to the last bit that of transformers, which finds them in every layer."""
    case = Case("removed", TERMS | REMOVED, cut="four rows")
    calls = {"ours": 0, "theirs": 0}

    def counted(name, function):
        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        return call

    theirs = modeling_flash_attention_utils.prepare_fa2_from_position_ids
    monkeypatch.setattr(model_forward, "packed_borders", counted("ours", model_forward.packed_borders))
    monkeypatch.setattr(modeling_flash_attention_utils, "prepare_fa2_from_position_ids", counted("theirs", theirs))
    with host_syncs("cpu") as waits:
        gradients, metrics = worker.update(case)
    assert calls == {"ours": 3, "theirs": 0}  # micro-batches
    monkeypatch.setattr(model_forward, "packed_borders", lambda position_ids: {})
    with host_syncs("cpu") as waits_before:
        expected_gradients, expected = worker.update(case)
    assert calls["theirs"] >= 3 * 2  # and layers
    assert torch.equal(gradients[0], expected_gradients[0]) and metrics == expected
    # per layer: one comparison of positions, two lengths; the borders and one length a pass instead
    assert waits_before[0] - waits[0] >= 3 * (2 * 3 - 2)


def test_same_log_probabilities_and_entropies_with_padding_removed(worker):
    from verl import DataProto

    meta = {"temperature": TEMPERATURE, "micro_batch_size": 4, "max_token_len": 64, "use_dynamic_bsz": True}
    batch = DataProto.from_dict(worker.batches[False, True], meta_info=meta)
    mask = batch.batch["response_mask"].bool()
    expected = worker.actor(Case("trimmed")).compute_log_prob(batch, calculate_entropy=True)
    with like_a_gpu(map(plain_module, worker.modules.values())):
        found = worker.actor(Case("removed", REMOVED)).compute_log_prob(batch, calculate_entropy=True)
    for values, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(values[mask], reference[mask], rtol=1e-5, atol=1e-5)
