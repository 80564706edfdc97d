"""What an evaluation is of: a model, a file of questions, how responses are drawn and graded.

All of it goes into a digest, which is a part of the folder's name: the same command finds its own results again, and
one that differs in anything never mixes with them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PARTS = (".json", ".safetensors", ".bin", ".txt", ".model", ".jinja")  # of a model folder: what the engine reads
_PACKAGES = ("vllm", "torch", "transformers", "math-verify")


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn.

    Attributes:
        n: responses a question.
        temperature: 0 is greedy.
        top_p: in (0, 1].
        max_tokens: the cap of a response.
        seed: from which, with question and sample, each response's own seed follows.
    """

    n: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """Everything that a result depends on.

    Attributes:
        model: hash of the model's content; see :func:`model_digest`.
        data: hash of the file of questions.
        stop_token_ids: at which a response ends.
        grading: answer format, and the user's reward functions where there are any.
        device: ``cpu`` (full precision) or ``cuda`` (bfloat16).
    """

    model: str
    data: str
    sampling: Sampling
    stop_token_ids: tuple[int, ...]
    grading: Mapping[str, Any]
    device: str

    @property
    def facts(self) -> dict[str, Any]:
        """The plan with the versions it is carried out by, as JSON has it."""
        content = asdict(self) | {"stop_token_ids": list(self.stop_token_ids), "versions": _versions()}
        plain: dict[str, Any] = json.loads(json.dumps(content, sort_keys=True))
        return plain

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that stand for all facts."""
        return digest_of(self.facts)

    def folder_name(self, data_name: str) -> str:
        """Of the results: the file's name, the number of samples, the digest."""
        return f"{data_name}-n{self.sampling.n}-{self.digest}"


def digest_of(facts: Any) -> str:
    """Eight hexadecimal digits that stand for facts, which JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def apart_from_model(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Of a plan's facts those that the steps of a run share: what was asked, and how."""
    return {name: value for name, value in plan.items() if name != "model"}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the files from which an engine makes a model and its tokenizer.

    Raises:
        OSError: one cannot be read.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in _PARTS and path.is_file())
    listed = [f"{path.name} {file_digest(path)}" for path in files]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def _versions() -> dict[str, str]:
    """A result moves with them, so that it is no longer the same evaluation."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
