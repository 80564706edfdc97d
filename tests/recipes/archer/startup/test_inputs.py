"""What a run is made of: a tokenizer or prompts that cannot be used are refused in one line, before Ray starts."""

import ast
import contextlib
import json
import os
import pty
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from recipes.archer.ending import UserError
from recipes.archer.prompts import rendering
from recipes.archer.settings.checks import check_settings
from recipes.archer.settings.configuration import compose
from recipes.archer.startup.inputs import check_ground_truths, grading_pool, planned_steps, tokenizer_and_prompts

TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


@pytest.fixture(scope="module")
def tiny():
    overrides = ["experiment=tiny", "device=cpu", "data.train_files=a", "data.val_files=b", "data.train_batch_size=2"]
    return compose([*overrides, "actor_rollout_ref.model.path=m", "actor_rollout_ref.actor.ppo_mini_batch_size=2"])


@pytest.fixture
def config(tiny, tmp_path):
    """A tokenizer that knows one word, and three prompts of one, two and three of it."""
    tokens = Tokenizer(WordLevel({"?": 0, "one": 1}, unk_token="?"))
    tokens.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="?", pad_token="?", eos_token="?")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    rows = [
        {
            "data_source": "words",
            "prompt": [{"role": "user", "content": "one"}] * number,
            "reward_model": {"ground_truth": "1"},
        }
        for number in (1, 2, 3)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    files = [f"data.{name}_files={tmp_path}/rows.json" for name in ("train", "val")]
    return OmegaConf.merge(tiny, OmegaConf.from_dotlist([f"actor_rollout_ref.model.path={tmp_path}", *files]))


def set_template(folder, template: str | None) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    (folder / "chat_template.jinja").unlink(missing_ok=True)


def refusal(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tokenizer_and_prompts(config):
    tokenizer, (train, val) = tokenizer_and_prompts(config)
    assert len(train) == len(val) == 3 and tokenizer.eos_token == "?"


def test_a_tokenizer_that_cannot_be_read(config, tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    message = refusal(lambda: tokenizer_and_prompts(config))
    assert message.startswith(f"model folder {tmp_path}: its tokenizer cannot be used (") and "MODEL_PATH" in message


@pytest.mark.parametrize("template", [None, "{{ raise_exception('never') }}", "{% if %}"])
def test_a_tokenizer_without_a_chat_template_that_works(config, tmp_path, template):
    set_template(tmp_path, template)
    assert "its tokenizer cannot be used (" in refusal(lambda: tokenizer_and_prompts(config))


def test_a_template_that_does_not_end(config, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "DEADLINE_S", 0.3)
    set_template(tmp_path, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    message = refusal(lambda: tokenizer_and_prompts(config))
    assert f"{tmp_path}: its tokenizer cannot be used (it does not come to an end in 0.3 s)" in message


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_prompt_that_does_not_arrive(config, tmp_path, name):
    """A role that the template does not know gives an empty prompt in silence."""
    set_template(tmp_path, "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    rows = json.loads((tmp_path / "rows.json").read_text())
    rows[2]["prompt"] = [{"role": "human", "content": "one"}]
    (tmp_path / "bad.json").write_text(json.dumps(rows))
    config.data[f"{name}_files"] = [f"{tmp_path}/rows.json", f"{tmp_path}/bad.json"]
    message = refusal(lambda: tokenizer_and_prompts(config))
    assert message.startswith(f"{tmp_path}/bad.json, row 3: prompt[0].content: is not, as it is written, in what")


def test_nothing_is_said_of_prompts_that_are_used_as_they_are(config, capsys):
    tokenizer_and_prompts(config)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "done"),
    [({}, "left out"), ({"filter_overlong_prompts": False, "truncation": "right"}, "cut, data.truncation=right")],
)
def test_one_line_says_how_many_prompts_are_too_long(config, tmp_path, capsys, settings, done):
    (tmp_path / "val.json").write_text(json.dumps(json.loads((tmp_path / "rows.json").read_text())[:1] * 4))
    config.data.max_prompt_length, config.data.val_files = 1, f"{tmp_path}/val.json"
    config.data.update({"train_batch_size": 1, **settings})
    tokenizer_and_prompts(config)
    assert capsys.readouterr().err == (
        f"warning: longer than data.max_prompt_length=1 tokens and {done}: 2 of 3 prompts of data.train_files, 0 of 4 "
        "prompts of data.val_files\n"
    )


def test_control_tokens_are_named_by_row(config, tmp_path, capsys):
    rows = json.loads((tmp_path / "rows.json").read_text())
    for row in rows:
        row["prompt"] = [{"role": "user", "content": "one?"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows * 3))
    tokenizer_and_prompts(config)
    train, val = capsys.readouterr().err.splitlines()
    named = "; ".join(f"{tmp_path}/rows.json, row {number} ('?')" for number in range(1, 6))
    assert val == (
        "warning: data.val_files: 9 of 9 prompts hold text that the model reads as control tokens: "
        f"{named}; and 4 more; correct these rows unless it is meant"
    )
    assert train == val.replace("val_files", "train_files")


CODE = """
from pathlib import Path
(Path(__file__).parent / "ran").touch()
raise SystemExit("the code of the folder runs")
"""
FILES = {
    "settings of an unknown model": (
        "config.json",
        {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    ),
    "a tokenizer": ("tokenizer_config.json", {"AutoTokenizer": ["code.Tokenizer", None]}),
}


@pytest.mark.parametrize("kind", FILES)
def test_code_of_a_model_folder_is_neither_run_nor_asked_about(config, tmp_path, kind):
    """Also where somebody sits at a terminal, who would be asked and might say yes."""
    name, classes = FILES[kind]
    kinds = {"config.json": {"model_type": "unheard-of"}, "tokenizer_config.json": {"tokenizer_class": "Unheard"}}
    settings = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps(settings | kinds[name] | {"auto_map": classes}))
    (tmp_path / "code.py").write_text(CODE)
    process, terminal = pty.fork()
    if process == 0:
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115  (not pytest's)
        try:
            message = refusal(lambda: tokenizer_and_prompts(config))
        except BaseException as error:
            message = f"no refusal but {error!r}"
        (tmp_path / "said").write_text(message)
        os._exit(0)
    said = b""
    with contextlib.suppress(OSError), open(terminal, "rb", buffering=0) as screen:  # EIO: nobody is left there
        while part := screen.read(4096):
            said += part
            if b"[y/N]" in said:
                os.write(terminal, b"y\n")
    os.waitpid(process, 0)
    assert b"[y/N]" not in said and not (tmp_path / "ran").exists()
    what = name.removesuffix(".json").removesuffix("_config") if "tokenizer" in name else name
    assert (tmp_path / "said").read_text() == (
        f"model folder {tmp_path}: its {what} needs code that comes with it, which is not run; use a model that "
        "transformers knows, or read the code and set actor_rollout_ref.model.trust_remote_code=true"
    )


ROOT = Path(__file__).resolve().parents[4]


def test_every_load_says_whether_the_folders_code_may_run():
    """Left out, transformers asks.  Only the tiny model's recipe may: it loads what it has just made."""
    loads, silent = 0, []
    for folder in ("recipes", "scripts", "benchmarks", "tools"):
        for path in (p for p in (ROOT / folder).rglob("*.py") if p.name != "tiny_recipe.py"):
            for call in filter(lambda node: isinstance(node, ast.Call), ast.walk(ast.parse(path.read_text()))):
                name = getattr(call.func, "attr", getattr(call.func, "id", None))
                if name in ("from_pretrained", "hf_tokenizer", "hf_processor"):
                    loads += 1
                    if "trust_remote_code" not in {keyword.arg for keyword in call.keywords}:
                        silent.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert loads >= 3 and silent == []


@pytest.mark.parametrize("value", [None, "yes", "false", 1])
def test_whether_it_may_run_is_a_switch(tiny, value):
    """null would make transformers ask."""
    config = OmegaConf.merge(tiny, {"actor_rollout_ref": {"model": {"trust_remote_code": value}}})
    assert "actor_rollout_ref.model.trust_remote_code" in refusal(lambda: check_settings(config))


def test_settings_that_transformers_cannot_use(config, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    assert f"model folder {tmp_path}: its config.json cannot be used (" in refusal(
        lambda: tokenizer_and_prompts(config)
    )


def test_prompts_that_are_all_too_long(config, tmp_path):
    config.data.max_prompt_length = 0
    message = refusal(lambda: tokenizer_and_prompts(config))
    assert message == f"{tmp_path}/rows.json: every prompt is longer than data.max_prompt_length=0 tokens; raise it"


def test_fewer_prompts_that_fit_than_a_batch_has(config):
    config.data.train_batch_size = 4
    message = refusal(lambda: tokenizer_and_prompts(config))
    assert message == (
        "data.train_batch_size=4 is more than the 3 prompts of data.train_files that fit data.max_prompt_length; "
        "lower it"
    )


def test_steps_are_those_asked_for_or_those_of_the_epochs(config):
    assert planned_steps(config, 3) == 50
    config.trainer.total_training_steps, config.trainer.total_epochs = None, 5
    assert planned_steps(config, 3) == 7


def test_more_steps_than_the_epochs_hold_are_warned_of(config, capsys):
    config.trainer.total_epochs = 100  # of 3 prompts
    tokenizer_and_prompts(config)
    assert capsys.readouterr().err == ""
    config.trainer.total_epochs = 5
    tokenizer_and_prompts(config)
    assert capsys.readouterr().err == (
        "warning: trainer.total_training_steps=50 is more than the 7 that trainer.total_epochs=5 holds with 3 prompts: "
        "the run ends there; raise trainer.total_epochs\n"
    )


def test_a_ground_truth_that_cannot_be_graded(config, tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHER_CACHE", str(tmp_path / "cache"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    rows[1]["reward_model"]["ground_truth"] = r"\frac{1}{"
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    config.grading.workers = 1
    with grading_pool(config) as pool:
        message = refusal(lambda: check_ground_truths(config, pool))
    assert message.startswith(f"{tmp_path}/rows.json: row 2 (reward_model.ground_truth: ")
    assert [path.name.startswith("ground_truths-") for path in (tmp_path / "cache").iterdir()] == [True]
