#!/usr/bin/env bash
# The 0.6B job in small: 2 steps, small batches, short sequences. Environment as the main launcher's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/launch.sh"
# An entropy control acts in the second step: there is no median of five first ones to be relative to.
# a name of its own for each: under one that is there, the steps that are done are not done again
name=Archer2.0-Qwen3-0.6B-Math-smoke-$math_experiment-$(date +%Y%m%d-%H%M%S)
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_archer2.0_qwen3_0.6b_math.sh" \
    "trainer.experiment_name=$name" trainer.total_training_steps=2 trainer.save_freq=2 \
    trainer.test_freq=2 data.train_batch_size=8 data.max_prompt_length=512 data.max_response_length=512 \
    reward.overlong_buffer_len=64 actor_rollout_ref.actor.ppo_mini_batch_size=4 actor_rollout_ref.rollout.n=4 \
    actor_rollout_ref.rollout.val_kwargs.n=1 algorithm.group_filter.enable=false \
    control.entropy.unit=nats control.entropy.warmup_steps=1 "$@"
