"""Whether an exported model says what its checkpoint says: greedy responses, token by token."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recipes.archer.ending import UserError
from recipes.archer.export.tensors import HEAD, OWN, ModelTensors

QUESTIONS = ("What is 17 + 25?", "Solve x + 3 = 10 for x.", "What is the sum of the first ten odd numbers?")
MAX_TOKENS = 48


def check_generation(checkpoint: Path, folder: Path) -> int:
    """Lets transformers answer a few questions greedily, from the folder and from the checkpoint's own parameters.

    Memory holds one model at a time.

    Returns:
        How many tokens were compared.

    Raises:
        UserError: transformers does not load the folder, lacks or ignores parameters of it, or other tokens come out.
    """
    from transformers import AutoTokenizer

    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            prompts = [_prompt(tokenizer, question) for question in QUESTIONS]
            model = _exported(folder)
        except UserError:
            raise
        except Exception as error:  # whatever a stranger's settings or chat template make transformers do
            raise UserError(f"transformers does not load {folder}: {_first_line(error)!a:.200}") from None
        exported = _responses(model, prompts)
        settings, dtype = model.generation_config, model.dtype
        del model
        model = _from_checkpoint(checkpoint, dtype)
        model.generation_config = settings
        expected = _responses(model, prompts)
    if exported != expected:
        wrong = next(i for i in range(len(prompts)) if exported[i] != expected[i])
        raise UserError(f"{folder} answers {QUESTIONS[wrong]!r} otherwise than checkpoint {checkpoint}: export again")
    return sum(map(len, exported))


def _exported(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model, told = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype="auto", local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if told[kind]:
            what = kind.replace("_", " ")
            raise UserError(f"transformers finds {len(told[kind])} {what} in {folder}, such as {told[kind][0]}")
    return model.eval()


def _from_checkpoint(checkpoint: Path, dtype: torch.dtype) -> Any:
    """With nothing of the export's: settings and every parameter straight from the checkpoint."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(checkpoint / OWN, local_files_only=True, trust_remote_code=False)
    tensors = ModelTensors(checkpoint)
    model = AutoModelForCausalLM.from_config(config, torch_dtype=dtype, trust_remote_code=False)
    own = model.state_dict()
    if lacking := sorted(set(own) - set(tensors) - {HEAD}):
        raise UserError(f"checkpoint {checkpoint} lacks {lacking[0]} of the model")
    with torch.no_grad():
        for name in tensors:
            own[name].copy_(tensors.read(name, dtype))
    return model.eval()


def _prompt(tokenizer: Any, question: str) -> torch.Tensor:
    messages = [{"role": "user", "content": question}]
    if tokenizer.chat_template:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    else:
        ids = tokenizer(question).input_ids
    return torch.tensor([ids])


def _responses(model: Any, prompts: list[torch.Tensor]) -> list[list[int]]:
    with torch.inference_mode():
        found = [model.generate(p, attention_mask=torch.ones_like(p), max_new_tokens=MAX_TOKENS, do_sample=False,
                                temperature=None, top_p=None, top_k=None) for p in prompts]  # fmt: skip
    return [ids[0, prompt.shape[1] :].tolist() for ids, prompt in zip(found, prompts, strict=True)]


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers has opinions on settings that are not its own."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
