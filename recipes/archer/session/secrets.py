"""The W&B environment of a run: key, mode, folder and an identity that survives a preemption.

The key is never part of the configuration, which is printed and uploaded. The result must be in the
environment before Ray starts, so that every worker inherits it.
"""

import os
import re
import stat
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from recipes.archer.ending import UserError

_KEY_LENGTH = 1023  # a file that is longer holds something else
RUN_ID_FILE = "wandb_run_id"  # in the run folder
# W&B refuses :;,#?/' and blanks at the ends (wandb_settings.validate_run_id); this is stricter, because the
# id is also part of file names and addresses.
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def wandb_environment(config: DictConfig, environ: Mapping[str, str], run_dir: Path | None = None) -> dict[str, str]:
    """Variables to set before Ray starts; empty where W&B is not among ``trainer.logger``.

    Args:
        config: resolved configuration.
        environ: the process's environment; what it already says about W&B stays.
        run_dir: the run folder; None: ``trainer.default_local_dir``.

    Raises:
        UserError: a key file that is absent, empty or readable by others, or a bad run id.
    """
    if "wandb" not in config.trainer.logger:
        return {}
    folder = Path(run_dir or config.trainer.default_local_dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "WANDB_DIR": environ.get("WANDB_DIR") or str(folder),
        "WANDB_RUN_ID": run_id(environ, folder),
        "WANDB_RESUME": environ.get("WANDB_RESUME") or "allow",
        **_access(environ, folder),
    }


def run_id(environ: Mapping[str, str], run_dir: Path) -> str:
    """The id of the run's W&B run: ``WANDB_RUN_ID``, else what the run folder remembers, else a new one.

    A new one is the job's name and the start of its UUID, both of which survive a preemption, or random
    outside a job. The folder remembers it, so that whatever continues this folder's checkpoints also
    continues its W&B run, and a run that starts afresh under an old name does not.

    Raises:
        UserError: an id with characters other than letters, digits, '.', '_' and '-', or over 128 of them.
    """
    if environ.get("WANDB_RUN_ID"):
        return _checked(environ["WANDB_RUN_ID"], "WANDB_RUN_ID")
    file = run_dir / RUN_ID_FILE
    if file.exists() and (known := file.read_text().strip()):  # empty: torn by a power cut
        return _checked(known, str(file))
    job = [environ.get("JOB_NAME", ""), environ.get("JOB_UUID", "")[:8]]
    identity = "-".join(part for part in job if part) if job[0] else uuid.uuid4().hex[:12]
    _checked(identity, "JOB_NAME and JOB_UUID")
    draft = file.with_suffix(".tmp")
    draft.write_text(identity + "\n")
    os.replace(draft, file)  # a job killed here leaves the old state or the new one
    return identity


def read_key(path: Path) -> str:
    """The W&B key in a file of mode 0600, without its newline.

    Raises:
        UserError: the file is absent, no regular file, readable by group or world, empty, or has more than one line.
    """
    try:
        with open(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:  # no wait for a pipe
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise UserError(f"WANDB_API_KEY_FILE {path}: not a file; write the key there, mode 0600")
            if mode & 0o077:
                raise UserError(
                    f"WANDB_API_KEY_FILE {path}: others may read it ({stat.S_IMODE(mode):04o}): chmod 600 it"
                )
            key = file.read(_KEY_LENGTH).strip()
            more = file.read(1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise UserError(f"WANDB_API_KEY_FILE {path}: {reason}; write the key there, mode 0600") from None
    if more or not key.isascii() or not key.isprintable() or len(key.split()) != 1:
        raise UserError(f"WANDB_API_KEY_FILE {path}: expected one line with the key")
    return key


def _access(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    mode = environ.get("WANDB_MODE")
    if mode and mode != "online":
        return {"WANDB_MODE": mode}  # nothing leaves the machine, so no key is needed
    if environ.get("WANDB_API_KEY", "").strip():
        return {"WANDB_API_KEY": environ["WANDB_API_KEY"].strip()}
    if environ.get("WANDB_API_KEY_FILE"):
        return {"WANDB_API_KEY": read_key(Path(environ["WANDB_API_KEY_FILE"]).expanduser())}
    if mode == "online":
        return {"WANDB_MODE": mode}  # with the key that `wandb login` left behind
    print(
        f"W&B: no WANDB_API_KEY and no WANDB_API_KEY_FILE, so the run stays offline in {folder / 'wandb'}; "
        "`wandb sync` uploads it",
        file=sys.stderr,
    )
    return {"WANDB_MODE": "offline"}


def _checked(identity: str, source: str) -> str:
    if not _RUN_ID.fullmatch(identity):
        raise UserError(f"{source}: {identity!r} is no W&B run id: use letters, digits, '.', '_' and '-', at most 128")
    return identity
