"""Tokens are entered in blocks when those are full, and nothing else is different from vLLM's scheduler."""

import pytest
from vllm import SamplingParams
from vllm.config import CacheConfig, SchedulerConfig
from vllm.core.scheduler import Scheduler
from vllm.inputs import token_inputs
from vllm.sequence import Logprob, Sequence, SequenceGroup

from recipes.archer.rollout.scheduler import BlockwiseScheduler

BLOCK = 4
PROMPTS = [3, 4, 5, 9]  # tokens: less than a block, one, a block and a token, two and a token


def _course(kind: type[Scheduler], blocks: int, new_tokens: int) -> tuple[list, int]:
    """(by step: each scheduled sequence with the blocks it was given, and how many were free; preemptions)"""
    cache = CacheConfig(BLOCK, 0.5, 0, "auto")
    cache.num_gpu_blocks, cache.num_cpu_blocks = blocks, 0
    scheduler = kind(SchedulerConfig("generate", 256, 16, 64), cache, None)
    for number, length in enumerate(PROMPTS):
        sequence = Sequence(number, token_inputs(list(range(length))), BLOCK)
        scheduler.add_seq_group(SequenceGroup(str(number), [sequence], 0.0, SamplingParams(max_tokens=new_tokens)))
    course = []
    while scheduler.has_unfinished_seqs():
        metadata, outputs, _ = scheduler.schedule()
        tables = {one.request_id: len(table) for one in metadata for table in one.block_tables.values()}
        course.append((tables, scheduler.block_manager.get_num_free_gpu_blocks()))
        for one, scheduled in zip(metadata, outputs.scheduled_seq_groups, strict=True):
            (sequence,) = scheduled.seq_group.seqs
            scheduled.seq_group.update_num_computed_tokens(one.token_chunk_size)
            sequence.append_token_id(7, {7: Logprob(0.0)})
            if sequence.get_output_len() == new_tokens:
                sequence.status = sequence.status.FINISHED_STOPPED
                scheduler.free_seq(sequence)
        scheduler.free_finished_seq_groups()
        assert len(course) < 1000
    assert scheduler.block_manager.get_num_free_gpu_blocks() == blocks
    return course, scheduler.num_cumulative_preemption


@pytest.mark.parametrize("new_tokens", [1, BLOCK, 3 * BLOCK + 1])
def test_each_sequence_has_the_blocks_it_would_have_at_every_step(new_tokens):
    assert _course(BlockwiseScheduler, 64, new_tokens) == _course(Scheduler, 64, new_tokens)


def test_sequences_for_which_there_is_no_room_are_put_back_and_finish():
    course, put_back = _course(BlockwiseScheduler, 9, 4 * BLOCK)
    assert put_back > 0
    for tables, free in course:
        assert sum(tables.values()) + free <= 9


def test_tokens_are_entered_when_blocks_are_full(monkeypatch):
    entered = []
    append = Scheduler._append_slots
    monkeypatch.setattr(Scheduler, "_append_slots", lambda *all: entered.append(1) or append(*all))
    new_tokens = 4 * BLOCK
    _course(BlockwiseScheduler, 64, new_tokens)
    assert len(entered) == sum(-(-(length + new_tokens - 1) // BLOCK) + -length // BLOCK for length in PROMPTS)
