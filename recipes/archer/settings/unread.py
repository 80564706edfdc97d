"""Settings, and whole sections, that nothing acts on here. They keep their values; the text says what to use, or why.

Most are upstream's, for trainers, devices and engines that are not used.
"""

from recipes.archer.losses.constants import ACTOR
from recipes.archer.settings.engine import ROLLOUT
from recipes.archer.settings.learning import MODEL, REF
from recipes.archer.settings.rules import Kept

_SAMPLES = "trainer.samples_freq and samples_per_step write responses"
_FILES = "prompt files are read as docs/data.md says"
_TEXT = "prompts are text"
_NO_CRITIC = "GRPO has no critic"
_NO_LORA = "all weights are trained: the forward pass knows no adapter"
_OWN_ENTROPY = "log-probabilities and entropies are computed in pieces as it is (workers/chunked_head.py)"
_WRAPPED = "layers are wrapped one by one: the forward pass reads the head's weight outside of it"
_PROFILING = "nothing is profiled"
_SYNC = "the engine answers in turn (rollout.mode=sync)"
_SGLANG = "the engine is vLLM"
_FORMER = "it is upstream's former name, which counted all workers; use"
_REFERENCE = "the reference lies in the host's memory, and otherwise as the actor does"

_REMEDIES = {
    f"{ACTOR}.ppo_micro_batch_size": f"{_FORMER} {ACTOR}.ppo_micro_batch_size_per_gpu",
    f"{ACTOR}.shuffle": "the rows of a mini-batch are those of its prompts",
    f"{ACTOR}.checkpoint": "a checkpoint holds the whole state: docs/reliability.md",
    f"{ACTOR}.use_torch_compile": _OWN_ENTROPY,
    f"{ACTOR}.entropy_from_logits_with_chunking": _OWN_ENTROPY,
    f"{ACTOR}.entropy_checkpointing": _OWN_ENTROPY,
    f"{ACTOR}.optim.total_training_steps": "it follows trainer.total_training_steps and total_epochs",
    f"{ACTOR}.ulysses_sequence_parallel_size": "a sequence lies whole on one worker: a token looks at its neighbour",
    f"{ACTOR}.fsdp_config.wrap_policy": _WRAPPED,
    f"{ACTOR}.fsdp_config.fsdp_size": "every worker holds its share: of one model, not of copies",
    f"{REF}.strategy": f"it follows {ACTOR}.strategy",
    f"{REF}.use_torch_compile": _OWN_ENTROPY,
    f"{REF}.entropy_from_logits_with_chunking": _OWN_ENTROPY,
    f"{REF}.entropy_checkpointing": _OWN_ENTROPY,
    f"{REF}.ulysses_sequence_parallel_size": "a sequence lies whole on one worker: a token looks at its neighbour",
    f"{REF}.log_prob_micro_batch_size": f"{_FORMER} {REF}.log_prob_micro_batch_size_per_gpu",
    f"{REF}.log_prob_use_dynamic_bsz": f"it follows {ACTOR}.use_dynamic_bsz",
    f"{REF}.fsdp_config.param_offload": _REFERENCE,
    f"{REF}.fsdp_config.forward_prefetch": f"it follows {ACTOR}.fsdp_config.forward_prefetch",
    f"{REF}.fsdp_config.wrap_policy": _WRAPPED,
    f"{MODEL}.custom_chat_template": "the model folder's own is used: put it into tokenizer_config.json there",
    f"{MODEL}.use_shm": "the model is read where it lies",
    f"{MODEL}.external_lib": "it registers Qwen3 in every worker",
    f"{MODEL}.override_config": "the engine would not hear of it: change config.json in the model folder",
    f"{MODEL}.lora_rank": _NO_LORA,
    f"{MODEL}.lora_alpha": _NO_LORA,
    f"{MODEL}.target_modules": _NO_LORA,
    f"{MODEL}.exclude_modules": _NO_LORA,
    f"{MODEL}.use_liger": "the forward pass is ours: workers/model_forward.py",
    f"{MODEL}.use_fused_kernels": "the forward pass is ours: workers/model_forward.py",
    f"{MODEL}.fused_kernel_options": "the forward pass is ours: workers/model_forward.py",
    f"{ROLLOUT}.prompt_length": "it follows data.max_prompt_length",
    f"{ROLLOUT}.response_length": "it follows data.max_response_length and data.max_val_response_length",
    f"{ROLLOUT}.ignore_eos": "a response ends at the run's stop tokens: docs/algorithms.md",
    f"{ROLLOUT}.do_sample": "GRPO compares different responses to a prompt",
    f"{ROLLOUT}.log_prob_micro_batch_size": f"{_FORMER} {ROLLOUT}.log_prob_micro_batch_size_per_gpu",
    f"{ROLLOUT}.log_prob_use_dynamic_bsz": f"it follows {ACTOR}.use_dynamic_bsz",
    f"{ROLLOUT}.layered_summon": _NO_LORA,
    f"{ROLLOUT}.multi_stage_wake_up": _SGLANG,
    f"{ROLLOUT}.multi_turn": "a response is one turn",
    f"{ROLLOUT}.agent": _SYNC,
    f"{ROLLOUT}.trace": _SYNC,
    f"{ROLLOUT}.update_weights_bucket_megabytes": _SGLANG,
    f"{ROLLOUT}.engine_kwargs.sglang": _SGLANG,
    f"{ROLLOUT}.engine_kwargs.vllm.disable_mm_preprocessor_cache": _TEXT,
    f"{ROLLOUT}.engine_kwargs.vllm.max_num_seqs": f"it follows {ROLLOUT}.max_num_seqs",
    "actor_rollout_ref.hybrid_engine": "a worker trains and generates",
    "actor_rollout_ref.profiler": _PROFILING,
    "actor_rollout_ref.seed": "it follows seed",
    "algorithm._target_": "it names upstream's class",
    "algorithm.gamma": "a response is rewarded as a whole",
    "algorithm.lam": _NO_CRITIC,
    "algorithm.use_kl_in_reward": f"the KL term is in the loss: {ACTOR}.use_kl_loss",
    "algorithm.kl_penalty": f"the KL term is in the loss: {ACTOR}.kl_loss_type",
    "algorithm.kl_ctrl": f"the KL term is in the loss: {ACTOR}.kl_loss_coef",
    "algorithm.use_pf_ppo": "there is no preference feedback",
    "algorithm.pf_ppo": "there is no preference feedback",
    "critic": _NO_CRITIC,
    "data.tokenizer": "the tokenizer is the model folder's",
    "data.use_shm": _FILES,
    "data.custom_cls": _FILES,
    "data.datagen": _FILES,
    "data.reward_fn_key": "a row's data_source chooses its grading",
    "data.sampler": "the order is a function of seed and epoch; data.shuffle=false is the file's",
    "data.val_batch_size": "all held-out prompts are one batch",
    "data.validation_shuffle": "all held-out prompts are one batch",
    "data.return_raw_input_ids": _FILES,
    "data.return_raw_chat": _FILES,
    "data.return_full_prompt": _FILES,
    "data.return_multi_modal_inputs": _TEXT,
    "data.image_key": _TEXT,
    "data.video_key": _TEXT,
    "data.dataloader_num_workers": "the driver makes the batches",
    "data.filter_overlong_prompts_workers": "the driver measures the prompts",
    "data.trust_remote_code": f"set {MODEL}.trust_remote_code",
    "reward_model": "rewards come from the grader: custom_reward_function and grading.data_sources take others",
    "ray_init.timeline_json_file": _PROFILING,
    "trainer.balance_batch": "rows are dealt out by length as it is (workers/deal.py)",
    "trainer.controller_nsight_options": _PROFILING,
    "trainer.critic_warmup": _NO_CRITIC,
    "trainer.default_hdfs_dir": "trainer.output_dir is where runs go",
    "trainer.del_local_ckpt_after_load": "set trainer.keep_last",
    "trainer.esi_redundant_time": "a run saves when SIGTERM comes, within trainer.grace_s",
    "trainer.log_val_generations": _SAMPLES,
    "trainer.max_actor_ckpt_to_keep": "set trainer.keep_last",
    "trainer.max_critic_ckpt_to_keep": _NO_CRITIC,
    "trainer.npu_profile": _PROFILING,
    "trainer.profile_steps": _PROFILING,
    "trainer.rollout_data_dir": _SAMPLES,
    "trainer.use_legacy_worker_impl": "the workers are ours",
    "trainer.val_only": "validation is a part of training: trainer.val_before_train, trainer.test_freq",
    "trainer.validation_data_dir": _SAMPLES,
    "trainer.worker_nsight_options": _PROFILING,
}
TABLE = {name: Kept(remedy) for name, remedy in _REMEDIES.items()}
