"""Manifests: a plain Job, and KubeRay's RayJob for several nodes."""

import dataclasses
import functools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from recipes.archer import ending
from recipes.archer.cluster import job as job_module
from recipes.archer.cluster.job import build_job
from recipes.archer.cluster.kubernetes import job_manifest, look_command
from recipes.archer.cluster.rayjob import network_policy, rayjob_manifest
from recipes.archer.cluster.runai import submit_command
from recipes.archer.cluster.settings import Claim, SecretKey, Settings
from recipes.archer.commands.cli import main
from recipes.archer.ending import UserError
from recipes.archer.settings.configuration import compose

SETTINGS = Settings(
    source=Path("cluster.toml"),
    project="nlp",
    image="registry.example/archer:1",
    workdir="/data/me/archer",
    retries=4,
    pvc=(Claim("me-data", "/data"),),
    env={"HF_HOME": "/data/hf"},
    secrets={"WANDB_API_KEY": SecretKey("wandb", "api-key")},
    node_selector={"pool": "h100"},
)


def expanded(text: str, variables: dict[str, str]) -> str:
    """What the kubelet makes of a text of a command or a variable: forked/golang/expansion in Kubernetes."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))", lambda m: "$" if m[1] == "$" else variables.get(m[2], m[0]), text, flags=re.DOTALL
    )


@pytest.fixture(autouse=True, scope="module")
def composed_once():
    """Composing takes a quarter of a second; the same overrides give the same configuration."""
    with pytest.MonkeyPatch.context() as patch:
        cached = functools.cache(lambda overrides: compose(list(overrides)))
        patch.setattr(job_module, "compose", lambda overrides: cached(tuple(overrides)))
        yield


def plain_job(*overrides: str) -> dict:
    return job_manifest(build_job("v3", overrides, SETTINGS), SETTINGS)


def ray_job(*overrides: str, nodes: int = 2, name: str | None = None) -> dict:
    return rayjob_manifest(build_job("v3", overrides, SETTINGS, nodes=nodes, name=name), SETTINGS, "an-id")


def pods(manifest: dict) -> list[dict]:
    """The pod specs of either kind."""
    if manifest["kind"] == "Job":
        return [manifest["spec"]["template"]["spec"]]
    cluster = manifest["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]]


def environment(pod: dict) -> dict[str, dict]:
    return {entry["name"]: entry for entry in pod["containers"][0]["env"]}


def test_an_end_that_a_retry_repeats_fails_the_job_and_a_preemption_costs_nothing():
    spec = plain_job()["spec"]
    fail, ignore = spec["podFailurePolicy"]["rules"]
    assert fail["action"] == "FailJob" and fail["onExitCodes"]["operator"] == "In"
    assert {ending.WRONG_CALL, ending.GUARD} <= set(fail["onExitCodes"]["values"])
    # a crash, or SIGTERM after a preemption, must be retried
    assert not {0, 1, ending.INTERRUPTED, ending.TERMINATED, 137} & set(fail["onExitCodes"]["values"])
    assert fail["onExitCodes"]["containerName"] == spec["template"]["spec"]["containers"][0]["name"]
    assert ignore == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # a failure policy needs it
    assert spec["backoffLimit"] == 4


@pytest.mark.parametrize("build", [plain_job, ray_job])
def test_every_pod_has_the_jobs_resources_and_secrets_by_reference(build):
    for pod in pods(build()):
        (container,) = pod["containers"]
        assert container["image"] == "registry.example/archer:1"
        assert container["resources"] == {"limits": {"nvidia.com/gpu": 4}}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mounts[name] for name in volumes} == {"/data", "/dev/shm"} and len(mounts) == len(volumes)
        assert environment(pod)["WANDB_API_KEY"] == {
            "name": "WANDB_API_KEY",
            "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "api-key"}},
        }
        assert environment(pod)["JOB_NAME"]["value"] == "archer-qwen3-math-v3"
        assert pod["terminationGracePeriodSeconds"] == 930 and pod["nodeSelector"] == {"pool": "h100"}


def test_the_jobs_identity_is_the_same_for_all_of_its_retries():
    job_uid = environment(pods(plain_job())[0])["JOB_UUID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert job_uid == "metadata.labels['batch.kubernetes.io/controller-uid']"
    assert {environment(pod)["JOB_UUID"]["value"] for pod in pods(ray_job())} == {"an-id"}


def test_a_plain_job_names_no_scheduler_and_a_rayjob_names_runai():
    assert "schedulerName" not in pods(plain_job())[0]
    assert {pod["schedulerName"] for pod in pods(ray_job())} == {"runai-scheduler"}


@pytest.mark.parametrize("nodes", [2, 4])
def test_a_rayjob_is_one_head_and_the_other_nodes_as_workers(nodes):
    manifest = ray_job(nodes=nodes)
    cluster = manifest["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == nodes - 1
    assert manifest["spec"]["shutdownAfterJobFinishes"] is True  # or the GPUs stay taken


def test_a_rayjob_has_a_name_that_kuberay_takes():
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", ray_job()["metadata"]["name"])
    assert ray_job(name="a" * 47)["metadata"]["name"] == "a" * 47
    with pytest.raises(UserError, match="47"):
        ray_job(name="a" * 48)


def test_the_entrypoint_survives_the_two_shells_between_kuberay_and_the_head():
    overrides = ["data.train_files=['a b',\"c\"]", 'trainer.project_name="x;y&z"']
    entrypoint = ray_job(*overrides)["spec"]["entrypoint"]
    # as the submitter does: its shell splits the entrypoint, `ray job submit` joins it with list2cmdline
    join = [sys.executable, "-c", "import subprocess, sys; print(subprocess.list2cmdline(sys.argv[1:]))"]
    shown = subprocess.run(
        ["bash", "-c", f"{shlex.join(join)} {entrypoint}"], capture_output=True, text=True, check=True
    ).stdout
    # and as the head's shell reads it; a login shell that only shows its script stands for the real one
    show = shown.replace("/bin/bash -lc", "printf %s", 1)
    script = subprocess.run(["sh", "-c", show], capture_output=True, text=True, check=True).stdout
    assert script == shlex.split(entrypoint)[2]
    assert shlex.split(script)[-3:] == [*overrides, "trainer.nnodes=2"]


@pytest.mark.parametrize("override", ["trainer.output_dir=$HOME/x", 'trainer.project_name="`id`"'])
def test_an_override_that_the_second_shell_would_read_is_refused(override):
    with pytest.raises(UserError, match="experiment file"):
        ray_job(override)


def admitted(policy: dict, port: int) -> list[dict]:
    """Who may open a connection to a port of the policy's pods."""
    rules = [
        rule for rule in policy["spec"]["ingress"] if port in [p["port"] for p in rule.get("ports", [{"port": port}])]
    ]
    return [peer for rule in rules for peer in rule["from"]]


