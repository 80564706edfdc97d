"""Names of a run: folders under ``trainer.output_dir``, and what W&B calls it."""

import re

from omegaconf import DictConfig

from recipes.archer.ending import UserError

NAMES = ("trainer.project_name", "trainer.experiment_name")
LONGEST_FILE_NAME = 255  # bytes; Linux'
LONGEST_WANDB_NAME = 128  # characters
REFUSED_BY_WANDB = "/\\#?%:"  # in a project's name: validate_project of wandb/sdk/wandb_settings.py
# a plain word, which Hydra may read as a number or a truth value; null stays null
_PLAIN = re.compile(rf"(\+{{0,2}}(?:{'|'.join(map(re.escape, NAMES))}))=(?!null$)([\w.+-]+)", re.IGNORECASE)


def quoted_names(overrides: list[str]) -> list[str]:
    """The overrides, with quotation marks around names that Hydra would make a number of: ``20261128``, ``1e5``."""
    return [f"{match[1]}='{match[2]}'" if (match := _PLAIN.fullmatch(word)) else word for word in overrides]


def check_names(config: DictConfig) -> None:
    """A run's names are folders below ``trainer.output_dir``; where W&B gets them, names that it takes.

    Raises:
        UserError: names the setting, what is wrong with it, and the remedy.
    """
    for setting in NAMES:
        name = config.trainer[setting.partition(".")[2]]
        for folder in name.split("/"):
            if problem := _problem(folder):
                raise UserError(f"{setting}={name!r}: {problem}; use letters, digits, '.', '_' and '-'")
        if "wandb" not in config.trainer.logger:
            continue
        if found := [character for character in REFUSED_BY_WANDB if character in name]:
            raise UserError(
                f"{setting}={name!r}: W&B takes no {found[0]} in a name; use another character, or leave wandb out of "
                "trainer.logger"
            )
        if len(name) > LONGEST_WANDB_NAME:
            raise UserError(
                f"{setting} has {len(name)} characters, W&B takes {LONGEST_WANDB_NAME}; shorten it, or leave wandb out "
                "of trainer.logger"
            )


def _problem(folder: str) -> str | None:
    """What keeps a text from being the name of a folder of ours."""
    if not folder.strip():
        return "an empty name is no folder's"
    if folder[0] in ".-":
        return f"a folder whose name begins with {folder[0]} is hidden, is another one, or reads as an option"
    if not folder.isprintable():
        return "it holds a character that cannot be printed"
    if len(folder.encode(errors="surrogatepass")) > LONGEST_FILE_NAME:
        return f"it has more than the {LONGEST_FILE_NAME} bytes that a folder's name can have"
    return None
