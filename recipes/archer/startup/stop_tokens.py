"""The run's stop tokens: found, told, and given to everything that goes by them."""

from pathlib import Path

from omegaconf import DictConfig, open_dict

from recipes.archer.ending import UserError
from recipes.archer.printable import complain, say
from recipes.archer.reading.json import read_json
from recipes.archer.reading.regular import UnreadableError
from recipes.archer.rollout.stop_tokens import StopTokenError, StopTokens, TurnError, find_stop_tokens, named
from recipes.archer.settings.model_folder import model_settings

SETTING = "actor_rollout_ref.rollout"


def settle_stop_tokens(config: DictConfig, tokenizer) -> None:
    """Finds the stop tokens, says which they are, and makes them ``rollout.stop_token_ids``, by which workers go.

    Raises:
        UserError: there are none, or a file of the model or a setting names what is no token.
    """
    folder, rollout = Path(config.actor_rollout_ref.model.path), config.actor_rollout_ref.rollout
    found = stop_tokens_of(folder, model_settings(folder), rollout, tokenizer)
    say(f"responses end at {named(tokenizer, found.ids)}", flush=True)
    if found.unnamed:
        token = named(tokenizer, [found.turn_end])
        own = f"the chat template closes a turn with {token}, which the model's own files do not name as an end"
        done = (
            f"the run stops there all the same ({SETTING}.stop_at_turn_end)"
            if found.turn_end in found.ids
            else f"responses run on after the answer, to the cap; {SETTING}.stop_at_turn_end=true ends them there"
        )
        complain(f"warning: {own}: {done}")
    with open_dict(rollout):
        rollout.stop_token_ids = list(found.ids)


def stop_tokens_of(folder: Path, settings: dict, rollout: DictConfig, tokenizer) -> StopTokens:
    """The stop tokens of a model under the settings of a ``rollout``; there is at least one.

    Args:
        folder: of the model's files, with its weights or without.
        settings: its config.json.

    Raises:
        UserError: there are none, or a file of the model or a setting names what is no token.
    """
    found = _found(folder, settings, rollout, tokenizer)
    if not found.ids:
        raise UserError(
            f"model folder {folder} names no token that ends a response, neither in config.json and "
            f"generation_config.json nor in its tokenizer or chat template; set {SETTING}.stop_token_ids=[ID]"
        )
    return found


def _found(folder: Path, settings: dict, rollout: DictConfig, tokenizer) -> StopTokens:
    files = {"config.json": settings, "generation_config.json": _generation_settings(folder)}
    vocab_size = max(int(settings.get("vocab_size") or 0), len(tokenizer))
    options = {"at_turn_end": rollout.stop_at_turn_end, "by_hand": rollout.stop_token_ids or ()}
    try:
        return find_stop_tokens(tokenizer, files, vocab_size=vocab_size, **options)
    except StopTokenError as error:
        raise UserError(f"model folder {folder}: {error}") from None
    except TurnError as error:
        raise UserError(
            f"model folder {folder}: its chat template cannot render an assistant's turn ({error}); set "
            f"{SETTING}.stop_at_turn_end=false and name the end in {SETTING}.stop_token_ids"
        ) from None


def _generation_settings(folder: Path) -> dict:
    path = folder / "generation_config.json"
    try:
        settings: dict = read_json(path)
    except UnreadableError as error:
        if error.absent:
            return {}
        raise UserError(f"{error}; fetch it again") from None
    return settings
