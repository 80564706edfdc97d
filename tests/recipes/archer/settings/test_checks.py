"""Settings that cannot be meant, or that nothing acts on, are refused in one line: setting and remedy."""

import re

import pytest
from omegaconf import OmegaConf

from recipes.archer.ending import UserError
from recipes.archer.settings.checks import TABLE, check_settings
from recipes.archer.settings.rules import switch
from tests.support.configurations import GONE, change, configuration

ACTOR, ROLLOUT, REF = (f"actor_rollout_ref.{section}" for section in ("actor", "rollout", "ref"))
MODEL = "actor_rollout_ref.model"
MINI = f"{ACTOR}.ppo_mini_batch_size"
OPTIM, VAL = f"{ACTOR}.optim", f"{ROLLOUT}.val_kwargs"
ENTROPY = "control.entropy"
ADVANTAGE, BONUS = [f"{ENTROPY}.actuator=advantage"], [f"{ENTROPY}.actuator=bonus"]
SWITCHES = [name for name, rule in TABLE.items() if getattr(rule, "use", "") == switch("").use]
UNCUT = [f"{ACTOR}.use_dynamic_bsz=false", f"{ACTOR}.ppo_micro_batch_size_per_gpu=8"]
SIZES = [*UNCUT, f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=8", f"{REF}.log_prob_micro_batch_size_per_gpu=8"]


def refusal(*settings: str, **chosen: str) -> str:
    with pytest.raises(UserError) as caught:
        check_settings(configuration(*settings, **chosen))
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500
    return message


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["seed=-1"], "seed=-1: use a whole number, from 0 to 4294967295"),
        (["seed=4294967296"], "seed=4294967296: use a whole number, from 0"),  # numpy's bound, met in the engine
        (["data.seed=null"], "data.seed=null: use a whole number, from 0"),
        (["data.train_batch_size=many"], "data.train_batch_size=many: use a whole number, 1 or more"),
        (["data.max_prompt_length=long"], "data.max_prompt_length=long: use a whole number"),
        (["data.train_files=3"], "data.train_files=3: use the path of a file, or a list of them"),
        (["data.val_files=[]"], "data.val_files=[]: use the path of a file, or a list of them"),
        ([f"{MODEL}.path=null"], f"{MODEL}.path=null: use the path of a folder"),
        ([f"{ROLLOUT}.n=1"], f"{ROLLOUT}.n=1: use a whole number, 2 or more"),
        (["trainer.n_gpus_per_node=0"], "trainer.n_gpus_per_node=0: use a whole number, 1 or more"),
        (["guard.action=rollback", "trainer.save_freq=-1"], "guard.action=rollback goes back to checkpoints, but"),
        (["guard.action=rollback", "guard.rollback.max=0"], "guard.rollback.max=0: use a whole number, 1 or more"),
        (["guard.rollback.max=2"], "guard.rollback.max=2 has no effect here; leave it out"),
        (["guard.action=rollback", "guard.rollback.courses=[[]]"], "guard.rollback.courses=[[]]: use a list of lists"),
        (["guard.action=rollback", "guard.rollback.courses=3"], "guard.rollback.courses=3: use a list of lists"),
        (
            ["guard.action=rollback", "guard.rollback.to_start=false", "trainer.save_freq=50"],
            "trainer.save_freq=50 makes none before the last",
        ),
        (["trainer.save_freq=null"], "trainer.save_freq=null: use a whole number, -1 or more"),
        (["trainer.max_failed_saves=0"], "trainer.max_failed_saves=0: use a whole number, 1 or more"),
        (["trainer.total_training_steps=0"], "trainer.total_training_steps=0: use a whole number, 1 or more or null"),
        (["trainer.grace_s=.inf"], "trainer.grace_s=inf: use a number of seconds, 0 or more"),  # no timer takes it
        (["trainer.logger=[mlflow]"], "trainer.logger=['mlflow']: use a list of console, tensorboard, wandb"),
        (
            ["trainer.logger=console"],
            "trainer.logger=console: use a list of console, tensorboard, wandb, e.g. [console]",
        ),
        (["trainer.resume_mode=last"], "trainer.resume_mode=last: use auto or disable or resume_path"),
        (["trainer.resume_mode=resume_path"], "name it with trainer.resume_from_path="),
        (["trainer.resume_from_path=/there/global_step_4"], "(set trainer.resume_mode=resume_path with it)"),
        (["trainer.console_metrics=some"], "trainer.console_metrics=some: use auto or main or all"),
        (["trainer.samples_per_step=-1"], "trainer.samples_per_step=-1: use a whole number, 0 or more"),
        (
            ["trainer.keep_best=val/accuracy"],
            "trainer.keep_best=val/accuracy: use trainer.keep_best.metric=val/accuracy",
        ),
        (["trainer.keep_best.mode=best"], "trainer.keep_best.mode=best: use max or min"),
        (["trainer.keep_best={metric: null, mode: min}"], "it counts with trainer.keep_best.metric"),
        (["trainer.fork_optimizer=true"], "it counts with trainer.fork_from"),
        (["trainer.fork_from=''"], "trainer.fork_from=: use the folder of a run or of a checkpoint or null"),
        (["trainer.export=first"], "trainer.export=first: use best or last or null"),
        (["trainer.device=tpu"], "trainer.device=tpu: use cuda or cpu"),
        (["trainer.device=cuda"], "trainer.device=cuda alone is half of it; write device=cuda"),
        (["reward.overlong_penalty_factor=-1"], "reward.overlong_penalty_factor=-1: use a finite number, 0 or more"),
        (["reward.overlong_penalty_factor=.inf"], "reward.overlong_penalty_factor=inf: use a finite number, 0 or more"),
        (["reward.repetition_penalty=.nan"], "reward.repetition_penalty=nan: use a finite number, 0 or more"),
        (["reward.correct=.nan"], "reward.correct=nan: use a finite number"),
        (["reward.correct=-1"], "reward.correct=-1 is no more than reward.incorrect=0.0; raise it"),
        (["reward.overlong_buffer_len=97"], "reward.overlong_buffer_len=97 exceeds data.max_response_length=96"),
        (["algorithm.adv_estimator=rloo"], "algorithm.adv_estimator=rloo: use grpo"),
        (["algorithm.use_kl_in_reward=true"], "algorithm.use_kl_in_reward=true has no effect here; leave it out"),
        (["algorithm.gamma=0.9"], "algorithm.gamma=0.9 has no effect here"),
        (["algorithm.group_filter.metric=acc"], "algorithm.group_filter.metric=acc: use accuracy or reward"),
        (
            ["algorithm.group_filter.enable=false", "algorithm.group_filter.max_gen_batches=2"],
            "it counts with algorithm.group_filter.enable=true",
        ),
        (["grading.answer_format=last"], "grading.answer_format=last: use boxed or any"),
        (["grading.memory_mb=100"], "grading.memory_mb=100: use a whole number, 256 or more or null"),
        (["grading.data_sources={sums: mine.py}"], "use a function for each source"),
        (["guard.action=halt"], "guard.action=halt: use off or warn or stop"),
        (["ray_init.object_store_memory=1000"], "ray_init.object_store_memory=1000: use a whole number, 78643200"),
        (["reward_model.enable=true"], "reward_model.enable=true has no effect here; leave it out"),
        (["reward_model.reward_manager=dapo"], "custom_reward_function and grading.data_sources take others"),
        (["custom_reward_function.name=mine"], "it counts with custom_reward_function.path"),
        (["critic=null"], "critic=null has no effect here; leave it out (GRPO has no critic)"),
        ([f"{ROLLOUT}.name=sglang"], f"{ROLLOUT}.name=sglang: use vllm"),
        ([f"{ROLLOUT}.mode=async"], f"{ROLLOUT}.mode=async: use sync"),
        ([f"{ROLLOUT}.temperature=0"], f"{ROLLOUT}.temperature=0: use a finite number, above 0"),
        ([f"{ROLLOUT}.temperature=.inf"], f"{ROLLOUT}.temperature=inf: use a finite number, above 0"),
        ([f"{ROLLOUT}.top_p=1.5"], f"{ROLLOUT}.top_p=1.5: use a finite number, above 0, at most 1"),
        ([f"{ROLLOUT}.top_k=0"], f"{ROLLOUT}.top_k=0: use a whole number, 1 or more or -1"),
        ([f"{ROLLOUT}.repetition_penalty=2.5"], f"{ROLLOUT}.repetition_penalty=2.5: use a finite number, above 0, at"),
        (
            [f"{ROLLOUT}.gpu_memory_utilization=1.7"],
            f"{ROLLOUT}.gpu_memory_utilization=1.7: use a finite number, above",
        ),
        ([f"{ROLLOUT}.do_sample=false"], "GRPO compares different responses to a prompt"),
        ([f"{ROLLOUT}.multi_turn.enable=true"], "a response is one turn"),
        ([f"{ROLLOUT}.response_length=50"], "it follows data.max_response_length"),
        ([f"{ROLLOUT}.max_tokens=50"], f"{ROLLOUT}.max_tokens: nothing reads this setting"),
        ([f"{ROLLOUT}.stop=[Question]"], f"{ROLLOUT}.stop: nothing reads this setting"),  # vLLM: with detokenize only
        ([f"{ROLLOUT}.min_tokens=97"], f"{ROLLOUT}.min_tokens=97 exceeds data.max_response_length=96"),
        ([f"{VAL}.temperature=-1"], f"{VAL}.temperature=-1: use a finite number, 0 or more"),
        ([f"{VAL}.n=0"], f"{VAL}.n=0: use a whole number, 1 or more"),
        ([f"{ROLLOUT}.max_model_len=159"], "max_model_len=159 must be at least data.max_prompt_length plus"),
        (
            ["data.max_val_response_length=200", f"{ROLLOUT}.max_model_len=160"],
            "must be at least data.max_prompt_length plus data.max_val_response_length, 264",
        ),
        (["data.max_val_response_length=0"], "data.max_val_response_length=0: use a whole number, 1 or more or null"),
        ([f"{ROLLOUT}.max_num_batched_tokens=159"], f"=159 is less than {ROLLOUT}.max_model_len=160, so a full"),
        ([f"{ROLLOUT}.max_num_batched_tokens=255"], f"=255 is less than {ROLLOUT}.max_num_seqs=256, so not every"),
        ([f"{ROLLOUT}.max_num_batched_tokens=null"], "max_num_batched_tokens=null: use a whole number, 1 or more"),
        ([f"{MINI}=5"], f"data.train_batch_size=16 is not a multiple of {MINI}=5"),
        ([f"{MINI}=32"], f"data.train_batch_size=16 is not a multiple of {MINI}=32"),
        (["data.train_batch_size=100"], f"data.train_batch_size=100 is not a multiple of {MINI}=16"),
        (
            ["trainer.n_gpus_per_node=3", f"{MINI}=1"],
            f"{MINI}=1 x {ROLLOUT}.n=8 responses do not divide by 3 workers (trainer.n_gpus_per_node x trainer.nnodes)",
        ),
        (
            [*SIZES, f"{ACTOR}.ppo_micro_batch_size_per_gpu=5"],
            "=5 does not divide the 64 responses of a worker's mini",
        ),
        ([f"{ACTOR}.ppo_micro_batch_size_per_gpu=4"], f"it counts with {ACTOR}.use_dynamic_bsz=false"),
        ([f"{REF}.log_prob_micro_batch_size_per_gpu=4"], f"it counts with {ACTOR}.use_dynamic_bsz=false"),
        ([f"{ACTOR}.use_dynamic_bsz=false"], f"false needs {ACTOR}.ppo_micro_batch_size_per_gpu; set it"),
        (UNCUT, f"false needs {ROLLOUT}.log_prob_micro_batch_size_per_gpu; set it"),
        ([f"{REF}.log_prob_micro_batch_size=8"], "former name, which counted all workers; use"),
        ([f"{OPTIM}.lr=.inf"], f"{OPTIM}.lr=inf: use a finite number, 0 or more"),
        ([f"{OPTIM}.lr_warmup_steps_ratio=0.1"], f"it counts with {OPTIM}.lr_warmup_steps=-1"),
        ([f"{OPTIM}.lr_warmup_steps=null"], f"{OPTIM}.lr_warmup_steps=null: use a whole number, -1 or more"),
        ([f"{OPTIM}.warmup_style=linear"], f"{OPTIM}.warmup_style=linear: use constant or cosine"),
        ([f"{OPTIM}.min_lr_ratio=0.1"], f"it counts with {OPTIM}.warmup_style=cosine"),
        ([f"{OPTIM}.betas=[0.9,1.0]"], f"{OPTIM}.betas=[0.9, 1.0]: use two numbers"),
        ([f"{ACTOR}.grad_clip=0"], f"{ACTOR}.grad_clip=0: use a number, above 0"),
        ([f"{ACTOR}.strategy=megatron"], f"{ACTOR}.strategy=megatron: use fsdp or fsdp2"),
        ([f"{ACTOR}.strategy=fsdp"], f"{ACTOR}.strategy=fsdp cannot be had with device=cpu"),
        ([f"{ACTOR}.checkpoint.save_contents=[model]"], "a checkpoint holds the whole state"),
        ([f"{ACTOR}.fsdp_config.fsdp_size=3"], f"{ACTOR}.fsdp_config.fsdp_size=3 has no effect here"),
        ([f"{ACTOR}.shuffle=true"], f"{ACTOR}.shuffle=true has no effect here"),
        ([f"{ACTOR}.clip_ratio=0.5"], f"(set {ACTOR}.clip_ratio_low and clip_ratio_high)"),
        ([f"{ACTOR}.rollout_is_threshold=2", f"{ROLLOUT}.calculate_log_probs=false"], "the engine's log-probabilities"),
        ([f"{ACTOR}.entropy_coef=1"], f"nothing reads this setting; leave it out (or is it {ACTOR}.entropy_coeff?)"),
        ([f"{MODEL}.lora_rank=8"], f"{MODEL}.lora_rank=8 has no effect here; leave it out (all weights are trained"),
        ([f"{MODEL}.custom_chat_template=x"], "put it into tokenizer_config.json"),
        ([f"{MODEL}.override_config.rope_theta=1"], "change config.json in the model folder"),
        ([f"{MODEL}.trust_remote_code=maybe"], "use true or false"),
        (["trainer.profile_steps=[1]"], "nothing is profiled"),
        (["trainer.balance_batch=false"], "trainer.balance_batch=false has no effect here"),
        (["trainer.val_only=true"], "trainer.val_before_train"),
        (["trainer.max_actor_ckpt_to_keep=2"], "set trainer.keep_last"),
        (["data.sampler.class_path=mine.py"], "data.shuffle=false is the file's"),
        (["data.truncation=left"], "it counts with data.filter_overlong_prompts=false"),
        (["data.truncation=begin", "data.filter_overlong_prompts=false"], "use error or left or right or middle"),
        (["no.such.setting=1"], "no.such.setting: nothing reads this setting; leave it out"),
        (["data=3"], "data: nothing reads this setting"),
        ([f"{REF}.refresh.every=0"], f"{REF}.refresh.every=0: use a whole number, 1 or more or null"),
        ([f"{REF}.refresh.every=5", f"{REF}.refresh.mix=0"], f"{REF}.refresh.mix=0: use a finite number, above 0, at"),
        ([f"{REF}.refresh.mix=0.5"], f"it counts with {REF}.refresh.every"),
        ([f"{REF}.refresh.reset_optimizer=true"], f"it counts with {REF}.refresh.every"),
        (
            [f"{REF}.refresh.every=5", f"{ACTOR}.kl_loss_coef=0"],
            f"{REF}.refresh.every=5 has no effect here; leave it out (nothing pulls to a reference without",
        ),
        (
            [f"{REF}.refresh.every=5", f"{ACTOR}.use_kl_loss=false"],
            f"{REF}.refresh.every=5 has no effect here; leave it out (nothing pulls to a reference without",
        ),
        ([f"{ENTROPY}.actuator=temperature"], f"{ENTROPY}.actuator=temperature: use bonus or advantage or null"),
        *(
            ([f"{ENTROPY}.band={band}"], f"{ENTROPY}.band={shown}: use [low, high] with 0 <= low < high")
            for band, shown in {
                "[0.5,0.5]": "[0.5, 0.5]",
                "[0.5,0.2]": "[0.5, 0.2]",
                "[-0.1,0.2]": "[-0.1, 0.2]",
                "[0.1,.inf]": "[0.1, inf]",
                "[.nan,1]": "[nan, 1]",
                "[0.1]": "[0.1]",
                "[true,2]": "[True, 2]",
                "0.5": "0.5",
                "null": "null",
            }.items()
        ),
        ([f"{ENTROPY}.final_band=[1,0]"], f"{ENTROPY}.final_band=[1, 0]: use [low, high]"),
        ([f"{ENTROPY}.unit=bits"], f"{ENTROPY}.unit=bits: use start or nats"),
        ([f"{ENTROPY}.bonus.max=0"], f"{ENTROPY}.bonus.max=0: use a finite number, above 0"),
        ([f"{ENTROPY}.bonus.delta=-1"], f"{ENTROPY}.bonus.delta=-1: use a finite number, above 0"),
        ([f"{ENTROPY}.advantage.max=1.5"], f"{ENTROPY}.advantage.max=1.5: use a finite number, above 0, at most 1"),
        ([f"{ENTROPY}.advantage.decay=1"], f"{ENTROPY}.advantage.decay=1: use a finite number, from 0 to below 1"),
        ([f"{ENTROPY}.advantage.slew=0"], f"{ENTROPY}.advantage.slew=0: use a finite number, above 0"),
        ([*ADVANTAGE, f"{ENTROPY}.warmup_steps=4"], "=4 is too few for control.entropy.unit=start"),
        ([*ADVANTAGE, f"{ENTROPY}.warmup_steps=50"], "is no less than trainer.total_training_steps=50, so"),
        ([*ADVANTAGE, f"{ENTROPY}.final_band=[1,2]"], f"{ENTROPY}.final_band and {ENTROPY}.anneal_steps go together"),
        ([*ADVANTAGE, f"{ENTROPY}.anneal_steps=9"], f"{ENTROPY}.final_band and {ENTROPY}.anneal_steps go together"),
        (
            [*ADVANTAGE, f"{ENTROPY}.advantage.proportional=0", f"{ENTROPY}.advantage.integral=0"],
            f"{ENTROPY}.advantage.proportional and {ENTROPY}.advantage.integral are both 0",
        ),
        (
            [*BONUS, f"{ACTOR}.entropy_coeff=0.01"],
            f"{ACTOR}.entropy_coeff=0.01 has no effect beside {ENTROPY}.actuator",
        ),
        ([*BONUS, f"{ENTROPY}.bonus.delta=0.01"], f"{ENTROPY}.bonus.delta=0.01 is more than {ENTROPY}.bonus.max"),
        ([f"{ROLLOUT}.tensor_model_parallel_size=2", "trainer.n_gpus_per_node=2"], "an engine of its own; use 1"),
        (["ray_init.num_cpus=1", "trainer.n_gpus_per_node=2"], "ray_init.num_cpus=1 is less than the 2 workers"),
    ],
)
def test_settings(settings, problem):
    assert problem in refusal(*settings)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["trainer.device=cpu"], "trainer.device=cpu alone is half of it; write device=cpu"),
        ([f"{ROLLOUT}.tensor_model_parallel_size=3"], "does not divide 4 workers"),
        ([f"{ACTOR}.fsdp_config.offload_policy=true"], f"it counts with {ACTOR}.strategy=fsdp2"),
        ([f"{REF}.fsdp_config.reshard_after_forward=false"], f"it counts with {ACTOR}.strategy=fsdp2"),
        (
            [f"{ACTOR}.strategy=fsdp2", f"{ACTOR}.fsdp_config.forward_prefetch=true"],
            f"counts with {ACTOR}.strategy=fsdp",
        ),
        ([f"{REF}.fsdp_config.param_offload=false"], "the reference lies in the host's memory"),
        (
            [f"{REF}.refresh.every=5", f"{REF}.refresh.mix=0.5"],
            f"{REF}.refresh.mix=0.5 would be rounded away in a reference of bf16, of three digits; add +{REF}",
        ),
        ([f"{ACTOR}.fsdp_config.model_dtype=fp16"], "use fp32 or float32 or bf16 or bfloat16"),
        (
            [f"{ROLLOUT}.max_num_seqs=8192", f"{ROLLOUT}.max_num_batched_tokens=6144"],
            f"less than {ROLLOUT}.max_num_seqs",
        ),
    ],
)
def test_settings_on_a_gpu(settings, problem):
    assert problem in refusal(*settings, experiment="v5", device="cuda")


