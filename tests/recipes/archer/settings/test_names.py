"""Names of runs: text, whatever they look like; folders below the output folder; what W&B takes."""

import pytest
from wandb.sdk.wandb_settings import Settings

from recipes.archer.ending import UserError
from recipes.archer.settings.checks import check_settings
from recipes.archer.settings.configuration import compose, spell_out
from recipes.archer.settings.names import LONGEST_WANDB_NAME, NAMES, REFUSED_BY_WANDB, check_names
from tests.support.configurations import change, configuration

CONFIG = configuration()


def with_name(setting: str, name, *loggers: str):
    change(CONFIG, "trainer.logger", list(loggers))
    for other in NAMES:
        change(CONFIG, other, name if other == setting else "good")
    return CONFIG


@pytest.mark.parametrize("name", ["20261128", "1e5", "1.50", "007", "1_000", "true", "+5", "nan"])
def test_a_name_is_what_was_typed(name):
    trainer = compose([f"trainer.experiment_name={name}", f"++trainer.project_name={name}"]).trainer
    assert trainer.experiment_name == trainer.project_name == name
    assert trainer.default_local_dir == f"output/{name}/{name}"


def test_a_name_with_quotation_marks_stays_as_it_is():
    overrides = ["trainer.experiment_name='a b'", 'trainer.project_name="2"', "trainer.total_epochs=3"]
    trainer = compose(overrides).trainer
    assert (trainer.experiment_name, trainer.project_name, trainer.total_epochs) == ("a b", "2", 3)


def test_a_name_in_a_file_that_is_a_number_there():
    config = with_name(NAMES[1], 20261128)
    spell_out(config)
    assert config.trainer.experiment_name == "20261128"


@pytest.mark.parametrize("setting", NAMES)
@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../..",
        "a/../../b",
        "/etc",
        "/",
        "a//b",
        "a/",
        "./a",
        ".a",
        "a/.b",
        "-a",
        "--help",
        " ",
        "a\nb",
        "a\x1b[2J",
    ]
    + ["x" * 256, "ü" * 128, "a/" + "x" * 256, "\ud800"],
)
def test_a_name_that_is_no_folder_below_the_output_folder(setting, name):
    with pytest.raises(UserError) as caught:
        check_names(with_name(setting, name))
    message = str(caught.value)
    assert message.startswith(f"{setting}=") and "use letters, digits" in message and message.isprintable()


@pytest.mark.parametrize("setting", NAMES)
@pytest.mark.parametrize("name", ["", None, "a\0b", ["a"], "  "])
def test_a_name_that_is_none(setting, name):
    with pytest.raises(UserError, match=f"^{setting}=.*use a name"):
        check_settings(with_name(setting, name))


@pytest.mark.parametrize("setting", NAMES)
@pytest.mark.parametrize("name", ["lab/grpo", "a b", "a:b", "x" * 255, "Übung-1", "a.b", "2026"])
def test_without_wandb_every_other_name_is_one(setting, name):
    check_names(with_name(setting, name, "console", "tensorboard"))


@pytest.mark.parametrize("setting", NAMES)
@pytest.mark.parametrize("name", [*(f"a{character}b" for character in REFUSED_BY_WANDB), "x" * 129])
def test_a_name_that_wandb_refuses(setting, name):
    with pytest.raises(UserError, match=f"^{setting}.*leave wandb out of trainer.logger"):
        check_names(with_name(setting, name, "console", "wandb"))


def test_wandb_refuses_what_we_say_it_does():
    for name in ("x" * LONGEST_WANDB_NAME, "a b", "Übung-1_.!$&"):
        Settings(project=name)
    for name in ("x" * (LONGEST_WANDB_NAME + 1), *(f"a{character}b" for character in REFUSED_BY_WANDB)):
        with pytest.raises(Exception, match="Invalid project name"):
            Settings(project=name)
