"""Who asks the runtime environment agent: the kernel's word, not the request's."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from recipes.archer.session import environment_agent
from recipes.archer.session.environment_agent import user_of

# in the place of Ray's script: the same library, and a user who is somebody else when it is told so
SCRIPT = """
import asyncio, os, sys
from aiohttp import web
if sys.argv[1] == "other":
    os.getuid = lambda: 12345
async def answer(request):
    return web.Response(text="made")
app = web.Application()
app.router.add_post("/get_or_create_runtime_env", answer)
async def main():
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
def connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            yield client, accepted


def test_a_connection_is_of_the_user_who_opened_it(connection):
    client, accepted = connection
    assert user_of(accepted.getpeername(), accepted.getsockname()) == os.getuid()


def test_so_is_one_that_was_opened_as_of_the_other_protocol():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        accepted, address = server.accept()
        with accepted:
            assert user_of(address, accepted.getsockname()) == os.getuid()


def test_one_that_is_being_closed_is_nobodys(connection):
    """The kernel shows root as the owner of such."""
    client, accepted = connection
    ends = accepted.getpeername(), accepted.getsockname()
    client.close()
    assert user_of(*ends) is None
    assert user_of(("127.0.0.1", 1), ends[1]) is None


@pytest.mark.parametrize(("user", "status"), [("own", 200), ("other", 403)])
def test_only_the_own_user_is_answered(tmp_path, user, status):
    script = tmp_path / "main.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-P", environment_agent.__file__, str(script), user]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        port = int(agent.stdout.readline())
        request = urllib.request.Request(f"http://127.0.0.1:{port}/get_or_create_runtime_env", b"")
        try:
            found = urllib.request.urlopen(request, timeout=10).status
        except urllib.error.HTTPError as error:
            found = error.code
        agent.kill()
    assert found == status


def test_rays_script_is_where_it_is_looked_for_and_takes_the_library_that_is_guarded():
    import ray

    script = Path(ray.__file__).parent / "_private" / "runtime_env" / "agent" / "main.py"
    text = script.read_text()
    assert (script.parent / "thirdparty_files" / "aiohttp").is_dir()
    assert '"thirdparty_files"' in text and "app = web.Application()" in text
