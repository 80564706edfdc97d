"""What a run is made of before its workers start: tokenizer, prompts, grading processes, checked ground truths."""

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from recipes.archer.ending import UserError
from recipes.archer.printable import complain

DATA_FILES = ("train_files", "val_files")
NUM_NAMED = 5  # rows that a warning names, and tokens of a row


def grading_pool(config: DictConfig):
    """The grading processes, which live as long as the run; a user's reward function runs inside them."""
    from recipes.archer.grading.grader import GradingPool

    settings, custom = config.grading, config.custom_reward_function
    workers = settings.workers or min(16, max(1, (os.cpu_count() or 2) // 2))
    return GradingPool(
        workers,
        settings.timeout_s,
        answer_format=settings.answer_format,
        memory_mb=settings.memory_mb,
        score_fn=(custom.path, custom.name) if custom.path else None,
        score_fn_kwargs=custom.get("reward_kwargs"),
        data_sources=OmegaConf.to_container(settings.data_sources),
        budget_s=settings.budget_s,
        reject_restated=settings.reject_restated,
    )


def check_ground_truths(config: DictConfig, pool) -> None:
    """Every ground truth of the data can be graded against; remembered by the files' hashes.

    Raises:
        UserError: names file, row and field.
    """
    from recipes.archer.grading.grader import GroundTruthError
    from recipes.archer.grading.ground_truths import check_file

    if config.custom_reward_function.path:
        return  # what such a function takes for a ground truth is its own affair
    for files in (config.data[name] for name in DATA_FILES):
        for path in [files] if isinstance(files, str) else files:
            try:
                check_file(path, pool=pool)
            except GroundTruthError as error:
                raise UserError(str(error)) from None


def tokenizer_and_prompts(config: DictConfig):
    """Tokenizer, and the prompts to train on and to hold out; warns of prompts that are not used as they are written.

    Raises:
        UserError: the tokenizer or its chat template cannot be used, a prompt does not arrive in what the template
            makes of it, no prompt of a file fits, or they are too few for a batch.
    """
    from recipes.archer.prompts.dataset import PromptDataset
    from recipes.archer.prompts.file import PromptFileError

    model = config.actor_rollout_ref.model
    tokenizer = load_tokenizer(model.path, model.trust_remote_code)
    try:
        datasets = {name: PromptDataset(config.data[name], tokenizer, config.data) for name in DATA_FILES}
    except PromptFileError as error:
        raise UserError(str(error)) from None
    for remark in _remarks(config.data, datasets):
        complain(f"warning: {remark}")
    for remark in _on_length(config, len(datasets["train_files"])):
        complain(f"warning: {remark}")
    return tokenizer, list(datasets.values())


def load_tokenizer(folder: str, trust_remote_code: bool):
    """The tokenizer of a model folder, whose settings the workers will be able to read as well.

    ``trust_remote_code`` is said in every call: left out, transformers asks whoever sits at the terminal.

    Raises:
        UserError: it cannot be used.
    """
    from transformers import AutoConfig

    from recipes.archer.prompts.rendering import quoted, render
    from verl.utils import hf_tokenizer

    what = "config.json"
    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        what = "tokenizer"
        tokenizer = hf_tokenizer(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever files may hold
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _unusable(folder, what, quoted(reason), "trust_remote_code" in str(error)) from None
    fault = next(render(tokenizer, [[{"role": "user", "content": "1 + 1?"}]])).fault
    if fault is not None:
        raise _unusable(folder, what, fault)
    return tokenizer


def _unusable(folder: str, what: str, reason: str, needs_code: bool = False) -> UserError:
    from recipes.archer.settings.model_folder import remedy

    if needs_code:
        return UserError(
            f"model folder {folder}: its {what} needs code that comes with it, which is not run; use a model that "
            "transformers knows, or read the code and set actor_rollout_ref.model.trust_remote_code=true"
        )
    problem = f"model folder {folder}: its {what} cannot be used ({reason})"
    return UserError(f"{problem}; {remedy(Path(folder))}")


def _remarks(settings: DictConfig, datasets: dict) -> list[str]:
    """What of the prompts is not used as it is written, a line each."""
    from recipes.archer.prompts.rendering import quoted

    remarks = []
    if any(dataset.num_too_long for dataset in datasets.values()):
        numbers = ", ".join(
            f"{dataset.num_too_long} of {dataset.num_prompts} prompts of data.{name}"
            for name, dataset in datasets.items()
        )
        done = "left out" if settings.filter_overlong_prompts else f"cut, data.truncation={settings.truncation}"
        remarks.append(f"longer than data.max_prompt_length={settings.max_prompt_length} tokens and {done}: {numbers}")
    for name, dataset in datasets.items():
        found = dataset.with_control_tokens
        named = [
            f"{place} ({', '.join(map(quoted, tokens[:NUM_NAMED]))})"
            for place, tokens in list(found.items())[:NUM_NAMED]
        ]
        if found:
            more = f"; and {len(found) - NUM_NAMED} more" if len(found) > NUM_NAMED else ""
            remarks.append(
                f"data.{name}: {len(found)} of {dataset.num_prompts} prompts hold text that the model reads as control "
                f"tokens: {'; '.join(named)}{more}; correct these rows unless it is meant"
            )
    return remarks


def _on_length(config: DictConfig, num_prompts: int) -> list[str]:
    """A run that ends before the steps that it was given: its schedule and its progress go by these."""
    trainer, planned = config.trainer, planned_steps(config, num_prompts)
    held = _held_by_epochs(config, num_prompts)
    if planned <= held:
        return []
    return [
        f"trainer.total_training_steps={planned} is more than the {held} that trainer.total_epochs="
        f"{trainer.total_epochs} holds with {num_prompts} prompts: the run ends there; raise trainer.total_epochs"
    ]


def planned_steps(config: DictConfig, num_prompts: int) -> int:
    """Steps of the whole run: ``trainer.total_training_steps``, or those of its epochs.

    Raises:
        UserError: the prompts that fit do not fill a batch.
    """
    batch = config.data.train_batch_size
    if batch > num_prompts:
        raise UserError(
            f"data.train_batch_size={batch} is more than the {num_prompts} prompts of data.train_files that fit "
            "data.max_prompt_length; lower it"
        )
    return config.trainer.total_training_steps or _held_by_epochs(config, num_prompts)


def _held_by_epochs(config: DictConfig, num_prompts: int) -> int:
    return num_prompts * config.trainer.total_epochs // config.data.train_batch_size
