"""A W&B key, given in every supported way, reaches the service and is found nowhere else."""

import base64
import secrets
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from launching import SESSION, steps_logged

pytestmark = pytest.mark.fault

WAYS = ("variable", "file", "netrc")


class _Refusing(BaseHTTPRequestHandler):
    """A W&B server that wants another key, and remembers the one it was given."""

    def _refuse(self):
        self.server.authorizations.add(self.headers.get("Authorization", ""))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = _refuse

    def log_message(self, *_):
        """Not on the test's stderr."""


@pytest.fixture
def service():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        server.authorizations = set()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def _watched_arguments(forms: list[bytes]):
    """Looks at the arguments of all processes again and again; yields where something was found."""
    found, done = [], threading.Event()

    def look():
        while not done.is_set():
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    arguments = file.read_bytes()
                    if any(form in arguments for form in forms):
                        found.append(arguments)
            time.sleep(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _files_with(forms: list[bytes], *folders: Path) -> list[Path]:
    found = []
    for file in (path for folder in folders for path in folder.rglob("*")):
        with suppress(OSError):  # a socket, or gone by now
            if file.is_file() and any(form in file.read_bytes() for form in forms):
                found.append(file)
    return found


def _given(way: str, key: str, home: Path) -> tuple[dict[str, str], list[Path]]:
    """Environment variables, and the files that the key may be in."""
    if way == "variable":
        return {"WANDB_API_KEY": key}, []
    if way == "file":
        file = home / "key"
        variables = {"WANDB_API_KEY_FILE": str(file)}
    else:  # what `wandb login` leaves behind
        file = home / ".netrc"
        variables = {"WANDB_MODE": "online"}
    file.touch(0o600)
    file.write_text(f"{key}\n" if way == "file" else f"machine 127.0.0.1\n  login user\n  password {key}\n")
    return variables, [file]


@pytest.mark.parametrize("way", WAYS)
def test_the_key_is_nowhere(way, short_run, service, tmp_path):
    key = secrets.token_hex(20)
    headers = [base64.b64encode(f"{user}:{key}".encode()) for user in ("api", "user")]  # as clients send it
    forms = [key.encode(), *(header.rstrip(b"=") for header in headers)]
    variables, may_hold = _given(way, key, tmp_path)
    in_session = []

    def look_into_session(driver):
        folders = [*Path("/tmp").glob(f"{SESSION}{driver}-*")]
        assert len(folders) == 1 and list(folders[0].glob("ray/session_*/logs/worker-*.out"))
        in_session.extend(_files_with(forms, *folders))

    with _watched_arguments(forms) as in_arguments:
        run = short_run(
            f"secret-{way}",
            "trainer.total_training_steps=1",
            "trainer.test_freq=-1",
            "trainer.logger=[console,tensorboard,wandb]",
            until=lambda folder: steps_logged(folder) >= 1,
            then=look_into_session,
            HOME=str(tmp_path),
            WANDB_BASE_URL=f"http://127.0.0.1:{service.server_port}",
            **variables,
        )
    assert run.code == 0, run.output[-3000:]
    sent = {f"Basic {header.decode()}" for header in headers}
    assert sent & service.authorizations, "the service never got the key"
    assert "the run stays offline" in run.output
    assert len(list(run.folder.rglob("*.wandb"))) == 1 and (run.folder / "global_step_1").is_dir()
    assert in_arguments == [] and in_session == []
    assert not any(form.decode() in run.output for form in forms)
    assert _files_with(forms, run.folder, tmp_path) == may_hold
