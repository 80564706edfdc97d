"""What is changed about Ray while it starts, and what is put back; whole runs show that it holds (tests/e2e)."""

import json
import ssl
import sys

import pytest

from recipes.archer.session import loopback


@pytest.fixture
def settings(monkeypatch):
    """What Ray's settings of this process are set to, without setting them."""
    from ray import _raylet

    given = []
    monkeypatch.setattr(_raylet, "Config", type("Config", (), {"initialize": staticmethod(given.append)}))
    return given


def test_a_session_has_a_certificate_of_its_own_for_loopback_and_its_key_is_this_users(tmp_path):
    (tmp_path / "other").mkdir()
    loopback.environment(tmp_path / "other")
    variables = loopback.environment(tmp_path)
    context = ssl.create_default_context(cafile=variables["RAY_TLS_CA_CERT"])
    context.load_cert_chain(variables["RAY_TLS_SERVER_CERT"], variables["RAY_TLS_SERVER_KEY"])
    (certificate,) = context.get_ca_certs()
    assert ("IP Address", "127.0.0.1") in certificate["subjectAltName"]
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "key.pem").read_bytes() != (tmp_path / "other" / "key.pem").read_bytes()


def test_this_process_takes_the_sessions_certificate_however_early_ray_was_imported(tmp_path, settings):
    with loopback.closed_ray(loopback.environment(tmp_path)):
        pass
    (given,) = map(json.loads, settings)
    assert given["USE_TLS"] is True and given["enable_metrics_collection"] is False
    assert given["TLS_SERVER_KEY"] == str(tmp_path / "key.pem")
    assert given.keys() == {
        "USE_TLS", "TLS_SERVER_CERT", "TLS_SERVER_KEY", "TLS_CA_CERT", "enable_metrics_collection"
    }  # fmt: skip


def test_ray_starts_neither_dashboard_nor_monitor_nor_the_agent_that_runs_jobs(tmp_path, settings):
    from ray._private import node, ray_constants, services

    names = {
        node.Node: ("start_monitor", "start_api_server"),
        services: ("_build_python_executable_command_memory_profileable",),
    }
    plain = {(owner, name): getattr(owner, name) for owner in names for name in names[owner]}
    with loopback.closed_ray(loopback.environment(tmp_path)):
        stub = type("Node", (node.Node,), {"__init__": lambda self: None})()
        stub.start_monitor()
        stub.start_api_server(include_dashboard=False, raise_on_failure=False)
        begins = services._build_python_executable_command_memory_profileable
        assert begins(ray_constants.PROCESS_TYPE_DASHBOARD_AGENT, "")[0] == "/bin/sh"
        command = begins(ray_constants.PROCESS_TYPE_RUNTIME_ENV_AGENT, "")
        assert command[0] == sys.executable and command[-1].endswith("/environment_agent.py") and "-P" in command
    assert {(owner, name): getattr(owner, name) for owner, name in plain} == plain


@pytest.mark.parametrize("tells_logs", [False, True])
def test_ray_looks_for_what_workers_print_only_where_it_is_shown(tmp_path, settings, tells_logs):
    from ray._private import node

    plain = node.Node.start_log_monitor
    with loopback.closed_ray(loopback.environment(tmp_path), tells_logs):
        assert (node.Node.start_log_monitor is plain) == tells_logs
    assert node.Node.start_log_monitor is plain


def test_a_process_that_loaded_ray_before_takes_up_what_the_session_says_of_it(tmp_path, settings):
    """All that is Ray's library's and nothing else: it ends the process over a name that it does not know."""
    variables = loopback.environment(tmp_path)
    loopback.take_up({name: variables[name] for name in loopback.OF_RAY})
    with loopback.closed_ray(variables):
        pass
    assert settings[0] == settings[1]
    assert sorted(loopback.OF_RAY) == sorted(name for name in variables if name.startswith("RAY_"))
