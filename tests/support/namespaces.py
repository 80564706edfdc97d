"""Two machines on one: Ray nodes in network, PID, mount and host-name namespaces of their own, joined by one cable."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PREFIX, PORT, CABLE = "archer-nodes-", 6379, "pair"
ADDRESS = f"10.77.0.1:{PORT}"
RAY = (sys.executable, "-P", "-m", "ray.scripts.scripts")
GONE_S = 30
# folders that each machine has for itself: Ray's, and shared memory
OWN = ("/tmp/ray", "/dev/shm")


def why_not() -> str | None:
    """Why no namespaces can be made here; None where they can."""
    if os.geteuid() != 0:
        return "namespaces of a network need root"
    try:
        tried = subprocess.run(
            ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "ip", "link", "add", "x", "type", "veth"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except OSError as error:
        return str(error)
    return tried.stderr.strip() or "not allowed here" if tried.returncode else None


class Node:
    """A machine of the two.

    Args:
        number: 0 is the head.
        namespace: name of its network.
        environment: of Ray and of all its workers.
        hides: folder that is another one on this machine than on its peer; None: they share all but ``OWN``.
    """

    def __init__(self, number: int, namespace: str, environment: dict[str, str], hides: Path | None = None):
        self.number, self.namespace, self.hides = number, namespace, hides
        self.name, self.address = f"machine-{number}", f"10.77.0.{number + 1}"
        self._environment, self._process = environment, None

    def start(self) -> None:
        """Starts Ray on it, for the first time or again; returns when Ray answers."""
        where = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        if self.number:
            where = [f"--address={ADDRESS}"]
        own = [*OWN, *([str(self.hides)] if self.hides else [])]
        mounts = "; ".join(f"mkdir -p {folder} && mount -t tmpfs own {folder}" for folder in own)
        ray = [*RAY, "start", *where, f"--node-ip-address={self.address}", "--num-cpus=2", "--block"]
        ray += ["--object-store-memory=200000000", "--disable-usage-stats"]
        script = f'set -e; hostname {self.name}; {mounts}; exec "$@"'
        # with whoever started it gone, so is the machine
        apart = ["setpriv", "--pdeathsig=KILL", "unshare", "--kill-child", "--fork"]
        apart += ["--mount", "--pid", "--uts", "--mount-proc"]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *apart, "bash", "-c", script, "node", *ray],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )
        for line in self._process.stdout:
            if "Ray runtime started" in line:
                break
        else:
            raise RuntimeError(f"{self.name} did not start")

    @property
    def first_process(self) -> int:
        """The number, as this test sees it, of the process whose end is the machine's."""
        (first,) = psutil.Process(self._process.pid).children()
        return first.pid

    @property
    def inside(self) -> list[str]:
        """What a command is preceded by to run on this machine."""
        return ["nsenter", f"--target={self.first_process}", "--net", "--mount", "--pid", "--uts", "--"]

    def kill(self) -> None:
        """All its processes at once, as a machine that loses its power."""
        if self._process is None:
            return
        with suppress(psutil.Error, ValueError):
            first = psutil.Process(self.first_process)
            first.kill()
            first.wait(timeout=GONE_S)  # the kernel ends all others before it
        self._process.kill()
        self._process.communicate()


@contextmanager
def two_nodes(
    environment: dict[str, str], second: dict[str, str], hidden: Path | None = None
) -> Iterator[tuple[Node, Node]]:
    """Two machines with Ray, the first of them the head; afterwards nothing of them is left.

    Args:
        environment: of both.
        second: what the second one's has besides.
        hidden: folder that is another one on the second than on the first.
    """
    _remove_leftovers()
    names = [f"{PREFIX}{os.getpid()}-{number}" for number in (0, 1)]
    environment = environment | {"GLOO_SOCKET_IFNAME": CABLE, "RAY_USAGE_STATS_ENABLED": "0"}
    nodes = Node(0, names[0], environment), Node(1, names[1], environment | second, hidden)
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", CABLE, "netns", names[0], "type", "veth", "peer", "name", CABLE, "netns", names[1])
        for node in nodes:
            _ip("-n", node.namespace, "address", "add", f"{node.address}/24", "dev", CABLE)
            _ip("-n", node.namespace, "link", "set", "lo", "up")
            connect(node, nodes[1 - node.number])
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.kill()
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        with suppress(OSError):  # what was mounted over on both; somebody else's is not empty
            Path("/tmp/ray").rmdir()


def connect(node: Node, peer: Node) -> None:
    """Puts the cable into a machine; the way to everywhere else leads through the peer."""
    _ip("-n", node.namespace, "link", "set", CABLE, "up")
    _ip("-n", node.namespace, "route", "replace", "default", "via", peer.address)


def cut(node: Node) -> None:
    """Pulls the cable out."""
    _ip("-n", node.namespace, "link", "set", CABLE, "down")


def _remove_leftovers() -> None:
    """Networks of tests that were killed."""
    for file in Path("/run/netns").glob(f"{PREFIX}*"):
        if not Path("/proc", file.name.removeprefix(PREFIX).split("-")[0]).exists():
            subprocess.run(["ip", "netns", "delete", file.name], capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=20)
