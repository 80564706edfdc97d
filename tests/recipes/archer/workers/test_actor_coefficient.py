"""The entropy coefficient of a step comes with its batch, to the real actor and its real loss."""

import pytest
import torch
import torch.distributed as dist
from omegaconf import OmegaConf

from actor_cases import TEMPERATURE, Case, Worker, join, rows_of_worker
from recipes.archer.settings.configuration import compose
from wrapping import STRATEGY

pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    threads = torch.get_num_threads()
    join(0, 1, str(tmp_path_factory.mktemp("one") / "meeting"))
    overrides = ["experiment=tiny", "device=cpu", "data.train_files=a", "data.val_files=b"]
    actor = compose([*overrides, "actor_rollout_ref.model.path=m"]).actor_rollout_ref.actor
    yield Worker(OmegaConf.to_container(actor, resolve=True) | {"grad_clip": 1e9, "strategy": STRATEGY})
    dist.destroy_process_group()
    torch.set_num_threads(threads)


def gradients(worker, coefficients: list[float | None], configured: float = 0.0) -> list[torch.Tensor]:
    """Of an update with each of the coefficients in turn, by one actor that stays where it is."""
    case = Case("coefficient", {"entropy_coeff": configured, "use_kl_loss": False})
    actor = worker.actor(case)
    for coefficient in coefficients:
        own = rows_of_worker(dict(worker.batches[False, False]), case, 1, 0)
        own.meta_info["temperature"] = TEMPERATURE
        if coefficient is not None:
            own.meta_info["entropy_coeff"] = coefficient
        actor.update_policy(own)
    return actor.actor_optimizer.gradients


def test_it_is_the_one_of_the_batch_and_zero_is_the_plain_loss_to_the_bit(alone):
    (plain,), (configured,) = gradients(alone, [None]), gradients(alone, [None], configured=0.3)
    zero, some, zero_again = gradients(alone, [0.0, 0.3, 0.0])
    assert torch.equal(zero, plain) and torch.equal(zero_again, plain)
    assert torch.equal(some, configured) and not torch.equal(some, plain)
