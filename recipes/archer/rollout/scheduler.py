"""vLLM's scheduler, which enters a sequence's tokens in its blocks one by one, at half of its own cost.

They are of use to the prefix cache alone, which a CPU has not.  There a sequence is looked at again when its blocks are
full; vLLM then enters all that have come since.
"""

from vllm.core.scheduler import Scheduler

SCHEDULER = f"{__name__}.BlockwiseScheduler"  # vLLM's scheduler_cls


class BlockwiseScheduler(Scheduler):
    """For an engine without a prefix cache, whose sequences share no blocks: n responses are n requests."""

    def _can_append_slots(self, seq_group, enable_chunking):
        return self._has_room(seq_group) or super()._can_append_slots(seq_group, enable_chunking)

    def _append_slots(self, seq_group, blocks_to_copy, enable_chunking=False):
        if not self._has_room(seq_group):
            super()._append_slots(seq_group, blocks_to_copy, enable_chunking)

    def _has_room(self, seq_group) -> bool:
        """Whether the blocks that the group's sequence has hold all of its tokens."""
        (sequence,) = seq_group.seqs
        blocks = self.block_manager.block_tables[sequence.seq_id].physical_block_ids
        return len(blocks) * self.cache_config.block_size >= sequence.get_len()