def test_a_rayjob_comes_with_a_policy_that_admits_its_own_pods_only():
    job = build_job("v3", [], SETTINGS, nodes=2)
    policy, manifest = network_policy(job, SETTINGS), ray_job()
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    own = policy["spec"]["podSelector"]["matchLabels"]
    assert own == {"app.kubernetes.io/instance": "archer-qwen3-math-v3"}
    assert all(own.items() <= group["template"]["metadata"]["labels"].items() for group in groups)
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert policy["metadata"]["namespace"] == manifest["metadata"]["namespace"] == "runai-nlp"
    assert all(rule["from"] for rule in policy["spec"]["ingress"])  # a rule without would admit everyone
    # in the pods' own namespace: a selector of pods alone knows no other
    submitter = {"podSelector": {"matchLabels": {"batch.kubernetes.io/job-name": manifest["metadata"]["name"]}}}
    for port in (6379, 10001, 52365, 30000):
        assert admitted(policy, port) == [{"podSelector": {"matchLabels": own}}]
    assert admitted(policy, 8265) == [{"podSelector": {"matchLabels": own}}, submitter]


def test_kuberays_operator_reaches_the_dashboard_and_nothing_else():
    settings = dataclasses.replace(SETTINGS, operator_namespace="kuberay")
    policy = network_policy(build_job("v3", [], settings, nodes=2), settings)
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}},
    }
    assert operator in admitted(policy, 8265) and operator not in admitted(policy, 6379)


