"""A worker's share of a checkpoint: read back bit for bit, by as many workers or by others.

The work is done by two processes, once (15 s of processor time, most of it imports); the tests look at what they found.
"""

import errno

import pytest
import torch
import torch.multiprocessing as multiprocessing
from tokenizers import Tokenizer
from tokenizers.models import BPE
from torch.distributed.checkpoint.api import CheckpointException

import sharding
from recipes.archer.checkpoints.shards import refused_by_disk

pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    multiprocessing.spawn(sharding.run, (str(folder),), nprocs=2)
    return [torch.load(folder / f"results.{rank}", weights_only=False) for rank in range(2)]


def _assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys() and len(found) > 20
    for name, value in expected.items():
        same = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert same, name


def test_a_weight_that_is_used_twice_is_written_once(results):
    """And read back under both names: the comparisons below are of both."""
    for result in results:
        assert "model.embed.weight" in result["names"] and "model.head.weight" not in result["names"]
        assert "model.head.weight" in result["two in two"]["loaded"]


def test_fsdp1_tells_of_it_too(results):
    assert results[0]["aliases of fsdp1"] == {"head.weight": "embed.weight"}


def _without(state: dict, name: str) -> dict:
    return {key: value for key, value in state.items() if key != name}


def test_what_was_trained_is_not_trivial(results):
    """Or equality would mean nothing."""
    saved = results[0]["saved by one"]["saved"]
    moments = [value for name, value in saved.items() if name.endswith("exp_avg_sq")]
    assert len(moments) >= 5 and all(float(m.abs().max()) > 0 for m in moments)
    assert saved["lr"] == pytest.approx(0.01 * 0.9**3)


@pytest.mark.parametrize(("read", "written"), [("one in one", "one"), ("two in two", "two")])
def test_by_as_many_workers_it_is_the_same_and_stays_the_same(results, read, written):
    for rank in range(2 if written == "two" else 1):
        found, expected = results[rank][read], results[rank][f"saved by {written}"]
        _assert_same(found["loaded"], expected["saved"])  # also what every random generator gives next
        _assert_same(found["one step on"], expected["one step on"])


@pytest.mark.parametrize(("read", "written"), [("one in two", "one"), ("two in one", "two")])
def test_by_another_number_of_workers_every_bit_is_the_same(results, read, written):
    for rank in range(2 if read == "one in two" else 1):
        loaded, expected = results[rank][read]["loaded"], results[0][f"saved by {written}"]["saved"]
        _assert_same(_without(loaded, "draws"), _without(expected, "draws"))


@pytest.mark.parametrize(("read", "written"), [("one in two", "one"), ("two in one", "two")])
def test_by_another_number_of_workers_it_goes_on_alike(results, read, written):
    """The step after differs only by the order in which gradients are summed."""
    found, expected = results[0][read]["one step on"], results[0][f"saved by {written}"]["one step on"]
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("fresh", [False, True])
def test_rates_are_the_runs_own_and_the_place_in_the_schedule_the_checkpoints(results, fresh):
    """Twice the learning rate of the run that saved; with a fresh optimizer without its moments."""
    found, saved = results[0]["changed"][fresh], results[0]["saved by two"]["saved"]
    assert found["lr"] == pytest.approx(0.02 * 0.9**3) and found["weight_decay"] == 0.3
    assert found["lr one step on"] == pytest.approx(0.02 * 0.9**4) and found["epoch"] == 4
    assert (found["moments"] == 0) == fresh
    assert len(found["model"]) >= 5
    for name, value in found["model"].items():
        assert torch.equal(value, saved[name]), name


def test_a_rank_without_a_state_of_its_own_keeps_its_random_numbers(results):
    """By the manifest it has none; a file of its name that lies there is of another origin."""
    first, second = (result["one in two"]["loaded"]["draws"] for result in results)
    assert first == results[0]["saved by one"]["saved"]["draws"]  # rank 0 has one
    assert first != second


def test_a_disk_that_is_full_for_one_rank_is_known_to_all(results):
    """At whichever file and place it refuses, no rank waits for ever; the last limit is wide enough."""
    first, second = (result["limited"] for result in results)
    assert first == second
    *refused, none = first
    assert none is None
    assert all("inline_container" in line or "File too large" in line for line in refused), refused
    assert all("\n" not in line for line in refused)


def test_an_error_that_is_not_the_disks_is_raised_on_every_rank(results):
    for result in results:
        assert result["broken"] == "a checkpoint could not be written: TypeError: of rank 1"


REFUSALS = {
    "runs_code": "the checkpoint holds what cannot be read as a tensor or a plain value",
    "runs_code_as_a_value": "the checkpoint holds what cannot be read as a tensor or a plain value",
    "lacks_a_tensor": "Missing key in checkpoint state_dict: model.norm.bias.",
    "lacks_a_place": "the checkpoint has no place for model.norm.bias",
    "has_another_size": "",  # torch's words, which change
    "has_a_generator_of_another_size": "a generator of torch does not take its state (",
    "has_a_schedule_of_text": "the schedule's last_epoch is of another kind",
}


@pytest.mark.parametrize("change", REFUSALS)
def test_what_is_forged_is_refused_on_every_rank_in_one_line(results, change):
    for result in results:
        said = result["refused"][change]
        assert said.startswith(REFUSALS[change]) and said != "nothing" and "\n" not in said
    assert not results[0]["ran"]


def test_format_1_is_read_where_it_is_trusted_and_is_the_same(results):
    found = results[0]["old in one"]
    assert "is of an earlier format, with pickles that run what is in them" in found["said"]
    _assert_same(found["read"]["loaded"], results[0]["saved by one"]["saved"])
    _assert_same(found["read"]["one step on"], results[0]["saved by one"]["one step on"])


FULL = OSError(errno.ENOSPC, "No space left on device")
ARCHIVE = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598\nframe #0: ...")


def _of_the_tokenizer() -> Exception:
    """What its writer raises on a full disk."""
    with pytest.raises(Exception, match="os error") as caught:
        Tokenizer(BPE()).save("/dev/full")
    return caught.value


def _of_ranks(*errors: Exception) -> CheckpointException:
    return CheckpointException("write", {rank: (error, None) for rank, error in enumerate(errors)})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FULL, "[Errno 28] No space left on device"),
        (ARCHIVE, "[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
        (RuntimeError("basic_ios::clear: iostream error"), "basic_ios::clear: iostream error"),
        (_of_the_tokenizer(), "No space left on device (os error 28)"),
        (Exception("Permission denied (os error 13)"), None),
        (_of_ranks(ARCHIVE, FULL), "[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
        (_of_ranks(FULL, TypeError("a bug")), None),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), None),
        (TypeError("a bug"), None),
    ],
)
def test_which_errors_are_the_disks(error, said):
    assert refused_by_disk(error) == said