@pytest.mark.parametrize(
    "settings",
    [
        [f"{OPTIM}.lr_warmup_steps=-1", f"{OPTIM}.lr_warmup_steps_ratio=0.1"],
        [f"{OPTIM}.warmup_style=cosine", f"{OPTIM}.min_lr_ratio=0.1", f"{OPTIM}.num_cycles=1"],
        [f"{OPTIM}.betas=[0.9,0.95]"],
        SIZES,
        [f"{ACTOR}.clip_ratio=0.3", f"{ACTOR}.clip_ratio_low=null", f"{ACTOR}.clip_ratio_high=null"],
        [f"{ACTOR}.grad_clip=.inf", f"{ROLLOUT}.deadline_s=.inf", f"{ACTOR}.clip_ratio_c=.inf"],
        [f"{ROLLOUT}.stop_token_ids=[5]", f"{ROLLOUT}.min_p=0.1", f"{ROLLOUT}.presence_penalty=-0.5"],
        [f"{ROLLOUT}.max_model_len=null"],
        ["trainer.keep_best=null"],
        ["trainer.keep_best.metric=actor/kl_loss", "trainer.keep_best.mode=min"],
        ["trainer.export=null"],
        ["trainer.fork_from=a run", "trainer.fork_optimizer=true"],
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=/there/global_step_4"],
        ["trainer.logger=[]", "trainer.samples_per_step=0", "record=null"],
        ["data.filter_overlong_prompts=false", "data.truncation=middle"],
        [f"{REF}.refresh.every=5", f"{REF}.refresh.mix=0.1", f"{REF}.refresh.reset_optimizer=true"],
        ADVANTAGE,
        BONUS,
        [*ADVANTAGE, f"{ACTOR}.entropy_coeff=0.01", f"{ENTROPY}.final_band=[0.2,0.4]", f"{ENTROPY}.anneal_steps=40"],
        [*BONUS, f"{ENTROPY}.unit=nats", f"{ENTROPY}.warmup_steps=0", f"{ENTROPY}.band=[0,0.2]"],
        [f"{ENTROPY}.band=[0.2,0.4]"],  # of a run that is given a control later
        ["data.train_files=[a.json,b.parquet]"],
        ["custom_reward_function.path=mine.py", "custom_reward_function.reward_kwargs={scale: 2}"],
        ["grading.data_sources={sums: package.module:function, aime: math}", "grading.memory_mb=null"],
        ["guard.detectors={score_lost: {lost: 0.5}}"],
    ],
)
def test_settings_that_go_together(settings):
    check_settings(configuration(*settings))


