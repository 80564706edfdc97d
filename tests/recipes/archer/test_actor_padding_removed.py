"""The actor's update is the same with padding removed, which is what runs on a GPU.

flash-attn, which packs the rows, needs a GPU. Its four helpers and its attention within packed rows are written out
here with torch, so that upstream's code around them, and ours, run as they are.
"""

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from einops import rearrange
from omegaconf import OmegaConf
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from recipes.archer.configuration import compose
from tests.recipes.archer.actor_cases import CUTS, TEMPERATURE, Case, Worker, join

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
REMOVED = {"use_remove_padding": True}


def packed_attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, position_ids=None, **_):
    """Causal attention within each of the rows that lie one behind the other; a row begins at position 0."""
    row = (position_ids == 0).cumsum(-1)
    length = query.shape[-2]
    allowed = (row[:, :, None] == row[:, None, :]) & torch.ones(length, length, dtype=torch.bool).tril()
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=allowed[:, None], dropout_p=dropout, scale=scaling, enable_gqa=True
    )
    return output.transpose(1, 2).contiguous(), None


def unpad_input(hidden_states, attention_mask):
    indices = attention_mask.flatten().nonzero().flatten()
    return hidden_states.flatten(0, 1)[indices], indices, None


def pad_input(hidden_states, indices, batch, seqlen):
    empty = hidden_states.new_zeros(batch * seqlen, *hidden_states.shape[1:])
    return empty.index_put((indices,), hidden_states).unflatten(0, (batch, seqlen))


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    overrides = ["experiment=tiny", "device=cpu", "data.train_files=a", "data.val_files=b"]
    actor = compose([*overrides, "actor_rollout_ref.model.path=m"]).actor_rollout_ref.actor
    # as the worker sets it: our forward pass answers as upstream's fused kernels do
    settings = OmegaConf.to_container(actor, resolve=True) | {"grad_clip": 1e9, "use_fused_kernels": True}
    threads = torch.get_num_threads()
    join(0, 1, str(tmp_path_factory.mktemp("one") / "meeting"))
    yield Worker(settings)
    dist.destroy_process_group()
    torch.set_num_threads(threads)


@pytest.fixture
def on_a_gpu(worker, monkeypatch):
    """What is there on a GPU; packed rows are told apart by their positions."""
    from verl.workers.actor import dp_actor

    helpers = {"unpad_input": unpad_input, "pad_input": pad_input, "rearrange": rearrange}
    for name, helper in (helpers | {"index_first_axis": lambda values, indices: values[indices]}).items():
        monkeypatch.setattr(dp_actor, name, helper, raising=False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # upstream's bf16
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "packed", packed_attention)
    for module in worker.modules.values():
        monkeypatch.setattr(module.config, "_attn_implementation", "packed")


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_same_update_with_padding_removed(request, worker, cut, tied, wide):
    expected_gradients, expected = worker.update(Case("trimmed", TERMS, tied=tied))
    request.getfixturevalue("on_a_gpu")
    gradients, metrics = worker.update(Case("removed", TERMS | REMOVED, cut=cut, tied=tied, wide=wide))
    assert difference(gradients[0], expected_gradients[0]) < TOLERANCE
    assert {name for name in metrics if metrics[name] is None} == {name for name in expected if expected[name] is None}
    found, wanted = ({k: v for k, v in m.items() if v is not None} for m in (metrics, expected))
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_same_log_probabilities_and_entropies_with_padding_removed(request, worker):
    from verl import DataProto

    meta = {"temperature": TEMPERATURE, "micro_batch_size": 4, "max_token_len": 64, "use_dynamic_bsz": True}
    batch = DataProto.from_dict(worker.batches[False, True], meta_info=meta)
    mask = batch.batch["response_mask"].bool()
    expected = worker.actor(Case("trimmed")).compute_log_prob(batch, calculate_entropy=True)
    request.getfixturevalue("on_a_gpu")
    found = worker.actor(Case("removed", REMOVED)).compute_log_prob(batch, calculate_entropy=True)
    for values, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(values[mask], reference[mask], rtol=1e-5, atol=1e-5)
