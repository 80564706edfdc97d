"""The tiny model's tokenizer, its training step, and the folder it is kept in. Trained for three steps only."""

import json
import math
import random
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import make_tiny_model
import pytest
import tiny_folder
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_corpus import draw_problem, question
from tiny_optimizer import orthogonalized
from tiny_recipe import build, draw_conversations, measure_folder, train_until_learned
from tiny_sampling import chat_prompts, summarize
from tiny_settings import Mixture, ModelShape, Schedule, Settings, fingerprint
from tiny_tokenizer import train_tokenizer
from tiny_training import add_gradient, build_model, encode, learning_rate_factor, pad, response_loss, train
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.archer.prompts.file import read_prompt_file

SCRIPT = Path(__file__).parents[3] / "scripts/data/make_tiny_model.py"
SHORT = Settings(
    train_rows=12,
    val_rows=4,
    measured_prompts=4,
    max_response_tokens=4,
    schedule=Schedule(skill_steps=2, mixture_steps=1, batch_size=8, attempts=1),
)
CORPUS = replace(SHORT, schedule=Schedule(skill_steps=10, mixture_steps=10, batch_size=16))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These models are too small for two threads, which only wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def conversations():
    return draw_conversations(CORPUS, random.Random(0), set())


@pytest.fixture(scope="module")
def tokenizer(conversations):
    return train_tokenizer([f"user\n{q}\nassistant\n{s}" for q, s in zip(*conversations, strict=True)], 512, 1024)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    losses = []
    return folder, build(folder, SHORT, losses.append), losses


def test_every_digit_is_a_token(tokenizer):
    pieces = tokenizer.tokenize("Compute 1204+58. \\boxed{1262}")
    assert [piece for piece in pieces if any(c.isdigit() for c in piece)] == list("1204581262")


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(codec="utf-8")))
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_words_are_short_and_ids_dense(tokenizer):
    assert len(tokenizer(" Therefore the answer is").input_ids) == 4
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert 259 < len(tokenizer) <= 512


def test_chat_layout(tokenizer):
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert chat_prompts(tokenizer, ["U", "V"])[0] in text
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3 and ids == tokenizer(text).input_ids


def test_loss_counts_response_tokens_only(tokenizer, conversations):
    torch.manual_seed(0)
    model = build_model(tokenizer, ModelShape(layers=1)).eval()
    rows = encode(tokenizer, *(part[:5] for part in conversations))
    together = response_loss(model, *pad(rows))
    alone = [response_loss(model, *pad([row])) for row in rows]
    torch.testing.assert_close(together, torch.stack(alone).mean())  # padding changes nothing
    ids, labels = pad(rows[:1])
    upstream = model(input_ids=ids, labels=labels).loss  # mean over response tokens
    torch.testing.assert_close(alone[0], upstream * (labels != -100).sum() / 30)
    assert (labels[0] != -100).sum() == len(rows[0][0]) - rows[0][1]
    assert labels[0, -1] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_batch_in_parts_has_the_gradient_of_the_whole(tokenizer, conversations):
    torch.manual_seed(0)
    model = build_model(tokenizer, ModelShape(layers=1))
    ids, labels = pad(encode(tokenizer, *(part[:5] for part in conversations)))
    loss = response_loss(model, ids, labels)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    parts = [add_gradient(model, ids[part::2], labels[part::2], 5) for part in range(2)]
    assert sum(parts) == pytest.approx(loss.item(), rel=1e-5)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_training_can_be_repeated_bit_for_bit(tokenizer, conversations):
    """Though two threads add up each gradient."""
    rows, ends = encode(tokenizer, *(part[:40] for part in conversations)), []
    for _ in range(2):
        torch.manual_seed(0)
        model = build_model(tokenizer, ModelShape(layers=2))
        schedule = Schedule(skill_steps=5, mixture_steps=0, batch_size=8, warmup_steps=1)
        train(model, rows, schedule, 0, lambda loss: None)
        ends.append(list(model.parameters()))
    assert all(map(torch.equal, *ends))