def test_the_heads_ports_are_those_that_are_needed():
    head = pods(ray_job())[0]["containers"][0]
    assert {port["containerPort"] for port in head["ports"]} == {6379, 8265}


def test_nodes_reach_the_trainer():
    assert "trainer.nnodes=4" in ray_job(nodes=4)["spec"]["entrypoint"]


@pytest.mark.parametrize("arguments", [["--backend", "kubernetes"], ["--nodes", "2"]])
def test_dry_run_prints_the_manifest_and_a_submission_creates_it(arguments, tmp_path, monkeypatch, capfd):
    cluster = tmp_path / "cluster.toml"
    cluster.write_text(
        'project = "nlp"\nimage = "i"\nworkdir = "/w"\nkubectl = "./kubectl"\n[kubernetes]\noperator_namespace = "k"\n'
    )
    monkeypatch.chdir(tmp_path)
    Path("kubectl").write_text('#!/bin/sh\necho "$*" > argv; cat > stdin\n')
    Path("kubectl").chmod(0o755)
    call = ["archer", "submit", "v3", *arguments, "--cluster", str(cluster)]
    printed = []
    for last in (["--dry-run"], []):
        monkeypatch.setattr(sys, "argv", call + last)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        printed.append(capfd.readouterr().out)
    dry, created = (list(yaml.safe_load_all(text)) for text in (printed[0], Path("stdin").read_text()))
    assert printed[1] == "" and Path("argv").read_text() == "create -f -\n"
    assert [manifest["kind"] for manifest in created] == (
        ["NetworkPolicy", "RayJob"] if "--nodes" in arguments else ["Job"]
    )
    for manifest in (dry[-1], created[-1]):  # each submission of a RayJob has an identity of its own
        for pod in pods(manifest):
            environment(pod)["JOB_UUID"].pop("value", None)
    assert dry == created


def test_several_nodes_without_the_operators_namespace_are_not_submitted(tmp_path, monkeypatch, capfd):
    cluster = tmp_path / "cluster.toml"
    cluster.write_text('project = "nlp"\nimage = "i"\nworkdir = "/w"\n')
    ends = []
    for last in (["--dry-run"], []):
        monkeypatch.setattr(sys, "argv", ["archer", "submit", "v3", "--nodes", "2", "--cluster", str(cluster), *last])
        with pytest.raises(SystemExit) as ended:
            main()
        ends.append((ended.value.code or 0, capfd.readouterr()))
    assert [code for code, _ in ends] == [0, 2]
    assert all("no operator_namespace: set operator_namespace" in streams.err for _, streams in ends)
    assert ends[0][1].out and not ends[1][1].out


@pytest.mark.parametrize(("nodes", "words"), [(1, "delete job x -n"), (2, "delete rayjob/x networkpolicy/x -n")])
def test_stopping_a_job_takes_its_policy_along(nodes, words):
    assert words in " ".join(look_command("stop", "x", SETTINGS, nodes))


@pytest.fixture
def objects(tmp_path, monkeypatch):
    """What the stand-in for kubectl knows, a file each; ``cluster.toml`` beside them names it."""
    stub, objects = Path(__file__).resolve().parents[3] / "support" / "kubectl_stub.py", tmp_path / "objects"
    (tmp_path / "kubectl").write_text(f"#!{sys.executable}\n" + stub.read_text())
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("STUB_OBJECTS", str(objects))
    (tmp_path / "cluster.toml").write_text(f'project = "nlp"\nkubectl = "{tmp_path}/kubectl"\n')
    objects.mkdir()
    return objects


