"""What the records say to try reaches what it is meant to change: engine, group size, loss, model and prompts."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from actor_cases import make_batch, plain_log_probs, small_qwen3
from recipes.archer.experiments import registry
from recipes.archer.losses.constants import loss_config_from
from recipes.archer.rollout.engine import SeededLLM, install
from recipes.archer.settings.configuration import compose
from recipes.archer.workers.calls import WorkerCalls
from verl import DataProto

MACHINE = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m", "device=cpu"]
ROLLOUT, ACTOR = "actor_rollout_ref.rollout", "actor_rollout_ref.actor"
PENALTY, TEMPERATURE = f"{ROLLOUT}.repetition_penalty=1.2", f"{ROLLOUT}.temperature=1.2"
INSTRUCT = "actor_rollout_ref.model.path=Qwen/Qwen3-0.6B"


def with_contingency(name: str, override: str) -> DictConfig:
    """The configuration of an experiment with what its record says to try."""
    assert override in {o for c in registry.load_record(name).contingency for o in c.overrides}
    return compose([f"experiment={name}", *MACHINE, override])


@pytest.fixture
def rollout_worker(monkeypatch):
    """Builds the rollout as verl's worker does; the engine in it keeps its arguments and generates nothing."""
    from verl.third_party.vllm import LLM
    from verl.workers import fsdp_workers
    from verl.workers.sharding_manager import fsdp_vllm

    def keep(engine, **arguments):
        engine.arguments = arguments

    def answer(engine, prompts, sampling_params, **_):
        engine.asked = sampling_params
        logprobs = [{7: SimpleNamespace(logprob=-1.0)}]
        tokens = [SimpleNamespace(token_ids=[7], logprobs=logprobs, finish_reason="stop")]
        return [SimpleNamespace(outputs=tokens) for _ in prompts]

    monkeypatch.setattr(LLM, "__init__", keep)
    monkeypatch.setattr(SeededLLM, "_sample_in_batches", lambda engine: None)
    monkeypatch.setattr(LLM, "generate", answer)
    monkeypatch.setattr(LLM, "sleep", lambda engine, level: None, raising=False)
    monkeypatch.setattr(LLM, "reset_prefix_cache", lambda engine: None)
    monkeypatch.setattr(fsdp_vllm, "FSDPVLLMShardingManager", lambda **_: None)
    monkeypatch.setattr(torch.distributed.device_mesh, "init_device_mesh", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 1)
    install()

    def build(config: DictConfig):
        worker = SimpleNamespace(
            config=config.actor_rollout_ref,
            world_size=1,
            tokenizer=SimpleNamespace(pad_token_id=0),
            actor_model_config=SimpleNamespace(max_position_embeddings=40960),
            actor_module_fsdp=None,
            _is_lora=False,
            _is_offload_param=False,
        )
        return fsdp_workers.ActorRolloutRefWorker._build_rollout(worker)[0]

    return build


def sampled(built, validate=False) -> list:
    """What the engine is asked for two prompts: one set of parameters each."""
    ids = torch.tensor([[0, 5], [6, 9]])
    tensors = {"input_ids": ids, "attention_mask": (ids > 0).long(), "position_ids": torch.tensor([[0, 0], [0, 1]])}
    seeds = {"seed": np.array([11, 12])}
    asked = DataProto.from_dict(tensors, seeds, meta_info={"eos_token_id": 3, "do_sample": True, "validate": validate})
    built.generate_sequences(asked)
    return built.inference_engine.asked


def test_without_a_contingency_the_engine_samples_as_the_search_did(rollout_worker):
    built = rollout_worker(compose(["experiment=v1", *MACHINE]))
    parameters = built.sampling_params
    assert (parameters.temperature, parameters.top_p, parameters.top_k) == (1.0, 1.0, -1)
    assert (parameters.repetition_penalty, parameters.n, parameters.max_tokens) == (1.0, 1, 4096)
    assert built.inference_engine.arguments["max_model_len"] == 6144


