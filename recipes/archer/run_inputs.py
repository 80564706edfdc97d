"""What a run is made of before its workers start: tokenizer, prompts, grading processes, checked ground truths."""

import os

from omegaconf import DictConfig, OmegaConf

from recipes.archer.ending import UserError

DATA_FILES = ("train_files", "val_files")


def grading_pool(config: DictConfig):
    """The grading processes, which live as long as the run; a user's reward function runs inside them."""
    from recipes.archer.grading import GradingPool

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
    )


def check_ground_truths(config: DictConfig, pool) -> None:
    """Every ground truth of the data can be graded against; remembered by the files' hashes.

    Raises:
        UserError: names file, row and field.
    """
    from recipes.archer.grading import GroundTruthError
    from recipes.archer.ground_truth_check import check_file

    if config.custom_reward_function.path:
        return  # what such a function takes for a ground truth is its own affair
    for files in (config.data[name] for name in DATA_FILES):
        for path in [files] if isinstance(files, str) else files:
            try:
                check_file(path, pool=pool)
            except GroundTruthError as error:
                raise UserError(str(error)) from None


def tokenizer_and_prompts(config: DictConfig):
    """Tokenizer, and the prompts to train on and to hold out.

    Raises:
        UserError: no prompt of a file can be used.
    """
    from recipes.archer.prompt_file import PromptFileError
    from recipes.archer.prompts import PromptDataset
    from verl.utils import hf_tokenizer

    tokenizer = hf_tokenizer(config.actor_rollout_ref.model.path)
    try:
        return tokenizer, [PromptDataset(config.data[name], tokenizer, config.data) for name in DATA_FILES]
    except PromptFileError as error:
        raise UserError(str(error)) from None