@pytest.mark.parametrize("kind", ["job", "rayjob"])
@pytest.mark.parametrize("verb", ["status", "stop"])
def test_a_rayjob_is_looked_up_and_stopped_as_one_also_where_nobody_says_so(tmp_path, monkeypatch, objects, kind, verb):
    """KubeRay's submitter is a Job of the same name; stopping that alone would leave the GPUs taken."""
    labels = {"app.kubernetes.io/instance": "x"}
    for name, its in (("Job", {}), *([("RayJob", labels), ("NetworkPolicy", labels)] if kind == "rayjob" else [])):
        manifest = {"kind": name, "metadata": {"name": "x", "labels": its}}
        (objects / f"{name.lower()}-x").write_text(yaml.safe_dump(manifest))
    call = ["archer", "job", verb, "x", "--backend", "kubernetes", "--cluster", str(tmp_path / "cluster.toml")]
    monkeypatch.setattr(sys, "argv", call)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    asked = (tmp_path / "asked").read_text().splitlines()[-1]
    if verb == "status":
        assert asked == f"describe {kind} x -n runai-nlp"
    else:  # what is left is KubeRay's to delete
        assert {path.name for path in objects.iterdir()} == ({"job-x"} if kind == "rayjob" else set())


def test_what_a_job_is_while_the_cluster_does_not_say_nothing_is_stopped(tmp_path, monkeypatch, objects, capsys):
    (objects / "silent").touch()
    call = ["archer", "job", "stop", "x", "--backend", "kubernetes", "--cluster", str(tmp_path / "cluster.toml")]
    monkeypatch.setattr(sys, "argv", call)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "TLS handshake timeout" in capsys.readouterr().err
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 1 and asked[0].startswith("get rayjobs.ray.io")


def schema(name: str) -> dict:
    """A schema of ``data``."""
    return json.loads((Path(__file__).parent / "data" / name).read_text())


def schema_errors(instance: dict, definition: str) -> list[str]:
    """What a strict validator of the Kubernetes 1.31 API has to say; that is where podFailurePolicy is stable."""
    rules = schema("kubernetes_job_1.31.json") | {"$ref": f"#/$defs/io.k8s.api.{definition}"}
    return [error.message for error in jsonschema.Draft202012Validator(rules).iter_errors(instance)]


def rayjob_errors(manifest: dict) -> list[str]:
    """What KubeRay's definition of a RayJob has to say, and Kubernetes' of the pods in it; the deepest reasons."""
    rules = schema("kuberay_rayjob_v1.json")
    rules["$defs"] |= schema("kubernetes_job_1.31.json")["$defs"]
    return [error.message for error in jsonschema.Draft202012Validator(rules).iter_errors(manifest)]


def test_a_job_fits_the_published_kubernetes_schema():
    manifest = plain_job()
    assert schema_errors(manifest, "batch.v1.Job") == []
    manifest["spec"]["backofLimit"] = 3
    assert "backofLimit" in schema_errors(manifest, "batch.v1.Job")[0]


@pytest.mark.parametrize("nodes", [2, 4])
def test_a_rayjob_fits_kuberay_s_definition(nodes):
    assert rayjob_errors(ray_job(nodes=nodes)) == []


def put(path: str, value: object):
    """A change that sets, or with ``...`` removes, the value at a path of a manifest."""

    def change(manifest: dict) -> None:
        *ways, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        place = functools.reduce(lambda at, key: at[key], ways, manifest)
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return change