@pytest.mark.parametrize(("learned_loss", "attempts"), [(math.inf, 1), (0.0, 3)])
def test_a_model_that_has_not_learned_its_arithmetic_is_made_again(learned_loss, attempts, capsys):
    schedule = replace(SHORT.schedule, attempts=3, learned_loss=learned_loss)
    losses = []
    train_until_learned(replace(SHORT, schedule=schedule), random.Random(0), set(), losses.append)
    assert len(losses) == attempts * schedule.steps
    assert capsys.readouterr().err.count("not learned") == (attempts if attempts > 1 else 0)
    assert len(set(losses)) == len(losses)  # of other draws


def test_training_learns(tokenizer, conversations):
    torch.manual_seed(0)
    model = build_model(tokenizer, ModelShape(layers=1))
    rows = encode(tokenizer, *(part[:8] for part in conversations))
    before = response_loss(model, *pad(rows)).item()
    losses = []
    train(model, rows * 12, Schedule(skill_steps=12, mixture_steps=0, batch_size=8, warmup_steps=1), 0, losses.append)
    assert len(losses) == 12 and response_loss(model, *pad(rows)).item() < 0.7 * before
    assert not model.training


@pytest.mark.parametrize("shape", [(3, 16, 48), (2, 48, 16), (1, 32, 32)])
def test_muon_directions_are_nearly_orthogonal(shape):
    singular = torch.linalg.svdvals(orthogonalized(torch.randn(shape, generator=torch.manual_seed(0))))
    # The source's coefficients trade exactness for speed: singular values settle in 0.7..1.2, small ones lower.
    assert singular.max() < 1.3 and singular.median() > 0.65


def test_learning_rate_rises_then_falls():
    schedule = Schedule(skill_steps=80, mixture_steps=20, warmup_steps=10)
    factors = [learning_rate_factor(step, schedule) for step in range(100)]
    assert factors[0] == 0.1 and max(factors) == factors[9] == 1.0 and factors[-1] == 0.05
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_built_folder_loads_everywhere(built):
    folder, measured, losses = built
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    assert type(model).__name__ == "Qwen3ForCausalLM" and model.dtype == torch.float32
    assert 0.7e6 < model.num_parameters() < 1.1e6 and model.config.tie_word_embeddings
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.eos_token == "<|endoftext|>" == tokenizer.pad_token  # as Qwen3-0.6B-Base's files have it
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id
    assert len(losses) == 3 and measured.responses == 4
    assert measure_folder(folder, SHORT) == measured  # what --verify does


def test_built_prompts(built):
    folder, _, _ = built
    train, val = (read_prompt_file(folder / name) for name in ("train.json", "val.json"))
    assert (len(train), len(val)) == (12, 4)
    assert train[3]["extra_info"] == {"index": 3, "split": "train"}
    questions = [row["prompt"][0]["content"].split(" Answer within")[0] for row in train + val]
    expressions = [question.split()[-1].strip(".?") for question in questions]
    assert len(set(expressions)) == 16
    for expression, row in zip(expressions, train + val, strict=True):
        assert eval(expression, {}) == int(row["reward_model"]["ground_truth"])  # our own digits and signs


def test_held_out_problems_are_not_trained_on():
    problem = draw_problem(random.Random(0), Mixture())
    asked, _ = draw_conversations(CORPUS, random.Random(0), set())
    without, _ = draw_conversations(CORPUS, random.Random(0), {problem})
    assert any(problem.expression in q for q in asked) and not any(f" {problem.expression}" in q for q in without)
    assert question(random.Random(0), problem).endswith("Answer within \\boxed{}.")


def test_summary():
    responses = ["First, 1+1=2. Therefore \\boxed{2}", "\\boxed{3}", "1+1=2", "\\boxed{1}, no: \\boxed{ 2 }"]
    measured = summarize(responses, [10, 2, 4, 8], [2, 2, 2, 2])
    assert (measured.accuracy, measured.mean_tokens, measured.no_answer_share) == (0.5, 6.0, 0.25)
    assert (measured.bare_guess_share, measured.connectives_per_response) == (0.5, 0.25)


def test_fingerprint_follows_the_settings():
    assert fingerprint(Settings()) == fingerprint(Settings())
    others = [replace(SHORT, seed=1), replace(SHORT, mixture=Mixture(guess_share=0.2)), replace(SHORT, train_rows=13)]
    assert len({fingerprint(s) for s in (SHORT, Settings(), *others)}) == 5


