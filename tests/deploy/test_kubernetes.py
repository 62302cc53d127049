"""The Kubernetes overlays, rendered, and held against Kubernetes' schemas, the code and a real nats-server."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cloud_node.identity.node import NodeIdentity
from cloud_node.settings import CloudSettings
from common.nats_server import find_server
from common.settings import load

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
UNKNOWN = {"ScaledObject", "Issuer", "Certificate"}  # of KEDA and cert-manager, which bring their own schemas
pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl to render overlays with")

Thing = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Thing, ...]:
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr, f"kubectl warns: {ran.stderr}"
    return tuple(filter(None, yaml.safe_load_all(ran.stdout)))


def of(overlay: str, kind: str, name: str) -> Thing:
    [found] = [thing for thing in rendered(overlay) if (thing["kind"], thing["metadata"]["name"]) == (kind, name)]
    return found


def pods(overlay: str) -> Iterator[tuple[str, Thing]]:
    """Name and pod template of all that runs."""
    for thing in rendered(overlay):
        if "template" in thing.get("spec", {}):
            yield thing["metadata"]["name"], thing["spec"]["template"]


each = pytest.mark.parametrize("overlay", OVERLAYS)


def test_there_is_an_overlay_for_each_size() -> None:
    assert OVERLAYS == ["cpu-trial", "many-gpus", "one-gpu"]


@each
def test_it_renders_to_what_kubernetes_knows(overlay: str) -> None:
    for thing in rendered(overlay):
        if thing["kind"] not in UNKNOWN:
            kubernetes_validate.validate(thing, "1.30", strict=True)
        assert thing["kind"] == "Namespace" or thing["metadata"]["namespace"] == "lamplight"


@each
def test_the_cloud_node_understands_its_flags(overlay: str) -> None:
    template = of(overlay, "Deployment", "cloud")["spec"]["template"]["spec"]
    [container] = template["containers"]
    settings = load(CloudSettings, container["args"], {})
    assert settings.host == "0.0.0.0" and settings.http_address == ("0.0.0.0", 8080)
    assert settings.limits.stream_age_s > 0
    assert template["terminationGracePeriodSeconds"] > settings.grace_s + 10
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": settings.port, "http": 8080}
    assert settings.security.identity and not settings.security.insecure
    assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {"/livez"}
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (overlay != "cpu-trial")
    assert container["image"] == ("lamplight-cloud:cpu" if overlay == "cpu-trial" else "lamplight-cloud:cuda")


@each
def test_everything_runs_without_rights(overlay: str) -> None:
    for name, template in pods(overlay):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"], name
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"], name
            assert rights["capabilities"]["drop"] == ["ALL"], name
            assert "requests" in container["resources"] and "memory" in container["resources"]["limits"], name
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            claims = of(overlay, "StatefulSet", "nats")["spec"]["volumeClaimTemplates"] if name == "nats" else []
            known = {volume["name"] for volume in spec.get("volumes", [])}
            assert mounts == known | {claim["metadata"]["name"] for claim in claims}, name


@each
def test_services_and_budgets_find_their_pods(overlay: str) -> None:
    templates = dict(pods(overlay))
    for thing in rendered(overlay):
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            selector = spec["selector"]
        elif thing["kind"] == "PodDisruptionBudget":
            selector = spec["selector"]["matchLabels"]
        else:
            continue
        chosen = [name for name, template in templates.items() if chosen_by(selector, template["metadata"]["labels"])]
        assert len(chosen) == 1, thing["metadata"]["name"]
        if thing["kind"] == "Service":
            [container] = templates[chosen[0]]["spec"]["containers"]
            names = {port["name"] for port in container["ports"]} | {
                port["containerPort"] for port in container["ports"]
            }
            assert {port.get("targetPort", port["port"]) for port in spec["ports"]} <= names


@each
def test_what_may_talk_to_what(overlay: str) -> None:
    """Nothing but what the frames' way, scrapes and traces need."""
    outside = ("internet", {"app": "anything"})
    watchers = ("observability", {"app": "prometheus"})
    cloud, nats = (("lamplight", dict(pods(overlay))[name]["metadata"]["labels"]) for name in ("cloud", "nats"))
    allowed = [
        (outside, cloud, 50051),
        (outside, nats, 4222),
        (cloud, nats, 4222),
        (nats, nats, 6222),
        (watchers, cloud, 8080),
        (watchers, cloud, 50051),
        (watchers, nats, 4222),
        (cloud, cloud, 50051),
        (nats, cloud, 50051),
        (nats, nats, 4222),
    ]
    may_leave = [(cloud, nats, 4222), (nats, nats, 6222), (cloud, watchers, 4317)]
    for source in (outside, watchers, cloud, nats):
        for target in (cloud, nats):
            for port in (50051, 8080, 4222, 6222, 8222):
                expected = (source, target, port) in allowed
                assert comes_in(overlay, source, target, port) == expected, (source, target, port)
    for source in (cloud, nats):
        for target in (outside, watchers, cloud, nats):
            for port in (50051, 8080, 4222, 6222, 8222, 4317, 443):
                expected = (source, target, port) in may_leave
                assert goes_out(overlay, source, target, port) == expected, (source, target, port)


Peer = tuple[str, dict[str, str]]  # namespace and labels