HEAD, WORKERS = "spec/rayClusterSpec/headGroupSpec", "spec/rayClusterSpec/workerGroupSpecs/0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("apiVersion", "ray.io/v1alpha1"), "'ray.io/v1' was expected"),
        (put("metadata/name", "a" * 48), "is too long"),
        (put("metadata/name", "3-runs"), "does not match"),
        (put("spec/submissionMode", "K8SJobMode"), "'K8SJobMode' is not one of"),
        (put("spec/shutdownAfterJobFinish", True), "'shutdownAfterJobFinish' was unexpected"),
        (put("spec/backoffLimit", "3"), "'3' is not of type 'integer'"),
        (put("spec/backoffLimit", -1), "-1 is less than the minimum"),
        (put("spec/rayClusterSpec", ...), "'rayClusterSpec' is a required property"),
        (put(f"{HEAD}/rayStartParams", ...), "'rayStartParams' is a required property"),
        (put(f"{HEAD}/rayStartParams/num-gpus", 4), "4 is not of type 'string'"),
        (put(f"{WORKERS}/groupName", ...), "'groupName' is a required property"),
        (put(f"{WORKERS}/minReplicas", ...), "'minReplicas' is a required property"),
        (put(f"{WORKERS}/replicas", None), "None is not of type 'integer'"),
        (put(f"{WORKERS}/template/spec/containers", []), "[] should be non-empty"),
        (put(f"{WORKERS}/template/spec/containers/0/image", 3), "3 is not of type 'string', 'null'"),
        (put(f"{HEAD}/template/spec/containers/0/env/0/name", ...), "'name' is a required property"),
    ],
)
def test_a_rayjob_that_kuberay_would_refuse_is_found(change, said):
    """The schema is ours to get wrong: it has to say no, too."""
    manifest = ray_job()
    change(manifest)
    assert any(said in error for error in rayjob_errors(manifest)), rayjob_errors(manifest)


@pytest.mark.parametrize(
    "text", ["$$", "$(WANDB_API_KEY)", "$$(WANDB_API_KEY)", "$HOME", "a$", "$", "$()", "$$$(X)", "5 $"]
)
def test_what_the_kubelet_reads_again_reaches_the_container_as_it_was_written(text):
    """`$$` is `$` to it, and `$(WANDB_API_KEY)` the key, which the printed configuration would then hold."""
    known = {"WANDB_API_KEY": "the-key", "X": "x", "": "nothing"}
    settings = dataclasses.replace(SETTINGS, env={"NOTE": text}, workdir=f"/data/{text}")
    override = f"+record.note='{text}'"
    job = build_job("v3", [override], settings)
    container = job_manifest(job, settings)["spec"]["template"]["spec"]["containers"][0]
    assert [expanded(word, known) for word in container["command"]] == ["/bin/bash", "-lc", job.script]
    assert override in shlex.split(expanded(container["command"][-1], known))
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert expanded(values["NOTE"], known) == text
    for pod in pods(rayjob_manifest(build_job("v3", [], settings_of(text), nodes=2), settings_of(text), "an-id")):
        assert expanded(environment(pod)["NOTE"]["value"], known) == text


def settings_of(text: str) -> Settings:
    """A site with this text in a variable."""
    return dataclasses.replace(SETTINGS, env={"NOTE": text})


@pytest.mark.parametrize(("text", "refused"), [("$$", True), ("a$(X)b", True), ("$HOME", False), ("5 $", False)])
def test_what_runai_would_hand_to_the_kubelet_is_refused(text, refused):
    """How either generation writes the container is its own affair, so nothing is escaped for it."""
    plain = build_job("v3", [], SETTINGS)
    cases = {"the job's command": build_job("v3", [f"+record.note='{text}'"], SETTINGS)}
    cases["env.NOTE in cluster.toml"] = dataclasses.replace(plain, environment={"NOTE": text})
    for where, job in cases.items():
        for generation in ("v1", "v2"):
            if not refused:
                assert any(text in word for word in submit_command(job, SETTINGS, generation))
                continue
            with pytest.raises(UserError, match=rf"\$.? ?in {where} would be read again"):
                submit_command(job, SETTINGS, generation)