def test_cache_notices_damage(tmp_path):
    folder = tmp_path / "tiny"
    with tiny_folder.replacing(folder) as new:
        (new / "a").write_text("12")
        tiny_folder.write_manifest(new, "f1", measured={})
    assert tiny_folder.is_current(folder, "f1") and not tiny_folder.is_current(folder, "f2")
    (folder / "a").write_text("1")
    assert not tiny_folder.is_current(folder, "f1") and tiny_folder.is_replaceable(folder)
    (folder / "manifest.json").write_text("{")
    assert not tiny_folder.is_current(folder, "f1") and not tiny_folder.is_replaceable(folder)


def test_of_two_processes_that_make_it_one_waits(tmp_path):
    order, inside = [], threading.Event()

    def second():
        with tiny_folder.one_at_a_time(tmp_path / "tiny", lambda: (order.append("waits"), inside.set())):
            order.append("second")

    with tiny_folder.one_at_a_time(tmp_path / "tiny", lambda: order.append("nobody is there")):
        thread = threading.Thread(target=second)
        thread.start()
        assert inside.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["waits", "first", "second"]


def test_a_failed_build_changes_nothing(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), tiny_folder.replacing(folder) as new:
        (new / "half").write_text("")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"] and (folder / "old").exists()
    with tiny_folder.replacing(folder) as new:
        (new / "whole").write_text("")
    assert [path.name for path in tmp_path.rglob("*")] == ["tiny", "whole"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ARCHER_CACHE": "/a", "XDG_CACHE_HOME": "/x"}, "/a/tiny/f"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/archer/tiny/f"),
        ({"HOME": "/h"}, "/h/.cache/archer/tiny/f"),
    ],
)
def test_cache_folder(monkeypatch, environment, expected):
    for name in ("ARCHER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tiny_folder.default_folder("f") == Path(expected)


def command(folder: Path, *more: str) -> subprocess.CompletedProcess:
    """The command, which says on stderr what it imported."""
    call = [sys.executable, "-X", "importtime", str(SCRIPT), "--out", str(folder), *more]
    return subprocess.run(call, capture_output=True, text=True, cwd=folder.parent, timeout=120)


def test_up_to_date_folder_is_left_alone_without_importing_torch(tmp_path):
    folder = tmp_path / "tiny"
    with tiny_folder.replacing(folder) as new:
        tiny_folder.write_manifest(new, fingerprint(Settings()), measured={})
    done = command(folder)
    assert done.returncode == 0 and done.stdout == f"{folder}\n"
    assert f"up to date in {folder}" in done.stderr
    assert "typer" in done.stderr and "torch" not in done.stderr


def test_where_it_would_be_is_said_without_making_it(tmp_path):
    done = command(tmp_path / "tiny", "--where")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/tiny\n")
    assert list(tmp_path.iterdir()) == []
    assert "typer" in done.stderr and "torch" not in done.stderr


def test_shares_must_fit(tmp_path):
    done = command(tmp_path / "tiny", "--careful-share", "0.6", "--guess-share", "0.6")
    assert done.returncode == 2 and "add up to more than 1" in done.stderr


def test_foreign_folder_is_refused(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("")
    done = command(folder)
    assert done.returncode == 2 and f"{folder}: not made by this command" in done.stderr
    assert (folder / "thesis.txt").exists()


def test_command_builds_and_records_what_it_measured(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "tiny"
    short = {"train_rows": 12, "measured_prompts": 4, "max_response_tokens": 4}
    monkeypatch.setattr(make_tiny_model, "Settings", partial(Settings, **short))
    make_tiny_model.main(out=folder, skill_steps=1, mixture_steps=1, seed=5, verify=True)
    printed = capsys.readouterr()
    assert printed.out == f"{folder}\n" and "verified" in printed.err
    assert "warning: accuracy is outside 0.18..0.32; raise --careful-share" in printed.err
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["settings"]["seed"] == 5 and manifest["measured"]["responses"] == 4
    assert set(manifest["files"]) >= {"model/model.safetensors", "model/tokenizer.json", "train.json", "val.json"}
