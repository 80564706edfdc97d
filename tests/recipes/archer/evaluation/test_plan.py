"""A result's folder is named for everything that it depends on, and for nothing else."""

from dataclasses import replace

import pytest

from recipes.archer.evaluation.plan import Plan, Sampling, model_digest

PLAN = Plan("m", "d", Sampling(4, 0.8, 0.95, 100, 0), (1, 2), {"answer_format": "boxed"}, "cpu")
OTHERS = {
    "model": replace(PLAN, model="n"),
    "data": replace(PLAN, data="e"),
    "stop": replace(PLAN, stop_token_ids=(1,)),
    "grading": replace(PLAN, grading={"answer_format": "any"}),
    "device": replace(PLAN, device="cuda"),
    **{
        name: replace(PLAN, sampling=replace(PLAN.sampling, **{name: value}))
        for name, value in {"n": 8, "temperature": 1.0, "top_p": 1.0, "max_tokens": 99, "seed": 1}.items()
    },
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_another_plan_has_another_folder(other):
    assert other.folder_name("aime") != PLAN.folder_name("aime")
    assert replace(PLAN).folder_name("aime") == PLAN.folder_name("aime")


def test_another_version_of_the_engine_is_another_plan(monkeypatch):
    before = PLAN.digest
    monkeypatch.setattr("recipes.archer.evaluation.plan.version", lambda package: "9")
    assert PLAN.digest != before


def test_a_models_digest_is_of_its_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"12")
    (tmp_path / "b" / "README.md").write_text("a card")
    assert model_digest(tmp_path / "a") == model_digest(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"21")
    assert model_digest(tmp_path / "a") != model_digest(tmp_path / "b")
