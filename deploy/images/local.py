"""Builds the images by podman and runs compose.yaml with them, on a machine that reaches no registry of images.

make images-local

Root, podman, mmdebstrap and prometheus are needed (docs/deployment.md). The Dockerfile and compose.yaml are run as they
are; the images of others have stand-ins (deploy/images/stand_ins.py). Everything is in .images/ and removed by
`make clean`; figures are in .images/report.json.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.images import stand_ins
from deploy.images.engine import EngineMissing, Podman
from deploy.observability.ask import ask, queries

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text()
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
DEFAULT_PYTHON = re.findall(r"^ARG PYTHON=(\S+)", (ROOT / "deploy/images/Dockerfile").read_text(), re.MULTILINE)[0]
TIMEOUT_S = 180.0
SECONDS_OF_TRAFFIC = 45


class Report:
    """What was looked at: printed as it comes, and kept."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def __call__(self, what: str, good: bool, detail: object = "") -> None:
        self.rows.append({"what": what, "good": good, "detail": detail})
        print(f"{'ok  ' if good else 'FAIL'} {what}{f': {detail}' if detail != '' else ''}", flush=True)

    @property
    def good(self) -> bool:
        return all(row["good"] for row in self.rows)


def until(done: Callable[[], bool]) -> bool:
    """Whether `done` came true in time."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(1)
    return False


def build(engine: Podman, target: str, tag: str, version: str, wheel: Path | None) -> None:
    """One target of the Dockerfile; pip in it trusts whom this machine does. A `wheel` stands for PyTorch's index."""
    stand_ins.python(engine, version)
    settings = engine.folder / "pip.conf"
    settings.write_text(f"[global]\ncert = {CERTIFICATES}\ndefault-timeout = 180\n")
    more = ["--build-arg", f"PYTHON={version}"]
    mounts = ["-v", f"{CERTIFICATES}:{CERTIFICATES}:ro", "-v", f"{settings}:/etc/pip.conf:ro"]
    if wheel and target == "cloud-cpu":
        index = engine.folder / "index" / "torch"
        index.mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel, index)
        (index / "index.html").write_text(f'<a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a>')
        more += ["--build-arg", "TORCH_INDEX=file:///torch-index"]
        mounts += ["-v", f"{index.parent}:/torch-index:ro"]
    fixed = ["--format", "docker", "--layers", "--network", "host", "--pull-never"]
    file = ["--file", str(ROOT / "deploy/images/Dockerfile"), "--target", target, "--tag", f"localhost/{tag}"]
    engine("build", *fixed, *more, *mounts, *file, str(ROOT), shown=True)


def sizes(engine: Podman, tag: str, version: str) -> dict[str, int]:
    """MB of an image, and without its base."""
    whole, base = (engine.inspect(f"localhost/{name}")["Size"] for name in (tag, f"python:{version}-slim-bookworm"))
    return {"MB": round(whole / 1e6), "MB without its base": round((whole - base) / 1e6)}


def container(engine: Podman, service: str) -> str:
    """Its name."""
    wanted = f"label=com.docker.compose.service={service}"
    return engine("ps", "--all", "--filter", wanted, "--format", "{{.Names}}").stdout.strip()


def confined(engine: Podman, name: str, report: Report) -> None:
    """The process is user 10001, without capabilities or a way to new ones, and the root is read-only."""
    status = engine("exec", name, "cat", "/proc/1/status").stdout
    shown = dict(re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs):\t(\S+)", status, re.MULTILINE))
    none = "0" * 16
    report(f"{name}: user 10001 without rights", list(shown.values()) == ["10001", none, none, "1"], shown)
    refused = engine("exec", name, "touch", "/venv/x", "/etc/x", "/x", check=False).stderr.count(
        "Read-only file system"
    )
    report(f"{name}: read-only root", refused == 3, f"{refused} of 3 writes refused")


def healthy(engine: Podman, name: str, report: Report) -> None:
    ran = until(lambda: engine("healthcheck", "run", name, check=False).returncode == 0)
    report(f"{name}: its health check", ran, engine.inspect(name)["Config"]["Healthcheck"]["Test"][-1][:60])


def up(engine: Podman, service: str) -> str:
    engine.compose("up", "--detach", "--no-build", "--no-deps", service)
    return container(engine, service)


