"""The compose files: their schema, their commands, and the same commands run here, as processes without containers."""

import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from ports import free_port
from processes import Process, readings
from prometheus_client.parser import text_string_to_metric_families

from cloud_node.settings import CloudSettings
from common.nats_server import find_server
from common.settings import load
from edge_node.settings import EdgeSettings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
FOR_EDGES = {"50051:50051", "4222:4222"}  # with TLS, and only for those who are enrolled


def test_they_follow_the_schema() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    files = [DEPLOY / "compose.yaml", DEPLOY / "compose.gpu.yaml"]
    ran = subprocess.run([checker, "--builtin-schema", "vendor.compose-spec", *files], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert set(yaml.safe_load(files[1].read_text())["services"]) <= set(SERVICES)


def test_what_it_mounts_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_open_to_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:") or port in FOR_EDGES


@pytest.mark.parametrize("name", ["enroll", "nats", "cloud", "edge", "prometheus"])
def test_who_sees_the_secrets_has_no_other_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001" and service["read_only"]
    seen = {"edge": "identity:/identity:ro", "prometheus": "watch:/watch:ro"}
    if name in seen:
        assert [volume for volume in service["volumes"] if not volume.startswith((".", "edge:"))] == [seen[name]]
    elif name != "enroll":  # the authority's keys and the bundles are not shown to what others talk to
        [node] = service["volumes"]
        assert (node["source"], node["volume"]["subpath"], node["target"]) == (
            "trust", "authority/node", "/trust/authority/node",
        )  # fmt: skip
        assert node.get("read_only", False) == (name == "cloud")


def test_what_is_compiled_can_be_loaded() -> None:
    """Docker mounts a tmpfs without the right to run what is on it."""
    options = {name: rest.split(",") for name, _, rest in (item.partition(":") for item in SERVICES["cloud"]["tmpfs"])}
    assert all("exec" in options[path] for path in ("/tmp", "/data"))


def test_what_grows_is_bounded_or_outlives_a_restart() -> None:
    assert int(SERVICES["jaeger"]["environment"]["MEMORY_MAX_TRACES"]) > 0
    assert "edge:/data" in SERVICES["edge"]["volumes"] and SERVICES["edge"]["tmpfs"] == ["/tmp"]


def test_the_commands_on_the_page_name_the_file() -> None:
    page = (DEPLOY.parent / "docs" / "deployment.md").read_text() + (DEPLOY / "compose.yaml").read_text()
    assert not re.findall(r"docker compose (?:exec|cp|down) .*", page), "there is no compose.yaml where it is run"


def test_the_nodes_understand_their_flags() -> None:
    cloud = load(CloudSettings, SERVICES["cloud"]["command"], {})
    assert cloud.host == "0.0.0.0" and cloud.security.identity == Path("/trust/authority/node")
    edge = load(EdgeSettings, SERVICES["edge"]["command"], {})
    assert (DEPLOY / "demo" / Path(edge.source or "").name).is_file()
    prometheus = yaml.safe_load((DEPLOY / "observability" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert cloud.http_address and edge.telling.metrics_address
    assert targets == {
        "cloud": [f"cloud:{cloud.http_address[1]}"],
        "edge": [f"edge:{edge.telling.metrics_address[1]}"],
    }


def test_its_commands_work_together(tmp_path: Path) -> None:
    """Enrolment, a NATS server of its own, a cloud node that it lets in, an edge with its bundle, a scrape."""
    trust, ports = tmp_path / "trust", {name: free_port() for name in ("nats", "cloud", "http", "edge")}
    trust.mkdir()
    (tmp_path / "watch").mkdir()

    def here(text: str) -> str:
        changes = {
            "/trust": str(trust),
            "/identity/": f"{tmp_path}/",
            "/watch/": f"{tmp_path}/watch/",
            "nats:4222": f"127.0.0.1:{ports['nats']}",
            "0.0.0.0": "127.0.0.1",
            "cloud:50051": f"127.0.0.1:{ports['cloud']}",
            "$$host:50051": f"127.0.0.1:{ports['cloud']}",
            "$$host:4222": f"127.0.0.1:{ports['nats']}",
            "$$": "$",
            "python ": f"{sys.executable} ",
            ":8080": f":{ports['http']}",
            ":9464": f":{ports['edge']}",
            "/demo/": f"{DEPLOY}/demo/",
            "/data/readings": str(tmp_path / "out"),
        }
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    [script] = SERVICES["enroll"]["command"]
    start = [*SERVICES["enroll"]["entrypoint"], here(script)]
    for host in ("", "localhost", ""):  # a later start of all leaves the authority as it is
        subprocess.run(start, env={**os.environ, "LAMPLIGHT_HOST": host}, check=True)
    other = subprocess.run(
        start, env={**os.environ, "LAMPLIGHT_HOST": "gpu-box"}, capture_output=True, text=True, check=False
    )
    assert other.returncode == 1 and "LAMPLIGHT_HOST is gpu-box" in other.stderr and "name localhost" in other.stderr
    bundle = (trust / "edge-1.bundle").read_text()
    config = trust / "authority" / "node" / "nats.conf"
    config.write_text(config.read_text().replace('"port": 4222', f'"port": {ports["nats"]}'))
    binary = find_server()
    nats = subprocess.Popen([binary, *SERVICES["nats"]["command"][:2]], cwd=config.parent, stderr=subprocess.DEVNULL)
    cloud = edge = None
    try:
        more = ("--device", "cpu", "--threads", "1", "--port", str(ports["cloud"]), "--preset", "none")
        cloud = Process("-m", "cloud_node", *map(here, SERVICES["cloud"]["command"]), *more)
        cloud.wait_for("ready on")
        alive = [sys.executable, "-m", "cloud_node", "alive"]
        assert subprocess.run([*alive, str(ports["http"])]).returncode == 0
        assert subprocess.run([*alive, str(free_port())], capture_output=True).returncode == 1
        away = {**os.environ, "https_proxy": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
        light = [sys.executable, "-m", "cloud_node.alive", str(ports["http"])]
        assert subprocess.run(light, env=away).returncode == 0, "a proxy of the environment has no part in it"
        command = [here(argument) for argument in SERVICES["edge"]["command"]]
        edge = Process("-m", "edge_node", *command, "--detector", "none", "--gate", "off", "--limit", "4")
        assert edge.wait() == 0, edge.output
        assert [line["outcome"] for line in readings(tmp_path / "out")] == ["enhanced"] * 4
        assert {line["edge"] for line in readings(tmp_path / "out")} == {"demo"}, "edge-1 is to be carried away"
        scraped = scrape(tmp_path / "watch", ports["http"])
        assert scraped["lamplight_cloud_frames_settled", "enhanced"] == 4
        with pytest.raises(urllib.error.HTTPError, match="401"):
            scrape(tmp_path / "watch", ports["http"], token="guess")
    finally:
        for process in (edge, cloud):
            if process is not None:
                process.end()
        nats.terminate()
        nats.wait()
    assert (trust / "edge-1.bundle").read_text() == bundle
    shutil.rmtree(trust)


def scrape(node: Path, port: int, token: str = "") -> dict[tuple[str, str], float]:
    """As prometheus.yml says; by name and outcome."""
    shown = token or (node / "http.token").read_text().strip()
    request = urllib.request.Request(f"https://localhost:{port}/metrics", headers={"Authorization": f"Bearer {shown}"})
    trusted = ssl.create_default_context(cafile=str(node / "ca.crt"))
    with urllib.request.urlopen(request, context=trusted) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    totals: dict[tuple[str, str], float] = {}
    for family in families:
        for sample in family.samples:
            key = family.name, sample.labels.get("outcome", "")
            totals[key] = totals.get(key, 0) + sample.value
    return totals
