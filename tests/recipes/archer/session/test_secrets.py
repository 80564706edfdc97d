"""The W&B environment: where the key comes from, and which run a run is."""

import os

import pytest
from omegaconf import OmegaConf

from recipes.archer.ending import UserError
from recipes.archer.session.secrets import read_key, run_id, wandb_environment

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def config(tmp_path):
    logger = ["console", "wandb"]
    return OmegaConf.create({"trainer": {"logger": logger, "default_local_dir": str(tmp_path / "run")}})


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


def test_a_key_of_the_environment_is_used(config, tmp_path, capsys):
    result = wandb_environment(config, {"WANDB_API_KEY": KEY + "\n"})
    assert result["WANDB_API_KEY"] == KEY and "WANDB_MODE" not in result
    assert result["WANDB_DIR"] == str(tmp_path / "run") and result["WANDB_RESUME"] == "allow"
    assert capsys.readouterr().err == ""


def test_a_key_file_is_read_without_its_newline(config, key_file):
    result = wandb_environment(config, {"WANDB_API_KEY_FILE": str(key_file)})
    assert result["WANDB_API_KEY"] == KEY and "WANDB_MODE" not in result


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_key_file_that_others_may_touch_is_refused(config, key_file, mode):
    key_file.chmod(mode)
    with pytest.raises(UserError, match="chmod 600") as error:
        wandb_environment(config, {"WANDB_API_KEY_FILE": str(key_file)})
    assert KEY not in str(error.value) and str(key_file) in str(error.value)


@pytest.mark.parametrize("text", ["", "\n", "one\ntwo\n", "one two\n", "one\0two", "o\x1bne", "onë", "x" * 5000])
def test_a_file_without_one_key_is_refused(key_file, text):
    key_file.write_text(text)
    with pytest.raises(UserError, match="one line with the key"):
        read_key(key_file)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(UserError, match="not a file"):
        read_key(tmp_path / "key")
    with pytest.raises(UserError, match="Is a directory"):
        read_key(tmp_path)


def test_an_absent_or_binary_key_file_is_refused(key_file, tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_key(tmp_path / "absent")
    key_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not text"):
        read_key(key_file)


def test_without_a_key_the_run_is_offline_and_says_so_once(config, capsys):
    environ: dict[str, str] = {}
    environ |= wandb_environment(config, environ)
    assert environ["WANDB_MODE"] == "offline"
    assert capsys.readouterr().err.count("offline") == 1
    assert wandb_environment(config, environ)["WANDB_MODE"] == "offline"
    assert capsys.readouterr().err == ""


def test_an_explicit_mode_stays(config, capsys, tmp_path):
    absent = str(tmp_path / "absent")
    assert (
        wandb_environment(config, {"WANDB_MODE": "disabled", "WANDB_API_KEY_FILE": absent})["WANDB_MODE"] == "disabled"
    )
    online = wandb_environment(config, {"WANDB_MODE": "online"})  # the key of `wandb login`
    assert online["WANDB_MODE"] == "online" and capsys.readouterr().err == ""


def test_a_run_without_wandb_needs_nothing(config, tmp_path):
    config.trainer.logger = ["console"]
    assert wandb_environment(config, {}) == {} and not (tmp_path / "run").exists()


def test_a_preempted_job_continues_its_own_run(tmp_path):
    job = {"JOB_NAME": "archer-qwen3-math-v3", "JOB_UUID": "1b2c3d4e-0000-4000-8000-000000000000"}
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir(), second.mkdir()
    assert run_id(job, first) == "archer-qwen3-math-v3-1b2c3d4e"
    assert run_id(job, second) == run_id(job, first)  # also where the folder is lost
    assert run_id({"JOB_NAME": "archer-qwen3-math-v3"}, tmp_path) == "archer-qwen3-math-v3"


def test_the_run_folder_remembers_its_run(tmp_path):
    local = run_id({}, tmp_path)
    assert local and run_id({}, tmp_path) == local
    # a new job that continues the folder's checkpoints continues its W&B run
    assert run_id({"JOB_NAME": "archer-qwen3-math-v3", "JOB_UUID": "99999999"}, tmp_path) == local


def test_a_fresh_folder_under_an_old_job_name_is_a_new_run(tmp_path):
    folders = [tmp_path / "old", tmp_path / "new"]
    ids = set()
    for folder, uuid in zip(folders, ["11111111-a", "22222222-b"], strict=True):
        folder.mkdir()
        ids.add(run_id({"JOB_NAME": "archer-qwen3-math-v3", "JOB_UUID": uuid}, folder))
    assert len(ids) == 2
    other = [tmp_path / "x", tmp_path / "y"]
    for folder in other:
        folder.mkdir()
    assert run_id({}, other[0]) != run_id({}, other[1])


def test_an_id_given_by_the_user_wins(tmp_path):
    assert run_id({"WANDB_RUN_ID": "mine", "JOB_NAME": "x"}, tmp_path) == "mine"


@pytest.mark.parametrize("bad", ["a/b", "a b", "a:b", "a#b", "a?b", "-a", "é", "a" * 129, "a\nb"])
def test_an_id_that_wandb_refuses_is_refused_here(tmp_path, bad):
    for environ in ({"WANDB_RUN_ID": bad}, {"JOB_NAME": bad}):
        with pytest.raises(UserError, match="run id"):
            run_id(environ, tmp_path)
    (tmp_path / "wandb_run_id").write_text(bad)
    with pytest.raises(UserError, match="wandb_run_id"):
        run_id({}, tmp_path)
