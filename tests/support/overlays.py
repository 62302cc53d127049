"""The Kubernetes overlays as `kubectl kustomize` renders them, and what their volumes put where."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
Thing = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Thing, ...]:
    """All that the overlay makes; "../example" is the one that pages tell users to copy."""
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr, f"kubectl warns: {ran.stderr}"
    return tuple(filter(None, yaml.safe_load_all(ran.stdout)))


def of(overlay: str, kind: str, name: str) -> Thing:
    [found] = [thing for thing in rendered(overlay) if (thing["kind"], thing["metadata"]["name"]) == (kind, name)]
    return found


def container_of(overlay: str, kind: str, name: str, container: str) -> Thing:
    containers = of(overlay, kind, name)["spec"]["template"]["spec"]["containers"]
    [found] = [item for item in containers if item["name"] == container]
    return dict(found)


def pods(overlay: str) -> Iterator[tuple[str, Thing]]:
    """Name and pod template of all that runs."""
    for thing in rendered(overlay):
        if "template" in thing.get("spec", {}):
            yield thing["metadata"]["name"], thing["spec"]["template"]


def nats_conf(overlay: str) -> str:
    [config] = [thing for thing in rendered(overlay) if thing["kind"] == "ConfigMap"]
    return str(config["data"]["nats.conf"])


def mounted(thing: Thing, volume: str, node: Path, target: Path) -> None:
    """Put files where a projected volume of two secrets has them; of cert-manager's they are the authority's own."""
    spec = thing["spec"]["template"]["spec"]
    [found] = [item for item in spec["volumes"] if item["name"] == volume]
    target.mkdir(parents=True, exist_ok=True)
    for source in found["projected"]["sources"]:
        for item in source["secret"]["items"]:
            key = item["key"].replace("tls.", "server.")
            (target / item["path"]).unlink(missing_ok=True)
            shutil.copy(node / key, target / item["path"])
            (target / item["path"]).chmod(found["projected"]["defaultMode"])
