"""A secret given as a setting is refused before anything is printed or written; one rule for trainer and submit."""

import sys

import pytest
from omegaconf import OmegaConf

from recipes.archer import main
from recipes.archer.ending import WRONG_CALL, UserError
from recipes.archer.experiments.registry import names
from recipes.archer.settings.command_line import exit_code_of
from recipes.archer.settings.configuration import compose
from recipes.archer.settings.leaks import (
    check_configuration,
    check_environment,
    check_overrides,
    check_text,
    is_secret_name,
    masked,
    secret_in,
)

SECRETS = (  # names
    *("WANDB_API_KEY", "OPENAI_API_KEY", "wandb_api_key", "apiKey", "azure-api-key", "TOKEN", "HF_TOKEN", "hub_token"),
    *("GITHUB_TOKEN", "accessToken", "auth_token", "HUGGING_FACE_HUB_TOKEN", "GITHUB_PAT", "pat", "DB_PASSWORD"),
    *(
        "PGPASSWORD",
        "passwd",
        "DB_PASS",
        "DB_PWD",
        "passphrase",
        "client_secret",
        "AWS_SECRET_ACCESS_KEY",
        "SENTRY_DSN",
    ),
    *("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_ANYTHING_NEW", "credentials", "bearer", "ssh_key", "private_key"),
)
HARMLESS = (
    *("WANDB_API_KEY_FILE", "GOOGLE_APPLICATION_CREDENTIALS", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"),
    *(
        "token_path",
        "api_key_env",
        "pad_token",
        "eos_token",
        "max_token",
        "max_tokens",
        "token_class_from",
        "tokenizer",
    ),
    *("ppo_max_token_len_per_gpu", "reward_fn_key", "prompt_key", "PATH", "PWD", "OLDPWD", "pattern", "compat", "keys"),
)
VALUES = {
    "a Hugging Face token": "hf_" + "aB3" * 12,
    "a GitHub token": "ghp_" + "aB3" * 12,
    "a GitHub token of the newer kind": "github_pat_" + "11ABCDE_" * 6,
    "a GitLab token": "glpat-" + "aB3_" * 5,
    "an API key": "sk-proj-" + "aB3" * 12,
    "a key of AWS": "AKIA" + "ABCD" * 4,
    "a key of Google": "AIza" + "aB3" * 12,
    "a Slack token": "xoxb-123456789012-abc",
    "a W&B key": "wandb_v1_" + "aB3" * 12,
    "a package index": "pypi-" + "aB3" * 20,
    "a signed token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
    "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "a URL with a password": "https://me:pass@example.org/x",
    "a URL with a password alone": "redis://:pass@example.org",
    "a URL with a key": "https://example.org/x?a=b&access_token=abcdef123",
    "a signed URL": "https://example.org/x?X-Amz-Signature=abcdef123",
}
PLAIN = (
    *("https://example.org/a:b@c", "git@github.com:owner/name", "task-sk-learning-rates-and-more-words", "hf_transfer"),
    *("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "0123456789abcdef0123456789abcdef01234567", "s3://bucket/key"),
    *("file:///data/x.json", "tcp://10.0.0.1:6379", "https://example.org/?step=123456&tokens=1000000"),
)


@pytest.mark.parametrize("name", SECRETS)
def test_names_of_secrets(name):
    assert is_secret_name(name)
    with pytest.raises(UserError, match=rf"override trainer\.{name} is a secret"):
        check_overrides([f"+trainer.{name}=some-value"], {})
    with pytest.raises(UserError, match=rf"{name} as a plain value .* use \[secrets\.{name}\] in site\.toml"):
        check_environment({name: "some-value"}, "site.toml")
    check_overrides([f"+trainer.{name}=null", f"trainer.{name}=true", f"~trainer.{name}"], {})


@pytest.mark.parametrize("name", HARMLESS)
def test_names_of_no_secret(name):
    check_overrides([f"+trainer.{name}=some-value"], {})
    check_environment({name: "some-value"}, "site.toml")


@pytest.mark.parametrize("kind", VALUES)
def test_values_that_look_like_secrets_are_refused_under_any_name_and_never_said(kind):
    value = VALUES[kind]
    config = OmegaConf.create({"trainer": {"notes": ["a", {"b": f"before {value} after"}]}})
    for refuse in (
        lambda: check_overrides([f"trainer.project_name='{value}'"], {}),
        lambda: check_configuration(config, {}),
        lambda: check_environment({"NOTE": value}, "site.toml"),
        lambda: check_text(f"env NOTE={value} bash", {}),
    ):
        with pytest.raises(UserError) as caught:
            refuse()
        assert value not in str(caught.value) and "\n" not in str(caught.value)
    assert value not in masked(f"trainer.project_name={value} is wrong")


@pytest.mark.parametrize("value", PLAIN)
def test_values_that_are_none(value):
    assert secret_in(value, {}) is None and masked(f"name={value}") == f"name={value}"


def test_a_secret_of_the_environment_is_known_by_its_value():
    environ = {"MY_TOKEN": "correct horse", "SHORT_TOKEN": "abc", "EDITOR": "a plain value"}
    with pytest.raises(UserError, match=r"trainer\.name is the value of MY_TOKEN: the configuration is printed"):
        check_configuration(OmegaConf.create({"trainer": {"name": "x correct horse y"}}), environ)
    with pytest.raises(UserError, match="the job would carry the value of MY_TOKEN: remove it"):
        check_text("bash -c 'correct horse'", environ)
    check_text("abc, a plain value", environ)


@pytest.mark.parametrize(
    "value",
    ["${oc.env:MY_TOKEN}", "${oc.env:MY_TOKEN,none}", "x-${oc.env:'MY_TOKEN'}-y", "${other}", "${oc.decode:${twice}}"],
)
def test_nor_does_it_come_in_by_a_reference(monkeypatch, value):
    monkeypatch.setenv("MY_TOKEN", "correct-horse")
    monkeypatch.setenv("PLAIN_NAME", "correct-horse")
    config = OmegaConf.create({"name": value, "other": "${oc.env:PLAIN_NAME}", "twice": "${other}"})
    with pytest.raises(UserError, match=r"is the value of MY_TOKEN") as caught:
        check_configuration(config, {"MY_TOKEN": "correct-horse"})
    assert "correct-horse" not in str(caught.value)


def test_a_reference_that_leads_nowhere_is_for_the_checks_of_the_settings():
    check_configuration(OmegaConf.create({"a": "${nowhere}", "b": "${oc.env:NOT_SET_ANYWHERE}", "c": "???"}), {})


@pytest.mark.parametrize("experiment", [None, *names()])
def test_no_setting_that_there_is_looks_like_one(experiment):
    given = [f"experiment={experiment}"] if experiment else []
    check_configuration(compose(["data.train_files=a", "data.val_files=b", *given]), {})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+trainer.wandb_api_key=abc", "override trainer.wandb_api_key is a secret"),
        ("trainer.project_name=${oc.env:MY_TOKEN}", "override trainer.project_name is the value of MY_TOKEN"),
        (
            "+custom_reward_function.reward_kwargs={judge: {api_key: abc}}",
            "override custom_reward_function.reward_kwargs is a secret",
        ),
        ("trainer.project_name=correct-horse", "override trainer.project_name is the value of MY_TOKEN"),
        ("trainer.token=abc 'def", "override trainer.token is a secret"),
    ],
)
def test_the_trainer_refuses_before_it_prints_or_writes(monkeypatch, tmp_path, capfd, override, said):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("MY_TOKEN", "correct-horse")
    monkeypatch.chdir(tmp_path)
    needed = ["data.train_files=a", "data.val_files=b", f"trainer.output_dir={tmp_path}/output"]
    monkeypatch.setattr(sys, "argv", ["main.py", "experiment=tiny", *needed, override])
    assert exit_code_of(main.main) == WRONG_CALL
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == "" and said in line and "no place for a secret" in line
    assert "abc" not in line and "correct-horse" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "setting",
    ["+custom_reward_function.reward_kwargs={judge: {api_key: abc}}", "trainer.project_name=${oc.env:MY_TOKEN}"],
)
def test_nor_does_it_train_with_what_an_experiments_file_says(monkeypatch, tmp_path, capfd, setting):
    monkeypatch.setenv("MY_TOKEN", "correct-horse")
    needed = ["data.train_files=a", "data.val_files=b", f"trainer.output_dir={tmp_path}/output", setting]
    assert main.run(compose(["experiment=tiny", *needed])) == WRONG_CALL
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == "" and "no place for a secret" in line and "abc" not in line and "correct-horse" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a.api_key=abc is wrong", "a.api_key=*** is wrong"),
        ("{'token': 'a b', 'seed': 3}", "{'token': ***, 'seed': 3}"),
        ("seed=3", "seed=3"),
    ],
)
def test_what_is_quoted_is_masked(text, shown):
    assert masked(text) == shown
