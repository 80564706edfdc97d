"""The study: which runs are made, what is kept of them, and what is written."""

import json

import pytest

from benchmarks.jobs import over
from benchmarks.study import signs, tables
from benchmarks.study.__main__ import job_of, missing
from benchmarks.study.cells import PARTS, SICK_JOBS, Cell, cells
from benchmarks.study.memory import Kept, Memory, kept_of
from recipes.archer.ending import UserError
from recipes.archer.runs.folder import Run
from recipes.archer.settings.checks import check_settings
from recipes.archer.settings.configuration import compose

EVERY = [cell for part in PARTS for cell in cells(part)]
CELL = Cell("disease", "a cell", "tiny", {}, 20)


def kept(entropy=(), score=(), valid=(), length=(), held_out=(0.3, 0.8), seed=1, exit_code=0, steps=20) -> Kept:
    columns = {
        "actor/entropy": entropy, "reward/accuracy/mean": score, "batch/valid": valid,
        "response_length/pos/mean": length, "val/accuracy": held_out,
    }  # fmt: skip
    series = {key: [[step, value] for step, value in enumerate(values, start=1)] for key, values in columns.items()}
    return Kept("disease", "a cell", seed, "tiny", CELL.overrides, steps, exit_code, "steps are done", series)


def test_the_names_of_cells_and_folders_are_different():
    jobs = [job_of(cell, 1, __import__("pathlib").Path("output")) for cell in EVERY]
    assert len({job.folder for job in jobs}) == len({(cell.part, cell.name) for cell in EVERY}) == len(EVERY)


@pytest.mark.parametrize("cell", EVERY, ids=lambda cell: f"{cell.part}: {cell.name}")
def test_every_cell_can_be_started(cell, tmp_path):
    words = [word for word in job_of(cell, 1, tmp_path).command() if "=" in word]
    files = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]
    try:
        check_settings(compose([f"experiment={cell.experiment}", "device=cpu", *files, *words]))
    except UserError as error:
        pytest.fail(str(error))


def test_only_what_is_missing_is_made_seed_by_seed(tmp_path):
    memory = Memory(tmp_path / "study.jsonl")
    todo = missing(["disease"], [1, 2], memory)
    assert [seed for _, seed in todo] == [1] * 12 + [2] * 12
    cell, seed = todo[3]
    memory.keep(Kept(cell.part, cell.name, seed, cell.experiment, cell.overrides, cell.steps, 0, "done", {}))
    assert missing(["disease"], [1, 2], Memory(memory.file)) == todo[:3] + todo[4:]


def test_a_line_that_was_torn_is_made_again_and_the_next_is_whole(tmp_path):
    memory = Memory(tmp_path / "study.jsonl")
    memory.keep(kept(seed=1))
    with memory.file.open("a") as out:
        out.write('{"part": "disea')
    Memory(memory.file).keep(kept(seed=2))
    assert [run.seed for run in Memory(memory.file).of(CELL, [1, 2, 3])] == [1, 2]


def test_a_run_with_other_settings_is_not_taken_for_it(tmp_path):
    memory = Memory(tmp_path / "study.jsonl")
    memory.keep(kept())
    with pytest.raises(SystemExit, match="disease, a cell, seed 1 was made otherwise"):
        memory.find(Cell("disease", "a cell", "tiny", {"trainer.save_freq": 3}, 20), 1)


def test_what_is_kept_of_a_run(tmp_path):
    rows = [{"step": 1, "actor/entropy": 0.123456}, {"step": 2, "actor/entropy": None, "val/accuracy": 0.5}]
    facts = {"exit_code": 20, "reason": "bad", "val_before": {"val/accuracy": 0.3}}
    run = kept_of(CELL, 4, Run(tmp_path, facts, {}, rows))
    assert run.lost and (run.seed, run.reason) == (4, "bad")
    assert run.series == {"actor/entropy": [[1, 0.1235]], "val/accuracy": [[0, 0.3], [2, 0.5]]}
    assert json.loads(json.dumps(run.series)) == run.series


@pytest.mark.parametrize(
    ("code", "is_over"), [(0, True), (20, True), (21, True), (22, True), (143, False), (1, False), (None, False)]
)
def test_a_run_that_a_rule_ended_is_over_and_one_that_was_killed_goes_on(code, is_over, tmp_path):
    job = job_of(CELL, 1, tmp_path)
    job.folder.mkdir(parents=True)
    (job.folder / "run.json").write_text(json.dumps({"exit_code": code}))
    assert (over(job) is not None) is is_over


