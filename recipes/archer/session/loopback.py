"""Keeps everyone else out of a run on one machine: what listens does so on loopback, and answers this user alone.

Loopback is open to every user of the machine, and Ray 2.49.2 knows no tokens (2.52 does; then this gets shorter). Its
servers speak gRPC, which can want a certificate of both sides: each session has one of its own, whose key only this
user can read. Of Ray's servers that speak plain HTTP, those that a run does not need are not started: the dashboard,
its agent, which runs any command that is posted to it, and the monitor of a cluster that grows. The one that is needed
starts through ``environment_agent.py``.
"""

import datetime
import ipaddress
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESS = "127.0.0.1"
OF_RAY = (
    "RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT", "RAY_enable_metrics_collection"
)  # fmt: skip
_AGENT = Path(__file__).with_name("environment_agent.py")
_LONGEST_RUN = datetime.timedelta(days=365)


def environment(folder: Path) -> dict[str, str]:
    """What keeps the servers of a session's processes on loopback and closed; for Ray and all that it starts.

    torch's processes meet at a file: its own server for that listens on every interface, and wants no key.

    Args:
        folder: the session's, of mode 0700; the certificate and its key are made there.
    """
    certificate, key = _make_certificate(folder)
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(certificate),
        "RAY_TLS_SERVER_KEY": str(key),
        "RAY_TLS_CA_CERT": str(certificate),
        "RAY_enable_metrics_collection": "0",  # for the agent that is not there
        "DIST_INIT_METHOD": f"file://{folder / 'process_group'}",
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "VLLM_HOST_IP": ADDRESS,
    }


@contextmanager
def closed_ray(variables: dict[str, str], tells_logs: bool = True) -> Iterator[None]:
    """Around ``ray.init`` and what follows: this process uses the certificate too, and Ray starts only what is needed.

    Args:
        variables: those of :func:`environment`. Ray reads them when it is imported, which may be long ago.
        tells_logs: whether this process shows what workers print, for which Ray has a process.
    """
    from ray._private import node, services

    replaced = [
        (node.Node, "start_monitor", lambda self: None),
        (node.Node, "start_api_server", _no_dashboard),
        *([] if tells_logs else [(node.Node, "start_log_monitor", lambda self: None)]),
        (services, "_build_python_executable_command_memory_profileable", _agent_command),
    ]
    plain = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    take_up(variables)
    for owner, name, ours in replaced:
        setattr(owner, name, ours)
    try:
        yield
    finally:
        for owner, name, theirs in plain:
            setattr(owner, name, theirs)


def take_up(variables: dict[str, str]) -> None:
    """Ray's library, which looks into the environment when it is loaded, takes up those of them that are Ray's."""
    from ray._raylet import Config

    Config.initialize(json.dumps(_as_settings(variables)))


def _as_settings(variables: dict[str, str]) -> dict[str, str | bool]:
    ray = {name.removeprefix("RAY_"): value for name, value in variables.items() if name.startswith("RAY_")}
    return {name: value == "1" if value in "01" else value for name, value in ray.items()}


def _no_dashboard(node, *, include_dashboard, raise_on_failure) -> None:
    node._webui_url = ""


def _agent_command(component: str, session_dir: str, unbuffered: bool = True) -> list[str]:
    """How the command of one of the raylet's agents begins; the agent's script and its arguments follow."""
    from ray._private.ray_constants import PROCESS_TYPE_DASHBOARD_AGENT

    if component == PROCESS_TYPE_DASHBOARD_AGENT:
        return ["/bin/sh", "-c", "exec sleep infinity"]  # the raylet ends when its agent does, and does without nothing
    return [sys.executable, "-u", "-P", str(_AGENT)]


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, folder.name)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + _LONGEST_RUN)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS)), x509.DNSName("localhost")])
    builder = builder.add_extension(addresses, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    files[1].touch(mode=0o600)
    files[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return files
