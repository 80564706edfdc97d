"""`archer evaluate` from the command line, with an engine that answers by its seeds in the place of vLLM."""

import json
import re
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from recipes.archer.commands import cli
from recipes.archer.commands.evaluate import _show_steps
from recipes.archer.ending import DiskFullError
from recipes.archer.evaluation.drawing import Drawn
from recipes.archer.evaluation.responses import ResponseFile
from recipes.archer.prompts.file import prompt_row
from run_folders import default_config, scores_of, write_run

WORDS = ["<pad>", "<end>", "user", "?", *(f"q{i}" for i in range(20)), *(f"\\boxed{{{i}}}" for i in range(4))]
FIRST_ANSWER = WORDS.index("\\boxed{0}")
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}{% if add_generation_prompt %}?{% endif %}"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two model folders that differ in a weight."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, chat_template=TEMPLATE, **names)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 8}
    config = Qwen3Config(vocab_size=len(WORDS), num_key_value_heads=1, max_position_embeddings=64, **sizes)
    root = tmp_path_factory.mktemp("models")
    for number, name in enumerate(("one", "other")):
        torch.manual_seed(number)
        Qwen3ForCausalLM(config).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


@pytest.fixture
def engines(monkeypatch):
    """What was asked of the engines that were made; ``dies_after`` responses each, if set."""
    made = SimpleNamespace(asked=[], lengths=[], dies_after=None, dies_of=signal.SIGINT)

    class Engine:
        def __init__(self, folder, device, max_model_len):
            made.lengths.append(max_model_len)
            self.skill = 3 if "other" in str(folder) else 4

        def respond(self, requests, sampling, stop_token_ids):
            for done, request in enumerate(requests):
                if made.dies_after is not None and done >= made.dies_after:
                    signal.raise_signal(made.dies_of)
                made.asked.append((request, sampling, stop_token_ids))
                yield [Drawn(request.number, (FIRST_ANSWER + request.seed % self.skill, 1), True)]

        def close(self):
            pass

    monkeypatch.setitem(sys.modules, "recipes.archer.evaluation.engine", SimpleNamespace(Engine=Engine))
    return made