@pytest.mark.parametrize(
    "name, override, setting", [("v1", PENALTY, "repetition_penalty"), ("v0", TEMPERATURE, "temperature")]
)
def test_a_sampling_setting_reaches_every_request(rollout_worker, name, override, setting):
    built = rollout_worker(with_contingency(name, override))
    requests = sampled(built)
    assert [getattr(request, setting) for request in requests] == [1.2, 1.2]
    assert [request.seed for request in requests] == [11, 12]


def test_validation_has_its_own_temperature_but_the_penalty_too(rollout_worker):
    assert {r.temperature for r in sampled(rollout_worker(with_contingency("v0", TEMPERATURE)), True)} == {0.6}
    assert {r.repetition_penalty for r in sampled(rollout_worker(with_contingency("v1", PENALTY)), True)} == {1.2}


def test_the_instruct_model_is_what_the_engine_loads(rollout_worker):
    for name in ("v0", "v1", "v5"):
        built = rollout_worker(with_contingency(name, INSTRUCT))
        assert built.inference_engine.arguments["model"] == "Qwen/Qwen3-0.6B"


def test_the_temperature_reaches_the_trainers_log_probabilities():
    config = with_contingency("v0", TEMPERATURE)
    seen = []

    class Actor:
        world_size = 1

        def update_actor(self, batch):
            seen.append(batch.meta_info["temperature"])
            return DataProto(meta_info={"metrics": {}})

    calls = WorkerCalls(config, Actor(), None, None)
    calls.update(DataProto.from_dict({"attention_mask": torch.ones(1, 2)}))
    assert seen == [1.2]


@pytest.mark.parametrize("role", ["actor", "ref"])
def test_the_temperature_reaches_old_and_reference_log_probabilities(role):
    """verl's worker puts it into what it hands to the actor or the reference policy."""
    from verl.workers import fsdp_workers

    class Asked(Exception):
        pass

    def compute_log_prob(data, calculate_entropy):
        raise Asked(data.meta_info["temperature"])

    class Worker(fsdp_workers.ActorRolloutRefWorker):
        def __init__(self, config):
            self.config = config.actor_rollout_ref
            self._is_actor = self._is_ref = True
            self._is_lora = self._is_offload_param = False
            self.actor = self.ref_policy = SimpleNamespace(compute_log_prob=compute_log_prob)
            self.ulysses_sharding_manager = _Nothing()

    method = {"actor": "compute_log_prob", "ref": "compute_ref_log_prob"}[role]
    with pytest.raises(Asked) as asked:
        getattr(Worker(with_contingency("v0", TEMPERATURE)), method)(DataProto.from_dict({"a": torch.ones(1)}))
    assert asked.value.args == (1.2,)


class _Nothing:
    """A sharding manager of one rank."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def preprocess_data(self, data):
        return data


def test_32_responses_are_asked_of_every_prompt(monkeypatch):
    """The trainer's own round, up to the call that generates."""
    from recipes.archer.step import Step
    from recipes.archer.trainer import ArcherTrainer
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer

    class Asked(Exception):
        pass

    class Prompts:
        def __len__(self):
            return 4

        def source(self, index):
            return "sums"

        def messages(self, index):
            return [{"role": "user", "content": "?"}]

        def __getitem__(self, index):
            return {"input_ids": torch.tensor([index]), "raw_prompt_ids": [index]}

    def generate(batch, seeds, validate):
        raise Asked(batch.batch["input_ids"][:, 0].tolist(), len(set(seeds.tolist())))

    def verls_init(self, config, train_dataset, **_):
        self.config, self.train_dataset, self.use_reference_policy = config, train_dataset, True

    monkeypatch.setattr(RayPPOTrainer, "__init__", verls_init)
    config = with_contingency("v0", f"{ROLLOUT}.n=32")
    parts = dict.fromkeys(("reward", "report", "guard", "saver")) | {"stop": SimpleNamespace(check=lambda: None)}
    trainer = ArcherTrainer(config, train_dataset=Prompts(), val_dataset=Prompts(), total_steps=1, **parts)
    trainer.calls = SimpleNamespace(generate=generate)
    with pytest.raises(Asked) as asked:
        trainer._rollout(Step(1), [2, 0])
    assert asked.value.args == ([2] * 32 + [0] * 32, 64)