def test_a_run_that_went_back_has_changed_its_own_settings(tmp_path):
    job = job_of(CELL, 1, tmp_path)
    job.folder.mkdir(parents=True)
    (job.folder / "config.yaml").write_text("trainer: {save_freq: 7}\n")
    (job.folder / "metrics.jsonl").write_text('{"step": 1}\n')
    (job.folder / "run.json").write_text(json.dumps({"exit_code": 0}))
    with pytest.raises(SystemExit, match="was made with trainer.save_freq=7, not -1"):
        over(job)
    course = {"number": 1, "from": 4, "back_to": 2, "cause": "c", "verdict": "v", "source": "s", "change": "w"}
    course |= {"overrides": ["trainer.save_freq=7"], "at": "2026-11-28T00:00:00"}
    (job.folder / "run.json").write_text(json.dumps({"exit_code": 0, "courses": [course]}))
    assert over(job) is not None


def test_runs_beside_each_other_have_a_core_each(tmp_path):
    job = job_of(CELL, 1, tmp_path)
    assert job.environment(2)["OMP_NUM_THREADS"] == "1" and "trainer.n_gpus_per_node=1" in job.command(2)
    assert not [word for word in job.command() if word.startswith("trainer.n_gpus_per_node")]


FLAT = (0.2,) * 20
SIGNED = {
    "collapse": kept(entropy=(0.2,) * 10 + (0.09,) * 10),
    "explosion": kept(entropy=(0.2,) * 10 + (0.31,) * 10),
    "guessing": kept(length=(40,) * 10 + (20,) * 10, score=(0.3,) * 20),
    "groups dying": kept(valid=(16,) * 10 + (4,) * 10, score=(0.1,) * 20),
    "oscillation": kept(entropy=(0.2, 0.31, 0.2, 0.31, 0.2) * 4),
}
UNSIGNED = {
    "collapse": kept(entropy=(0.2,) * 10 + (0.11,) * 10),
    "explosion": kept(entropy=(0.2,) * 10 + (0.29,) * 10),
    "guessing": kept(length=(40,) * 10 + (20,) * 10, score=(0.8,) * 20),
    "groups dying": kept(valid=(16,) * 10 + (4,) * 10, score=(0.9,) * 20),
    "oscillation": kept(entropy=tuple(0.2 - step / 200 for step in range(20))),
}


@pytest.mark.parametrize("name", signs.SIGNS)
def test_each_sign_is_seen_where_it_is_and_not_where_it_is_not(name):
    sign = signs.SIGNS[name]
    assert sign(SIGNED[name]) and not sign(UNSIGNED[name])


def test_turns_are_counted_by_hand():
    assert signs.turns([1, 2, 1, 2]) == 2  # up, down, up: two turning points
    assert signs.turns([1, 1.2, 1, 1.2]) == 0
    assert signs.turns([3, 2, 1, 2, 3]) == 1
    assert signs.turns([1.0]) == 0


def test_steps_in_the_band_count_after_the_warm_up_and_a_lost_run_lacks_the_rest():
    assert signs.within(kept(entropy=(1.0,) * 10 + (0.2,) * 10), 0.17, 0.3) == 1
    assert signs.within(kept(entropy=(0.2,) * 15), 0.17, 0.3) == 0.5


def test_differences_are_paired_by_seed():
    mine = [kept(held_out=(0.3, value), seed=seed) for seed, value in ((1, 0.9), (2, 0.8), (3, 0.7))]
    theirs = [kept(held_out=(0.3, value), seed=seed) for seed, value in ((3, 0.45), (1, 0.7), (2, 0.6), (9, 0.0))]
    assert tables.difference(mine, theirs) == "+0.22 (+0.14 to +0.29)"
    assert tables.difference(mine[:1], theirs) == "–"


def test_the_tables_have_a_line_a_cell_that_was_run(tmp_path):
    memory = Memory(tmp_path / "study.jsonl")
    whole = {"entropy": FLAT, "score": FLAT, "valid": (16,) * 20, "length": (40,) * 20}
    cell = cells("disease")[0]
    memory.keep(Kept(**kept(**whole).__dict__ | {"cell": cell.name, "settings": cell.overrides, "steps": cell.steps}))
    lines = tables.of_disease(cells("disease"), memory, [1]).splitlines()
    assert (
        len(lines) == 3 and lines[2].startswith(f"| {cell.name} | 0.80 (0.80–0.80) |") and lines[2].count("0 of 1") == 5
    )
    job = SICK_JOBS["sharpens"]
    for arm in cells("sharpens")[:2]:
        settings = {"part": "sharpens", "cell": arm.name, "settings": arm.overrides, "steps": 50}
        memory.keep(Kept(**kept(**whole).__dict__ | settings | {"experiment": job.experiment}))
    lines = tables.of_cure(job, cells("sharpens"), memory, [1]).splitlines()
    assert len(lines) == 4 and "against none" in lines[0]