@pytest.fixture
def data(tmp_path) -> Path:
    rows = [prompt_row("sums", f"q{i}", str(i % 2), index=i, split="test") for i in range(12)]
    path = tmp_path / "sums.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def archer(monkeypatch, capsys, tmp_path):
    """Calls the command in a folder of its own; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    heard = signal.getsignal(signal.SIGHUP)
    monkeypatch.setattr("recipes.archer.startup.engines.num_gpus", lambda: 0)
    monkeypatch.setattr("recipes.archer.startup.engines.worker_environment", lambda config: {})

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["archer", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    yield call
    signal.signal(signal.SIGHUP, heard)  # once received, it is ignored


def results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("**/scores.json"))]


def test_a_model_folder_is_evaluated_and_what_is_finished_is_not_repeated(archer, models, data, engines, tmp_path):
    code, out, err = archer(models / "one", "--data", data, "--out", "results", "-n", 2, "--max-tokens", 8)
    assert code == 0 and "0." in out and "sums.json, 12 × 2" in out
    assert "n=2, temperature=0.6, top_p=0.95, at most 8 tokens, seed 0" in err
    (scores,) = results(tmp_path / "results")
    assert scores["num_questions"] == 12 and scores["n"] == 2 and set(scores["pass_at"]) == {"1", "2"}
    for name in ("avg", "avg_ci95", "maj", "truncated", "no_answer", "by_source", "questions", "plan"):
        assert name in scores
    assert len(engines.asked) == 24 and engines.lengths == [3 + 8]
    assert 1 in engines.asked[0][2]  # the model's own end
    code, again, _ = archer(models / "one", "--data", data, "--out", "results", "-n", 2, "--max-tokens", 8)
    assert (code, again) == (0, out) and len(engines.asked) == 24
    archer(models / "one", "--data", data, "--out", "results", "-n", 2, "--max-tokens", 8, "--seed", 1)
    assert len(engines.asked) == 48 and len(results(tmp_path / "results")) == 2


@pytest.mark.parametrize(("number", "code_of_it"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_it_goes_on_and_ends_with_the_same_files(
    archer, models, data, engines, tmp_path, number, code_of_it
):
    engines.dies_of = number
    archer(models / "one", "--data", data, "--out", "whole", "--max-tokens", 8)
    engines.asked.clear()
    engines.dies_after = 7
    code, _, err = archer(models / "one", "--data", data, "--out", "cut", "--max-tokens", 8)
    assert code == code_of_it and "the same command goes on" in err
    engines.dies_after = None
    assert archer(models / "one", "--data", data, "--out", "cut", "--max-tokens", 8)[0] == 0
    assert 48 <= len(engines.asked) <= 48 + 7
    for path in (tmp_path / "whole").glob("**/*.json*"):
        other = tmp_path / "cut" / path.relative_to(tmp_path / "whole")
        assert path.read_bytes() == other.read_bytes()


def test_against_another_target_and_against_its_scores(archer, models, data, engines, tmp_path):
    call = (models / "one", "--data", data, "--out", "results", "--max-tokens", 8)
    code, out, _ = archer(*call, "--against", models / "other")
    assert code == 0 and "other" in out and "points, 95% interval" in out and "questions that went to right: " in out
    compared = next(scores for scores in results(tmp_path / "results") if scores["model"] == "one")
    assert compared["difference_ci95"][0] <= compared["difference"] <= compared["difference_ci95"][1]
    path = next((tmp_path / "results" / "other").glob("*/scores.json"))
    assert archer(*call, "--against", path)[1] == archer(*call, "--against", path.parent)[1] == out
    assert "not told apart from one" in archer(*call, "--against", models / "one")[1]


def test_several_files_and_targets_in_one_call(archer, models, data, engines, tmp_path):
    second = tmp_path / "more.jsonl"
    second.write_text(json.dumps(prompt_row("other", "q3 q4", "1", index=0, split="test")))
    arguments = (models / "one", models / "other", models / "one", "--data", data, second, "--out", "results")
    assert archer(*arguments, "-n", 1)[0] == 0
    found = results(tmp_path / "results")
    assert sorted((s["model"], s["data"]) for s in found) == [
        (model, name) for model in ("one", "other") for name in ("more.jsonl", "sums.json")
    ]
    assert found[0]["plan"]["sampling"]["max_tokens"] == 64 - 4  # what the context leaves beside the longest prompt


def test_files_of_one_name_are_told_apart_and_of_one_content_are_one(archer, models, data, engines, tmp_path):
    (tmp_path / "more").mkdir()
    other, same = tmp_path / "more" / data.name, tmp_path / "same.json"
    other.write_text(json.dumps([prompt_row("sums", f"q{i}", "1", index=i, split="test") for i in range(6, 18)]))
    shutil.copy(data, same)
    call = (models / "one", "--data", data, other, same, "--out", "results", "-n", 1)
    code, out, _ = archer(*call)
    digests = [scores["plan"]["data"][:8] for scores in results(tmp_path / "results")]
    assert code == 0 and len(set(digests)) == len(digests) == 2
    assert all(digest in out.replace("\n", "") for digest in digests)
    compared = archer(*call, "--against", models / "other")[1]
    assert compared.count("(12 questions, n=1)") == 2  # each with the same file, though both files share questions


def test_courses_are_of_one_run_and_one_file(tmp_path, capsys):
    def result(run: str, step: int, data: str, avg: int, place: str | None = None):
        folder = tmp_path / run
        plan = {"model": f"{run} {step}", "data": data, "sampling": {}}
        scores = scores_of([avg] * 20, step=step, data="test.json", model=f"r step {step}", plan=plan)
        home = (tmp_path / place / f"r-step_{step}") if place else folder / "evaluations" / f"step_{step}"
        home.mkdir(parents=True, exist_ok=True)
        target = SimpleNamespace(step=step, run=SimpleNamespace(folder=folder))
        return target, home / f"test-n4-{data}{step}", scores

    def pictures() -> set[Path]:
        return set(tmp_path.glob("**/*.png"))

    one = [result("a/r", 4, "x", 1), result("a/r", 8, "x", 2)]
    _show_steps([*one, result("b/r", 4, "x", 3), result("a/r", 8, "y", 4)])  # of the last two nothing is a course
    said = capsys.readouterr().out
    assert said.count("peak at step") == 1 and f"{tmp_path / 'a/r'}, test.json (x): peak at step 8, 0.500" in said
    (first,) = pictures()
    assert first.parent == tmp_path / "a/r/evaluations" and re.fullmatch(r"test-n4-[0-9a-f]{8}\.png", first.name)
    _show_steps([*one, result("a/r", 4, "y", 2), result("a/r", 8, "y", 1)])
    assert len(pictures()) == 2  # a file of the same name has its own
    before = pictures()
    _show_steps([result(run, step, "x", 2, "out") for run in ("a/r", "b/r") for step in (4, 8)])
    assert len({path for path in pictures() - before if path.parent == tmp_path / "out"}) == 2
    said = capsys.readouterr().out
    assert f"{tmp_path / 'a/r'}, test.json" in said and f"{tmp_path / 'b/r'}, test.json" in said


def test_what_a_run_says_is_the_default_and_its_results_are_kept_in_it(archer, models, data, engines, tmp_path):
    config = default_config("r")
    config["data"]["max_response_length"] = 16
    config["actor_rollout_ref"]["rollout"]["val_kwargs"] = {
        "n": 3, "temperature": 1.0, "top_p": 1.0, "do_sample": True
    }  # fmt: skip
    config["actor_rollout_ref"]["rollout"] |= {"stop_token_ids": [2], "stop_at_turn_end": True}
    run = write_run(tmp_path / "output/p/r", [{"step": 1}], config=config)
    shutil.copytree(models / "one", run / "model")
    code, _, err = archer(run / "model", "--data", data)
    assert code == 0 and "n=3, temperature=1, top_p=1, at most 16 tokens" in err and "output/p/r's validation" in err
    (scores,) = results(run / "evaluations")
    assert scores["model"] == "r model" and {1, 2} <= {*engines.asked[0][2]}


def test_a_search_knows_the_evaluation_of_a_run_that_confirms_by_what_is_in_it(archer, data, engines, tmp_path):
    from exporting import model, save_checkpoint
    from recipes.archer.search.course import course_of
    from recipes.archer.search.plan import Plan
    from recipes.archer.search.winner import evaluations_of

    config = default_config("r")
    config["data"] |= {"max_response_length": 8, "val_files": [str(data)]}
    rows = [{"step": 1, "val/accuracy": 0.5}, {"step": 2, "val/accuracy": 0.1}]
    run = write_run(tmp_path / "output/p/r", rows, config=config)
    made = model()
    for row in rows:
        folder = run / f"global_step_{row['step']}"
        save_checkpoint(folder, made.state_dict(), config=made.config, step=row["step"], row=row)
    plan = Plan("s", "tiny", ())
    others = (["-n", "2"], ["--temperature", "0.1"], ["--max-tokens", "7"])
    for other in (["--steps", "2"], *(["--steps", "1", *other] for other in others)):
        assert archer(run, "--data", data, *other)[0] == 0
        assert evaluations_of(course_of(run), plan) is None
    assert archer(run, "--data", data, "--steps", "1")[0] == 0
    (scores,) = evaluations_of(course_of(run), plan)
    assert (scores["step"], scores["n"], scores["num_questions"]) == (1, 4, 12)
    data.write_text(data.read_text() + "\n")
    assert evaluations_of(course_of(run), plan) is None


def test_a_search_takes_a_cap_that_is_lower_than_the_run_s_only_from_the_model_s_context(
    archer, data, engines, tmp_path
):
    from exporting import model, save_checkpoint
    from recipes.archer.search.course import course_of
    from recipes.archer.search.plan import Plan
    from recipes.archer.search.winner import evaluations_of

    made, config = model(), default_config("r")
    config["data"] |= {"max_response_length": 10**6, "val_files": [str(data)]}
    row = {"step": 1, "val/accuracy": 0.5}
    run = write_run(tmp_path / "output/p/r", [row], config=config)
    save_checkpoint(run / "global_step_1", made.state_dict(), config=made.config, step=1, row=row)
    plan = Plan("s", "tiny", ())
    assert archer(run, "--data", data, "--max-tokens", "16")[0] == 0
    assert evaluations_of(course_of(run), plan) is None
    assert archer(run, "--data", data)[0] == 0
    (scores,) = evaluations_of(course_of(run), plan)
    assert 16 < scores["plan"]["sampling"]["max_tokens"] < 10**6
    # scores of a version that did not write it down are reckoned again from the responses
    (path,) = (path for path in run.rglob("scores.json") if "capped_by_context" in path.read_text())
    path.write_text(json.dumps({key: value for key, value in scores.items() if key != "capped_by_context"}))
    assert evaluations_of(course_of(run), plan) is None
    asked = len(engines.asked)
    assert archer(run, "--data", data)[0] == 0 and len(engines.asked) == asked
    assert evaluations_of(course_of(run), plan) is not None


WRONG = {
    "no data": (("{one}",), "give a prompt file with --data"),
    "no target": (("{data}",), "nothing to evaluate"),
    "no such file": (("{one}", "--data", "absent.json"), "no such file"),
    "no such target": (("absent", "--data", "{data}"), "neither a path nor a run"),
    "not fetched": (("owner/name", "--data", "{data}"), "neither a folder nor fetched"),
    "no model": (("{empty}", "--data", "{data}"), "no whole checkpoint"),
    "no checkpoint": (("{run}", "--data", "{data}"), "holds no whole checkpoint"),
    "no checkpoint of any step": (("{run}", "--data", "{data}", "--steps", "all"), "holds no whole checkpoint"),
    "no template": (("{bare}", "--data", "{data}"), "tokenizer cannot be used"),
    "no ground truth": (("{one}", "--data", "{truthless}"), "reward_model: is missing"),
    "no context": (("{one}", "--data", "{long}", "--max-tokens", "61"), "1 of 2 questions have more than the 3 tokens"),
    "no context at all": (("{one}", "--data", "{data}", "--max-tokens", "640"), "leaves no room"),
    "no GPU": (("{one}", "--data", "{data}", "--device", "cuda"), "no NVIDIA GPU"),
    "no such many cores": (("{one}", "--data", "{data}", "--engines", "4097"), "ask for"),
    "no probability": (("{one}", "--data", "{data}", "--top-p", "0"), "--top-p 0.0 cannot be"),
    "no scores": (("{one}", "--data", "{data}", "--against", "{data}"), "not a JSON object; name a scores.json"),
    "no folder": (("{one}", "--data", "{data}", "--out", "{data}"), "cannot be written"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_one_line(archer, models, data, engines, tmp_path, arguments, said):
    places = {"one": models / "one", "data": data, "empty": tmp_path / "empty", "bare": tmp_path / "bare"}
    places["empty"].mkdir()
    shutil.copytree(models / "one", places["bare"])
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (places["bare"] / name).unlink(missing_ok=True)
    places["truthless"] = tmp_path / "truthless.json"
    row = prompt_row("s", "q1", "1", index=0, split="test")
    places["truthless"].write_text(json.dumps([{k: v for k, v in row.items() if k != "reward_model"}]))
    places["long"] = tmp_path / "long.json"
    rows = [row, prompt_row("s", "q1 q2", "1", index=0, split="test")]
    places["long"].write_text(json.dumps(rows))
    places["run"] = write_run(tmp_path / "output/p/r", [])
    code, _, err = archer(*(argument.format(**places) for argument in arguments))
    last = err.strip().splitlines()[-1]
    assert code == 2 and said in last and "Traceback" not in err
    assert engines.asked == []


def test_a_full_disk_is_told_and_loses_nothing(archer, models, data, engines, tmp_path, monkeypatch):
    append, kept = ResponseFile.append, []

    def refused_after_five(self, rows):
        if len(kept) == 5:
            raise DiskFullError("the disk is full; make room")
        append(self, rows)
        kept.append(rows)

    call = (models / "one", "--data", data, "--out", "results", "--max-tokens", 8)
    with monkeypatch.context() as patch:
        patch.setattr(ResponseFile, "append", refused_after_five)
        code, _, err = archer(*call)
    assert code == 23 and err.strip().splitlines()[-1] == "archer: the disk is full; make room"
    asked = len(engines.asked)
    assert archer(*call)[0] == 0 and len(engines.asked) == asked + 48 - 5


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("actor_rollout_ref", "text", None),
        ("data", ["a"], None),
        ("actor_rollout_ref.rollout.val_kwargs.n", "${oc.env:ARCHER_SECRET}", "-n '${oc.env:ARCHER_SECRET}' cannot be"),
        (
            "actor_rollout_ref.rollout.val_kwargs.temperature",
            float("nan"),
            "--temperature 'NaN' cannot be (it is that of",
        ),
        ("data.max_response_length", True, "--max-tokens True cannot be"),
        ("grading.answer_format", "${oc.env:ARCHER_SECRET}", "its grading is '${oc.env:ARCHER_SECRET}'"),
        ("actor_rollout_ref.rollout.stop_token_ids", ["${oc.env:ARCHER_SECRET}"], "as an end token"),
        ("actor_rollout_ref.rollout.stop_token_ids", 7, None),
    ],
)
def test_a_runs_configuration_is_data(archer, models, data, engines, tmp_path, monkeypatch, place, value, said):
    """It may be anyone's: what cannot be meant is refused, and nothing in it is looked up."""
    monkeypatch.setenv("ARCHER_SECRET", "boxed")
    config = default_config("r")
    config["data"]["max_response_length"] = 16
    run = write_run(tmp_path / "output/p/r", [{"step": 1}], config=config)
    parts, at = place.split("."), config
    for part in parts[:-1]:
        at = at.setdefault(part, {})
    at[parts[-1]] = value
    (run / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    shutil.copytree(models / "one", run / "model")
    code, _, err = archer(run / "model", "--data", data)
    assert code == (0 if said is None else 2) and (said or "") in err and "Traceback" not in err