def run(engine: Podman, report: Report) -> None:
    """All services of compose.yaml that can be had, in its order; what they do; how they end."""
    enroll = up(engine, "enroll")
    until(lambda: engine.inspect(enroll)["State"]["Status"] == "exited")
    code = engine.inspect(enroll)["State"]["ExitCode"]
    report("enroll makes an authority and two bundles", code == 0, engine("logs", enroll).stdout[-200:])
    nats = up(engine, "nats")
    healthy(engine, nats, report)
    cloud = up(engine, "cloud")
    until(lambda: "ready on" in engine("logs", cloud).stdout + engine("logs", cloud).stderr)
    healthy(engine, cloud, report)
    confined(engine, cloud, report)
    edge = up(engine, "edge")
    report(
        "the edge reads what the cloud node lit up",
        until(lambda: len(read(engine, edge)) > 10),
        len(read(engine, edge)),
    )
    healthy(engine, edge, report)
    confined(engine, edge, report)
    prometheus = up(engine, "prometheus")
    asked(engine, prometheus, report)
    stopped(engine, cloud, "cloud node", report)
    engine("kill", "--signal", "SIGKILL", nats)
    engine("start", nats)
    engine("start", cloud)
    before = len(read(engine, edge))
    report("the edge goes on after both began anew", until(lambda: len(read(engine, edge)) > before + 10))
    lines = read(engine, edge)
    frames = [(line["session"], line["sequence"]) for line in lines]
    report("each frame was read once", len(frames) == len(set(frames)), f"{len(frames)} readings")
    stopped(engine, edge, "edge", report)


def read(engine: Podman, edge: str) -> list[dict[str, Any]]:
    """Readings of enhanced frames so far."""
    told = engine("exec", edge, "cat", "/data/readings/readings.jsonl", check=False).stdout
    lines = [json.loads(line) for line in told.splitlines() if line.endswith("}")]
    return [line for line in lines if line["outcome"] == "enhanced"]


def stopped(engine: Podman, name: str, what: str, report: Report) -> None:
    began = time.monotonic()
    engine("stop", "--time", "40", name)
    code, took = engine.inspect(name)["State"]["ExitCode"], time.monotonic() - began
    report(f"SIGTERM ends the {what} in good order", code == 0, f"exit code {code} after {took:.0f} s")


def asked(engine: Podman, prometheus: str, report: Report) -> None:
    """Every query of dashboards, alerts and scaling, after some traffic."""
    time.sleep(SECONDS_OF_TRAFFIC)
    server = "http://127.0.0.1:9090"
    answers = [ask(server, query, "demo") for query in queries()]
    wrong = [f"{answer.query.where}: {answer.error}" for answer in answers if answer.error]
    report("Prometheus takes every query", not wrong, wrong or f"{len(answers)} of them")
    empty = [answer.query.where for answer in answers if not answer.series]
    report("queries with series", True, f"{len(answers) - len(empty)}; without: {empty}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / ".images", help="where all of it is kept")
    parser.add_argument("--python", default=DEFAULT_PYTHON, help="version for both images")
    parser.add_argument("--torch-wheel", type=Path, help="CPU build of PyTorch, where its index is not reached")
    parser.add_argument("--keep", action="store_true", help="leave what runs running")
    arguments = parser.parse_args()
    report = Report()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    try:
        if os.geteuid():
            raise EngineMissing("podman makes networks and file systems here: run it as root")
        engine = Podman(arguments.folder.resolve())
        wheel: Path | None = arguments.torch_wheel
        with_torch = re.search(r"-cp(\d)(\d+)-", wheel.name) if wheel else None
        versions = {
            "edge": arguments.python,
            "cloud-cpu": ".".join(with_torch.groups()) if with_torch else arguments.python,
        }
        for target, tag in (("edge", "lamplight-edge"), ("cloud-cpu", "lamplight-cloud:cpu")):
            build(engine, target, tag, versions[target], wheel)
            report(f"{target} built", True, sizes(engine, tag, versions[target]))
        stand_ins.others(engine, COMPOSE)
        try:
            run(engine, report)
        finally:
            if not arguments.keep:
                engine.compose("down", "--volumes", check=False)
    except (EngineMissing, subprocess.CalledProcessError) as error:
        report("all of it", False, str(error))
    (arguments.folder / "report.json").write_text(json.dumps(report.rows, indent=1))
    return int(not report.good)


if __name__ == "__main__":
    sys.exit(main())