def test_the_engine_has_room_for_the_longer_of_training_and_validation():
    for cap, longest in ((200, 200), (50, 96), ("null", 96)):
        config = configuration(f"data.max_val_response_length={cap}")
        check_settings(config)
        rollout = config.actor_rollout_ref.rollout
        assert (rollout.response_length, rollout.max_model_len) == (longest, 64 + longest)


def test_the_engine_holds_every_sequence_however_short_they_are():
    """vLLM refuses fewer tokens a step than sequences, with a traceback and after Ray has started."""
    short = ["data.max_prompt_length=128", "data.max_response_length=96", "reward.overlong_buffer_len=64"]
    for more, wanted in (([], 256), ([f"{ROLLOUT}.max_num_seqs=64"], 224), ([f"{ROLLOUT}.max_num_seqs=1024"], 1024)):
        config = configuration(*short, *more, experiment="v5", device="cuda")
        check_settings(config)
        rollout = config.actor_rollout_ref.rollout
        assert (rollout.max_num_batched_tokens, rollout.max_model_len) == (wanted, 224)
        assert rollout.engine_kwargs.vllm.max_num_seqs == rollout.max_num_seqs  # as verl hands it to the engine


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("clip_ratio_low", "-0.1"),
        ("clip_ratio_c", "1.0"),
        ("ratio_cap", "0.5"),
        ("clip_low_entropy", "[0.2]"),
        ("token_entropy_quantile", "0"),
        ("token_entropy_quantile", "1.5"),
        ("token_class_from", "yesterday"),
        ("kl_loss_coef", "-0.1"),
        ("kl_loss_type", "k9"),
        ("loss_agg_mode", "mean"),
        ("rollout_is_threshold", "0.5"),
        ("rollout_is_threshold", ".nan"),
        ("clip_high_entropy", "[0.4,.nan]"),
        ("ratio_cap", ".nan"),
        ("entropy_coeff", ".nan"),
        ("policy_loss.loss_mode", "gspo"),
    ],
)
def test_impossible_loss_constants(setting, value):
    message = refusal(f"{ACTOR}.{setting}={value}")
    assert message.startswith(f"{ACTOR}.{setting} is ")
    assert re.search(r"use|must|choose|needs", message)