def test_the_entropy_bonus_reaches_the_loss():
    config = with_contingency("v1", f"{ACTOR}.entropy_coeff=0.05")
    assert loss_config_from(config.actor_rollout_ref.actor).entropy_coeff == 0.05


@pytest.fixture
def two_models(tmp_path):
    """Folders of a base and an instruct model that differ in their chat template, and prompts."""
    import json

    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "<unk>", "base:", "instruct:", "what", "is"])}
    for name in ("base", "instruct"):
        model = Tokenizer(WordLevel(words, unk_token="<unk>"))
        model.pre_tokenizer = WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", unk_token="<unk>")
        tokenizer.chat_template = name + ": {% for m in messages %}{{ m['content'] }}{% endfor %}"
        tokenizer.save_pretrained(tmp_path / name)
    prompt = [{"role": "user", "content": "what is"}]
    row = {"data_source": "s", "prompt": prompt, "reward_model": {"ground_truth": "3"}}
    (tmp_path / "data.json").write_text(json.dumps([row]))
    return tmp_path


@pytest.mark.parametrize("name", ["base", "instruct"])
def test_prompts_have_the_template_of_the_model_that_is_trained(two_models, name):
    from recipes.archer.startup.inputs import tokenizer_and_prompts

    data = [f"data.{files}_files={two_models}/data.json" for files in ("train", "val")]
    data.append("data.train_batch_size=1")
    config = compose(["experiment=v1", "device=cpu", *data, f"actor_rollout_ref.model.path={two_models}/{name}"])
    tokenizer, (train, held_out) = tokenizer_and_prompts(config)
    for prompts in (train, held_out):
        assert tokenizer.decode(prompts[0]["raw_prompt_ids"]) == f"{name}: what is"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A real engine with random weights, and the same model for the trainer's side."""
    from vllm.distributed import cleanup_dist_env_and_memory

    model, folder = small_qwen3(tied=True), tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    settings = {"skip_tokenizer_init": True, "dtype": "float32", "enforce_eager": True, "max_model_len": 64}
    yield model.eval(), SeededLLM(str(folder), max_num_batched_tokens=256, **settings)
    cleanup_dist_env_and_memory()


def _distance(engine, **sampling) -> float:
    """Greatest difference between the engine's log-probabilities of its samples and the trainer's at temperature."""
    from vllm import SamplingParams

    model, llm = engine
    batch = make_batch(model, (8,))
    prompt = batch["input_ids"][0][batch["attention_mask"][0].bool()][:-8]
    llm.request_seeds = [5]
    settings = {"max_tokens": 8, "logprobs": 0, "detokenize": False, "ignore_eos": True} | sampling
    (output,) = llm.generate([{"prompt_token_ids": prompt.tolist()}], SamplingParams(**settings), use_tqdm=False)
    tokens, entries = list(output.outputs[0].token_ids), output.outputs[0].logprobs
    ids = torch.cat([prompt, torch.tensor(tokens)])[None]
    row = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "responses": ids[:, -8:]}
    row["position_ids"] = torch.arange(ids.shape[1])[None]
    with torch.no_grad():
        expected, _ = plain_log_probs(model, row, sampling["temperature"])
    found = torch.tensor([entry[token].logprob for entry, token in zip(entries, tokens, strict=True)])
    return float((found - expected[0]).abs().max())


def test_engine_and_trainer_agree_at_another_temperature(engine):
    assert _distance(engine, temperature=1.2) < 1e-3


def test_the_trainer_does_not_know_the_repetition_penalty(engine):
    """What rollout/log_ratio shows, and the launch warns of."""
    assert _distance(engine, temperature=1.0, repetition_penalty=1.2) > 0.05
