"""Ray's runtime environment agent, for this user's processes alone: ``environment_agent.py RAYS_SCRIPT ARGUMENT...``.

The raylet asks it over HTTP to prepare an environment, which may mean to run an installer, and nothing in the question
says who asks. The kernel knows: every connection on this machine is in its table, with the user who opened it.
"""

import os
import runpy
import socket
import sys
from functools import partial
from pathlib import Path

_ESTABLISHED = "01"  # a connection that is being closed may have no owner any more, and is shown as root's


def user_of(client: tuple, server: tuple) -> int | None:
    """The user id of the process that opened a TCP connection on this machine; None where there is none such.

    Args:
        client, server: (IPv4 address, port) of the two ends.
    """
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        ends = [_as_in_table(end, table.endswith("6")) for end in (client, server)]
        for line in Path(table).read_text().splitlines()[1:]:
            columns = line.split()  # proc_pid_net(5): number, local end, remote end, state, ..., the eighth is the user
            if columns[1:4] == [*ends, _ESTABLISHED]:
                return int(columns[7])
    return None


def _as_in_table(end: tuple, mapped: bool) -> str:
    address = f"{int.from_bytes(socket.inet_aton(end[0]), sys.byteorder):08X}"
    prefix = f"{0:016X}{int.from_bytes(bytes.fromhex('0000FFFF'), sys.byteorder):08X}" if mapped else ""
    return f"{prefix}{address}:{end[1]:04X}"


def main() -> None:
    """Runs Ray's own script with a look at who asks."""
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(script).parent / "thirdparty_files"))  # Ray's own aiohttp, which its script takes
    from aiohttp import web

    @web.middleware
    async def own_user_only(request, handler):
        ends = [request.transport.get_extra_info(name)[:2] for name in ("peername", "sockname")]
        if user_of(*ends) != os.getuid():
            raise web.HTTPForbidden
        return await handler(request)

    web.Application = partial(web.Application, middlewares=[own_user_only])
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
