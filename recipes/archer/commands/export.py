"""`archer export`: a checkpoint as a Hugging Face model folder."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Dtype(StrEnum):
    """What parameters are rounded to."""

    bf16 = "bf16"
    fp32 = "fp32"


def export(
    target: Annotated[str, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A run, by folder or name; a checkpoint.")],
    out: Annotated[Path | None, typer.Argument(help="Folder to write; default: RUN/model.")] = None,
    step: Annotated[
        str | None, typer.Option(metavar="N|best|last", help="Of a run; default: best where one is kept, else last.")
    ] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Round to it; default: as saved.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Also compare greedy responses, with transformers.")] = False,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Then upload it to the hub.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in OUT.")] = False,
) -> None:
    """Write a checkpoint as a model that transformers and vLLM load, and prove that it is the same."""
    from recipes.archer.export.folder import loading_lines
    from recipes.archer.export.hub import check_name
    from recipes.archer.export.making import export_target
    from recipes.archer.runs.folder import locate

    if push is not None:
        check_name(push)  # before minutes of work
    options = {"step": step, "dtype": dtype, "overwrite": overwrite, "verify": verify, "address": push}
    chosen, exported = export_target(locate(target), out, **options)
    typer.echo(
        f"{exported.folder}: step {chosen.checkpoint.step}, {exported.num_tensors} tensors, "
        f"{exported.num_bytes / 1e9:.3g} GB in {exported.dtype}; read back, and bit for bit the checkpoint's"
    )
    if exported.num_compared is not None:
        typer.echo(f"greedy responses of the folder and of the checkpoint: {exported.num_compared} tokens, all equal")
    if push is not None:
        from recipes.archer.export.hub import push as upload

        typer.echo(f"pushed to {upload(exported.folder, push)}")
    for line in loading_lines(exported.folder):
        typer.echo(line)