def test_a_switch_is_true_or_false():
    """On a command line YAML 1.1's words stay words, and every word is true."""
    config = configuration(device="cuda")
    for name in SWITCHES:
        written = OmegaConf.select(config, name)
        for value in ("off", "no", 1, None):
            change(config, name, value)
            with pytest.raises(UserError, match=rf"^{name}=\w+: use true or false$"):
                check_settings(config)
        change(config, name, written)


def test_a_setting_that_is_taken_away():
    config = configuration()
    change(config, f"{ACTOR}.use_kl_loss", GONE)
    with pytest.raises(UserError, match=f"{ACTOR}.use_kl_loss is taken away; leave out the ~"):
        check_settings(config)


def test_a_value_is_shown_in_few_printable_characters():
    assert "x" * 200 + "…: use" in refusal(f"guard.action={'x' * 5000}")
    assert r"'\x1b[2J\n'" in refusal(r'guard.action="\e[2J\n"')


def test_a_word_of_pythons_is_not_shown_as_yamls_value():
    assert "trainer.export='None': use best or last or null" in refusal("trainer.export=None")
    assert "trainer.logger=null: use" in refusal("trainer.logger=null")


def test_a_setting_of_another_machines_environment_is_passed_over_and_nothing_else(monkeypatch):
    monkeypatch.delenv("ON_THE_NODE", raising=False)
    config = configuration("trainer.output_dir=${oc.env:ON_THE_NODE}", "guard.action=halt")
    with pytest.raises(UserError, match="guard.action=halt"):
        check_settings(config, elsewhere=True)
    check_settings(configuration("trainer.output_dir=${oc.env:ON_THE_NODE}"), elsewhere=True)
