"""Text to reward: what is decoded, graded and shaped, and on which token the reward lies."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from recipes.archer.grading.grader import GradingPool
from recipes.archer.reward.manager import ArcherRewardManager, Rewards, token_level
from verl import DataProto
from verl.workers.reward_manager import get_reward_manager_cls

CAP = 8
SETTINGS = {
    "correct": 1.0,
    "incorrect": 0.0,
    "overlong_buffer_len": 0,
    "overlong_penalty_factor": 1.0,
    "format_bonus": 0.0,
    "repetition_penalty": 0.0,
}
RIGHT, WRONG, BARE, CLOSED, STUCK = r"so \boxed{1+3}", r"\boxed{5}", "4", r"</think> \boxed{4}", "& " * 99


class Words:
    """A tokenizer whose token k is the k-th text; token 0 ends a response and is special."""

    texts = ("<end>", RIGHT, WRONG, BARE, CLOSED, STUCK)

    def batch_decode(self, ids, skip_special_tokens):
        return [" ".join(self.texts[i] for i in row if not (skip_special_tokens and i == 0)) for row in ids]


@pytest.fixture(scope="module")
def pool():
    with GradingPool(1, 5.0) as pool:
        yield pool


@pytest.fixture
def make_manager(pool):
    return lambda **changes: ArcherRewardManager(Words(), pool, OmegaConf.create(SETTINGS | changes), CAP)


def _batch(*rows: tuple[list[int], str]) -> DataProto:
    """Responses as tokens, and their ground truths; what stands after a response is another text."""
    lengths = torch.tensor([len(ids) for ids, _ in rows])
    responses = torch.full((len(rows), CAP), 1)
    for row, (ids, _) in enumerate(rows):
        responses[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    mask = (torch.arange(CAP) < lengths[:, None]).long()
    truths = np.array([{"ground_truth": truth} for _, truth in rows], dtype=object)
    sources = np.array(["sums"] * len(rows), dtype=object)
    tensors = {"responses": responses, "response_mask": mask}
    return DataProto.from_dict(tensors, {"reward_model": truths, "data_source": sources})


def test_only_the_response_is_graded(make_manager):
    rewards = make_manager().start(_batch(([1, 0], "4"), ([2, 0], "4"), ([3, 0], "4"), ([], "4"))).result()
    assert rewards.texts == [RIGHT, WRONG, BARE, ""]
    assert rewards.outcomes == ["correct", "wrong", "no_answer", "no_answer"]
    assert rewards.answers == ["1+3", "5", None, None]
    assert rewards.correct.tolist() == [True, False, False, False]
    assert rewards.total.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_right_and_wrong_have_the_rewards_that_are_set(make_manager):
    rewards = make_manager(correct=2.0, incorrect=-1.0).start(_batch(([1], "4"), ([2], "4"))).result()
    assert rewards.total.tolist() == [2.0, -1.0]
    assert rewards.correct.tolist() == [True, False]


def test_parts_are_kept_apart(make_manager):
    manager = make_manager(
        overlong_buffer_len=4, overlong_penalty_factor=0.5, format_bonus=0.25, repetition_penalty=2.0
    )
    batch = _batch(([1, 0], "4"), ([1] * 6, "4"), ([1] * 8, "4"), ([4, 0], "4"), ([5, 0], "4"))
    rewards = manager.start(batch).result()
    assert list(rewards.parts) == ["accuracy", "overlong", "format", "repetition"]
    assert rewards.parts["accuracy"].tolist() == [1, 1, 1, 1, 0]
    assert rewards.parts["overlong"].tolist() == [0, -0.25, -0.5, 0, 0]
    assert rewards.parts["format"].tolist() == [0, 0, 0, 0.25, 0]
    assert rewards.parts["repetition"][0] == rewards.parts["repetition"][3] == 0
    assert -2 <= rewards.parts["repetition"][4] < -0.5
    np.testing.assert_allclose(rewards.total, sum(rewards.parts.values()))
    # a truncated right answer stays a right answer, whatever it earned
    assert rewards.correct.tolist() == [True, True, True, True, False]


def test_switched_off_parts_are_not_there(make_manager):
    assert list(make_manager().start(_batch(([1], "4"))).result().parts) == ["accuracy", "overlong"]


def test_a_question_restated_earns_nothing_in_training_and_counts_in_evaluation():
    batch = _batch(([1, 0], "4"), ([3, 0], "4"))
    batch.non_tensor_batch["messages"] = np.array([[{"role": "user", "content": "What is 1+3?"}]] * 2, dtype=object)
    with GradingPool(1, 5.0, reject_restated=True) as pool:
        manager = ArcherRewardManager(Words(), pool, OmegaConf.create(SETTINGS), CAP)
        assert manager.start(batch).result().outcomes == ["wrong", "no_answer"]
        assert manager.start(batch, evaluation=True).result().outcomes == ["correct", "no_answer"]


def test_verls_interface(make_manager):
    batch = _batch(([1, 1, 0], "4"), ([2], "4"), ([], "4"))
    tensor = make_manager(incorrect=-0.5)(batch)
    assert tensor.shape == (3, CAP)
    assert tensor.dtype == torch.float32
    assert tensor.nonzero().tolist() == [[0, 2], [1, 0], [2, 0]]
    assert tensor.sum(-1).tolist() == [1.0, -0.5, -0.5]
    output = make_manager()(batch, return_dict=True)
    assert output["reward_extra_info"] == {"acc": [1.0, 0.0, 0.0], "outcome": ["correct", "wrong", "no_answer"]}
    assert torch.equal(output["reward_tensor"], make_manager()(batch))


def test_it_is_registered_with_verl():
    assert get_reward_manager_cls("archer") is ArcherRewardManager


def test_grading_does_not_hold_up_the_caller():
    """``start`` returns before the grades are there; source and extra information reach the pool."""
    asked = {}

    class SlowPool:
        def submit(self, texts, truths, **columns):
            asked.update(columns, texts=texts, truths=truths)
            return self

        def result(self):
            raise TimeoutError("asked too early")

    batch = _batch(([1], "4"))
    batch.non_tensor_batch["extra_info"] = np.array([{"index": 7}], dtype=object)
    pending = ArcherRewardManager(Words(), SlowPool(), OmegaConf.create(SETTINGS), CAP).start(batch)
    columns = {"data_sources": ["sums"], "extra_infos": [{"index": 7}], "prompts": None}
    assert asked == {"texts": [RIGHT], "truths": ["4"], **columns}
    with pytest.raises(TimeoutError):
        pending.result()


def test_reward_lies_on_the_last_token():
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    tensor = token_level(np.array([0.5, -1.0, 2.0, -0.25]), mask)
    expected = torch.zeros(4, 4)
    # defect of others: index -1 of an empty response is the last column; here its row still sums to its reward
    expected[0, 1], expected[1, 3], expected[2, 0], expected[3, 0] = 0.5, -1.0, 2.0, -0.25
    assert torch.equal(tensor, expected)


def test_several_batches_rewards_as_one(make_manager):
    manager = make_manager(overlong_buffer_len=4)
    batches = [_batch(([1, 0], "4"), ([2], "4")), _batch(([1] * 8, "4"))]
    parts = [manager.start(batch).result() for batch in batches]
    whole = Rewards.concatenate(parts)
    assert whole.texts == parts[0].texts + parts[1].texts
    assert whole.outcomes == ["correct", "wrong", "correct"]
    assert whole.answers[:2] == ["1+3", "5"]
    assert whole.total.tolist() == [1.0, 0.0, 0.0]
    assert Rewards.concatenate(parts[:1]) is parts[0]
