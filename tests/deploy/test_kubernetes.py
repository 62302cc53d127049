"""The Kubernetes overlays, rendered, and held against Kubernetes' schemas and the code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
from overlays import FOLDER, OVERLAYS, Thing, mounted, of, pods, rendered

from cloud_node.identity.node import NodeIdentity
from cloud_node.settings import CloudSettings
from common.identity import read_bundle
from common.settings import load

UNKNOWN = {"ScaledObject", "Issuer", "Certificate"}  # of KEDA and cert-manager, which bring their own schemas
pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl to render overlays with")

each = pytest.mark.parametrize("overlay", OVERLAYS)


def test_there_is_an_overlay_for_each_size() -> None:
    assert OVERLAYS == ["cpu-trial", "many-gpus", "one-gpu"]


@pytest.mark.parametrize("overlay", [*OVERLAYS, "../example"])
def test_it_renders_to_what_kubernetes_knows(overlay: str) -> None:
    for thing in rendered(overlay):
        if thing["kind"] not in UNKNOWN:
            kubernetes_validate.validate(thing, "1.30", strict=True)
        assert thing["kind"] == "Namespace" or thing["metadata"]["namespace"] == "lamplight"


def test_an_overlay_that_does_not_render_fails_with_the_reason(tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "kubernetes") / "overlays" / "one-gpu"
    file = copy / "kustomization.yaml"
    file.write_text(file.read_text().replace("path: /spec/strategy", "path: /spec/no/such/place"))
    with pytest.raises(AssertionError, match="/spec/no/such/place"):
        rendered(str(copy))


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
    assert settings.nats_replicas == of(overlay, "StatefulSet", "nats")["spec"]["replicas"]
    assert {"name": "OTEL_METRICS_EXPORTER", "value": "none"} in container["env"], "else they are pushed and scraped"
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
            mode = {**spec["securityContext"], **rights}
            assert mode["runAsUser"] == mode["runAsGroup"] == 10001 and mode["seccompProfile"], name
        mounts = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        claims = of(overlay, "StatefulSet", "nats")["spec"]["volumeClaimTemplates"] if name == "nats" else []
        known = {volume["name"] for volume in spec.get("volumes", [])}
        assert mounts == known | {claim["metadata"]["name"] for claim in claims}, name


@each
def test_services_and_budgets_find_their_pods(overlay: str) -> None:
    templates = dict(pods(overlay))
    for thing in rendered(overlay):
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            assert all("appProtocol" not in port for port in spec["ports"]), "h2c is HTTP/2 without TLS"
            selector = spec["selector"]
        elif thing["kind"] == "PodDisruptionBudget":
            selector = spec["selector"]["matchLabels"]
        else:
            continue
        chosen = [name for name, template in templates.items() if chosen_by(selector, template["metadata"]["labels"])]
        assert len(chosen) == 1, thing["metadata"]["name"]
        if thing["kind"] == "Service":
            container = templates[chosen[0]]["spec"]["containers"][0]
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
def test_a_cloud_node_finds_its_identity_in_what_is_mounted(overlay: str, tmp_path: Path) -> None:
    enrol = [sys.executable, "-m", "cloud_node", "enroll", "--init", "--name", "cloud"]
    subprocess.run(enrol, cwd=tmp_path, check=True, capture_output=True)
    mounted(of(overlay, "Deployment", "cloud"), "trust", tmp_path / "authority" / "node", tmp_path / "trust")
    assert NodeIdentity(tmp_path / "trust").now.host == "cloud"


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


def test_nodes_grow_with_the_wait() -> None:
    scaled = of("many-gpus", "ScaledObject", "cloud")["spec"]
    assert scaled["scaleTargetRef"]["name"] == "cloud" and 0 < scaled["minReplicaCount"] < scaled["maxReplicaCount"]
    assert "replicas" not in of("many-gpus", "Deployment", "cloud")["spec"], "two would set it"


def test_the_example_has_all_that_edges_elsewhere_need(tmp_path: Path) -> None:
    """And the command on the page makes bundles with the same names."""
    page = (FOLDER.parents[1] / "docs" / "deployment.md").read_text()
    [command] = re.findall(r"^ +python -m cloud_node (enroll --init .*)$", page, flags=re.MULTILINE)
    subprocess.run([sys.executable, "-m", "cloud_node", *command.split()], cwd=tmp_path, check=True)
    subprocess.run([sys.executable, "-m", "cloud_node", "enroll", "edge-1"], cwd=tmp_path, check=True)
    bundle = read_bundle(tmp_path / "edge-1.bundle")
    container = of("../example", "Deployment", "cloud")["spec"]["template"]["spec"]["containers"][0]
    settings = load(CloudSettings, container["args"], {})
    assert bundle.nats == (settings.nats_advertise,)
    for name, address in (("nats", bundle.nats[0].removeprefix("tls://")), ("cloud", bundle.cloud[0])):
        assert address.partition(":")[0] in of("../example", "Certificate", name)["spec"]["dnsNames"]
    assert "/" in container["image"], "a registry"


def test_the_page_makes_every_secret_that_is_mounted() -> None:
    page = (FOLDER.parents[1] / "docs" / "deployment.md").read_text()
    asked = set()
    for _, template in pods("one-gpu"):
        spec = template["spec"]
        for volume in spec["volumes"]:
            asked |= {source["secret"]["name"] for source in volume.get("projected", {}).get("sources", [])}
        for variable in (item for container in spec["containers"] for item in container.get("env", [])):
            asked |= {variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name")}
    made = {of("one-gpu", "Certificate", name)["spec"]["secretName"] for name in ("cloud", "nats")}
    for name in asked - made - {None}:
        assert re.search(rf"create secret \w+ {name} ", page), name
