"""What a run listens on, and what it answers to somebody who has nothing but the port."""

import os
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PATIENCE_S = 10.0  # some servers never answer what they do not understand; all are asked at once
# HTTP/2's first words, and an empty frame of settings: every gRPC server answers with its own settings
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
POST = """
import encodings.idna, os, sys, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
if os.getuid() == 0:  # with all imported: another user may not be allowed to read this Python
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
job = b'{"entrypoint": "id"}'
def post(port):
    url = f"http://127.0.0.1:{port}/api/job_agent/jobs/"
    request = urllib.request.Request(url, job, {"Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request, timeout=float(sys.argv[1])).status
    except urllib.error.HTTPError as error:
        return error.code
    except Exception:  # the connection is refused or closed, or what comes is no HTTP/1
        return "nothing"
with ThreadPoolExecutor(64) as pool:
    for port, answer in zip(sys.argv[2:], pool.map(post, sys.argv[2:])):
        print(port, answer)
"""


@dataclass(frozen=True)
class Listener:
    """A listening socket of a process."""

    address: str
    port: int
    process: str


@dataclass(frozen=True)
class Survey:
    """What is found in a run that goes on.

    Attributes:
        listeners: listening sockets, TCP and UDP, of the driver and all that it started.
        folder_mode: mode of the session's folder.
        answers: status, or ``nothing``, by port, of the POST that starts a job; from another user where this is root.
        open_to_anyone: ports of gRPC servers that answer without a certificate.
        open_to_user: those that answer to the session's certificate.
    """

    listeners: list[Listener]
    folder_mode: int
    answers: dict[int, str]
    open_to_anyone: list[int]
    open_to_user: list[int]


def survey(driver: int) -> Survey:
    """Looks at a run of this machine and asks each of its ports."""
    found = listeners(driver)
    (folder,) = Path("/tmp").glob(f"archer-ray-{driver}-*")
    ports = sorted({listener.port for listener in found})
    stranger, user = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (stranger, user):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
    user.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    with ThreadPoolExecutor() as pool:
        answers = pool.submit(_post_jobs, ports)
        plain, without, with_it = (pool.submit(_answering, ports, context) for context in (None, stranger, user))
        anyone = [*plain.result(), *without.result()]
        return Survey(found, folder.stat().st_mode & 0o777, answers.result(), anyone, with_it.result())


def listeners(driver: int) -> list[Listener]:
    """Listening sockets of a process and of its descendants, from the kernel's tables."""
    table = {}
    for name, listening in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == listening:
                table[f"socket:[{columns[9]}]"] = columns[1].split(":")
    found = []
    for process in [psutil.Process(driver), *psutil.Process(driver).children(recursive=True)]:
        with suppress(psutil.Error, OSError):
            name = " ".join(process.cmdline())[:80]
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError, KeyError):
                    address, port = table[os.readlink(descriptor)]
                    found.append(Listener(_readable(address), int(port, 16), name))
    return found


def _readable(address: str) -> str:
    words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
    text = socket.inet_ntop(socket.AF_INET6 if len(words) == 4 else socket.AF_INET, b"".join(words))
    return text.removeprefix("::ffff:")


def _post_jobs(ports: list[int]) -> dict[int, str]:
    command = [sys.executable, "-I", "-c", POST, str(PATIENCE_S), *map(str, ports)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {int(line.split()[0]): line.split()[1] for line in done.stdout.splitlines()}


def _answering(ports: list[int], context: ssl.SSLContext | None) -> list[int]:
    with ThreadPoolExecutor(len(ports)) as pool:
        answers = pool.map(lambda port: _speaks_grpc(port, context), ports)
        return [port for port, answer in zip(ports, answers, strict=True) if answer]


def _speaks_grpc(port: int, context: ssl.SSLContext | None) -> bool:
    with suppress(OSError), ExitStack() as opened:
        connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
        if context:
            connection = opened.enter_context(context.wrap_socket(connection))
        connection.sendall(PREFACE)
        answer = connection.recv(64)
        return len(answer) >= 9 and answer[3] == 4  # a frame of settings
    return False
