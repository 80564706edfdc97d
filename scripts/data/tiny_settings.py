"""Every number behind the tiny base model, and their fingerprint. Nothing heavy is imported here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

SOURCES = tuple(
    f"tiny_{part}.py" for part in ("corpus", "optimizer", "recipe", "sampling", "settings", "tokenizer", "training")
)


@dataclass(frozen=True)
class Mixture:
    """What the corpus is made of; shares and rates are probabilities in [0, 1]."""

    careful_share: float = 0.14
    guess_share: float = 0.18  # the rest, 1 - careful_share - guess_share, is hasty
    careful_slip_rate: float = 0.03  # one step off by 1, 2 or 10
    hasty_slip_rate: float = 0.05
    hasty_skip_rate: float = 0.88  # leaves out the last term
    guess_right_rate: float = 0.06
    tens_share: float = 0.3  # of the terms after the first: 10, 20 or 30; the others are 2..9
    max_total: int = 99  # running totals stay in 0..max_total
    term_counts: tuple[int, ...] = (3, 4, 5)


@dataclass(frozen=True)
class ModelShape:
    """About 0.84 M parameters with a vocabulary near 400."""

    hidden_size: int = 128
    intermediate_size: int = 384
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    context: int = 1024


@dataclass(frozen=True)
class Schedule:
    """How it is trained: steps of `batch_size` conversations each."""

    skill_steps: int = 640  # on mostly careful solutions, to learn the arithmetic
    mixture_steps: int = 80  # then on the mixture, to take on its manners
    skill_share: float = 0.95  # the careful share in the skill steps
    batch_size: int = 16
    matrix_lr: float = 0.025  # Muon, hidden matrices
    lr: float = 5e-3  # AdamW, embedding and norms
    warmup_steps: int = 20
    learned_loss: float = 0.28  # at most, at the end of the skill steps, of a model that has learned its arithmetic
    attempts: int = 3  # at that; good ones come to 0.23 to 0.26, bad ones to 0.3 and above

    @property
    def steps(self) -> int:
        return self.skill_steps + self.mixture_steps


@dataclass(frozen=True)
class Settings:
    """All of it; `max_vocab` counts 256 bytes, 3 special tokens and merges."""

    seed: int = 0
    max_vocab: int = 512
    train_rows: int = 2000
    val_rows: int = 64
    measured_prompts: int = 256
    max_response_tokens: int = 96
    mixture: Mixture = field(default_factory=Mixture)
    shape: ModelShape = field(default_factory=ModelShape)
    schedule: Schedule = field(default_factory=Schedule)

    def as_dict(self) -> dict:
        """The settings as JSON would give them back."""
        return json.loads(json.dumps(asdict(self)))


def fingerprint(settings: Settings) -> str:
    """16 hex digits that change with any setting and with any byte of the code that builds the model."""
    digest = hashlib.sha256(json.dumps(settings.as_dict(), sort_keys=True).encode())
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:16]