def comes_in(overlay: str, source: Peer, target: Peer, port: int) -> bool:
    return _passes(overlay, target, source, port, "ingress", "from", target)


def goes_out(overlay: str, source: Peer, target: Peer, port: int) -> bool:
    return _passes(overlay, source, target, port, "egress", "to", target)


def _passes(overlay: str, pod: Peer, peer: Peer, port: int, way: str, side: str, server: Peer) -> bool:
    policies = [thing["spec"] for thing in rendered(overlay) if thing["kind"] == "NetworkPolicy"]
    about = [
        policy
        for policy in policies
        if way.capitalize() in policy["policyTypes"] and chosen_by(policy["podSelector"].get("matchLabels", {}), pod[1])
    ]
    assert about, "nothing is said of this pod, which would allow all"
    return any(
        _named(overlay, rule, port, server) and (side not in rule or any(_is(peer, item) for item in rule[side]))
        for policy in about
        for rule in policy.get(way, [])
    )


def _named(overlay: str, rule: Thing, port: int, server: Peer) -> bool:
    numbers = {
        item["name"]: item["containerPort"]
        for _, template in pods(overlay)
        if template["metadata"]["labels"] == server[1]
        for item in template["spec"]["containers"][0]["ports"]
    }
    return any(numbers.get(item["port"], item["port"]) == port for item in rule["ports"])


def _is(peer: Peer, item: Thing) -> bool:
    namespace, labels = peer
    wanted = item.get("namespaceSelector")
    if wanted is None and namespace != "lamplight":
        return False
    if wanted and not chosen_by(wanted.get("matchLabels", {}), {"kubernetes.io/metadata.name": namespace}):
        return False
    return chosen_by(item.get("podSelector", {}).get("matchLabels", {}), labels)


def chosen_by(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@each
def test_a_real_server_takes_the_configuration_of_nats(overlay: str, tmp_path: Path) -> None:
    """With the files that the volumes put beside it."""
    enrol = [sys.executable, "-m", "cloud_node", "enroll", "--init", "--name", "nats"]
    subprocess.run(enrol, cwd=tmp_path, check=True, capture_output=True)
    [config] = [thing for thing in rendered(overlay) if thing["kind"] == "ConfigMap"]
    etc = tmp_path / "etc"
    mounted(of(overlay, "StatefulSet", "nats"), "trust", tmp_path / "authority" / "node", etc / "trust")
    text = config["data"]["nats.conf"]
    (etc / "nats.conf").write_text(text.replace("/etc/nats", str(etc)).replace("/data", str(tmp_path / "data")))
    command = [find_server(), "-t", "-c", etc / "nats.conf"]
    checked = subprocess.run(command, env={**os.environ, "POD_NAME": "nats-0"}, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    replicas = of(overlay, "StatefulSet", "nats")["spec"]["replicas"]
    assert text.count("nats://nats-") == (replicas if replicas > 1 else 0)


@each
def test_a_cloud_node_finds_its_identity_in_what_is_mounted(overlay: str, tmp_path: Path) -> None:
    enrol = [sys.executable, "-m", "cloud_node", "enroll", "--init", "--name", "cloud"]
    subprocess.run(enrol, cwd=tmp_path, check=True, capture_output=True)
    mounted(of(overlay, "Deployment", "cloud"), "trust", tmp_path / "authority" / "node", tmp_path / "trust")
    assert NodeIdentity(tmp_path / "trust").now.host == "cloud"


def mounted(thing: Thing, volume: str, node: Path, target: Path) -> None:
    """Put files where a projected volume of two secrets has them; of cert-manager's they are the authority's own."""
    spec = thing["spec"]["template"]["spec"]
    [found] = [item for item in spec["volumes"] if item["name"] == volume]
    target.mkdir(parents=True)
    for source in found["projected"]["sources"]:
        for item in source["secret"]["items"]:
            key = item["key"].replace("tls.", "server.")
            shutil.copy(node / key, target / item["path"])
            (target / item["path"]).chmod(found["projected"]["defaultMode"])


@each
def test_certificates_bear_the_names_that_are_asked_for(overlay: str) -> None:
    for name, asked in (("cloud", "cloud"), ("nats", "nats")):
        certificate = of(overlay, "Certificate", name)["spec"]
        assert asked in certificate["dnsNames"] and certificate["issuerRef"]["name"] == "authority"
        kind = "Deployment" if name == "cloud" else "StatefulSet"
        volumes = of(overlay, kind, name)["spec"]["template"]["spec"]["volumes"]
        secrets = [
            source["secret"]["name"]
            for item in volumes
            if "projected" in item
            for source in item["projected"]["sources"]
        ]
        assert certificate["secretName"] in secrets
    for route in re.findall(r"nats://([\w.-]+):", of_config(overlay)):
        assert route.partition(".")[2] == "nats-peers", "*.nats-peers"


def of_config(overlay: str) -> str:
    [config] = [thing for thing in rendered(overlay) if thing["kind"] == "ConfigMap"]
    return str(config["data"]["nats.conf"])


def test_nodes_grow_with_the_wait() -> None:
    scaled = of("many-gpus", "ScaledObject", "cloud")["spec"]
    assert scaled["scaleTargetRef"]["name"] == "cloud" and 0 < scaled["minReplicaCount"] < scaled["maxReplicaCount"]
    assert "replicas" not in of("many-gpus", "Deployment", "cloud")["spec"], "two would set it"
