"""Make the tiny base model and its data: a Qwen3 of 0.84 M parameters, right a quarter of the time."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from tiny_folder import (
    default_folder,
    is_current,
    is_replaceable,
    one_at_a_time,
    read_manifest,
    replacing,
    write_manifest,
)
from tiny_settings import Mixture, Schedule, Settings, fingerprint

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for recipes.archer, from any directory

THREADS = 2
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
START_BAND = (0.18, 0.32)  # a start that can still rise, guess or collapse


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[float], None]]:
    """A function that takes each step's loss and moves the bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("tiny model"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("train", total=total, loss=float("nan"))

        def step(loss: float) -> None:
            if progress.finished:  # it is made again
                progress.reset(task)
            progress.update(task, advance=1, loss=loss)

        yield step


def prepare_process() -> None:
    """Settings of the C libraries, before torch is loaded."""
    # An operation's second thread that waits by spinning is ten times slower where the cores have other work, too.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with suppress(AttributeError, OSError):  # another libc; freed activations stay in the process and are used again
        libc = ctypes.CDLL(None)
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(option, 1 << 30)


def make(folder: Path, digest: str, settings: Settings) -> None:
    """Build beside `folder`, then put in its place."""
    started = time.perf_counter()
    prepare_process()
    import torch
    import transformers
    from tiny_recipe import build

    torch.set_num_threads(THREADS)
    with replacing(folder) as new:
        with progress_bar(settings.schedule.steps) as report:
            measured = build(new, settings, report)
        write_manifest(
            new,
            digest,
            settings=settings.as_dict(),
            measured=measured.as_dict(),
            seconds=round(time.perf_counter() - started, 1),
            versions={"torch": torch.__version__, "transformers": transformers.__version__},
        )


def make_or_exit(folder: Path, digest: str, settings: Settings, force: bool, alone: bool) -> None:
    """Make the folder and show the figures; exit 2 when it is not ours to replace or cannot be written.

    Unless it is `alone`, as a folder of one's own is, another process may be making it, too: then wait for that one.
    """
    if not is_replaceable(folder):
        typer.echo(f"error: {folder}: not made by this command; remove it or choose another --out", err=True)
        raise typer.Exit(2)
    try:
        with nullcontext() if alone else one_at_a_time(folder, waiting):
            if force or not is_current(folder, digest):
                make(folder, digest, settings)
    except OSError as error:  # a folder that may not be written, a full disk
        typer.echo(f"error: {folder}: {error.strerror}; choose another --out, or set ARCHER_CACHE", err=True)
        raise typer.Exit(2) from None
    show(f"tiny model: made in {folder}", read_manifest(folder)["measured"])


def waiting() -> None:
    typer.echo("tiny model: another process is making it; waiting for that", err=True)


def show(title: str, measured: dict[str, float]) -> None:
    """The figures, one a line, and a warning when they leave the model too little to win or to lose."""
    typer.echo(f"{title}; one response to each of {measured['responses']:.0f} held-out prompts:", err=True)
    for name in ("accuracy", "mean_tokens", "bare_guess_share", "connectives_per_response", "no_answer_share"):
        typer.echo(f"  {name.replace('_', ' '):24} {measured[name]:7.3f}", err=True)
    low, high = START_BAND
    if not low <= measured["accuracy"] <= high:
        advice = "lower" if measured["accuracy"] > high else "raise"
        typer.echo(f"warning: accuracy is outside {low}..{high}; {advice} --careful-share", err=True)


Share = Annotated[float, typer.Option(min=0, max=0.9)]
Steps = Annotated[int, typer.Option(min=1)]


def main(
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: one in the cache.")] = None,
    seed: Annotated[int, typer.Option(help="Of problems, weights and sampling.")] = 0,
    careful_share: Share = Mixture.careful_share,
    guess_share: Share = Mixture.guess_share,
    tens_share: Share = Mixture.tens_share,
    skill_steps: Steps = Schedule.skill_steps,
    mixture_steps: Steps = Schedule.mixture_steps,
    force: Annotated[bool, typer.Option("--force", help="Build even when up to date.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Sample the model again, show the figures.")] = False,
    where: Annotated[bool, typer.Option("--where", help="Only print the folder's path.")] = False,
) -> None:
    """Make the tiny base model (model/) and its prompts (train.json, val.json), unless they are there.

    Standard output gets the folder's path and nothing else. The shares and steps are those of tiny_settings.py;
    each combination has a folder of its own.
    """
    if careful_share + guess_share > 1:
        typer.echo("error: --careful-share and --guess-share add up to more than 1: lower one of them", err=True)
        raise typer.Exit(2)
    mixture = Mixture(careful_share=careful_share, guess_share=guess_share, tens_share=tens_share)
    schedule = replace(Schedule(), skill_steps=skill_steps, mixture_steps=mixture_steps)
    settings = Settings(seed=seed, mixture=mixture, schedule=schedule)
    digest = fingerprint(settings)
    folder = (out or default_folder(digest)).absolute()
    if where:
        typer.echo(folder)
        return
    if not force and is_current(folder, digest):
        typer.echo(f"tiny model: up to date in {folder}", err=True)
    else:
        make_or_exit(folder, digest, settings, force, alone=out is not None)
    if verify:
        import torch
        from tiny_recipe import measure_folder

        torch.set_num_threads(THREADS)
        show("tiny model: verified", measure_folder(folder, settings).as_dict())
    typer.echo(folder)


if __name__ == "__main__":
    typer.run(main)
