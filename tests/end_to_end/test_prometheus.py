"""The real Prometheus with our prometheus.yml on a cloud node and an edge at work: every query, by its HTTP API."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ports import free_port
from processes import Cloud, Process, edge_arguments, readings

from deploy.observability.ask import OBSERVABILITY, Answer, ask, queries

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here")

# Only after what does not happen here: a rejection, a fault, a drop, a break of the link.
QUIET = ("frames_rejected", "device_faults", "frames_dropped", "frames_resent", "spool_oldest", "lamplight_edge_spool_")


def test_it_takes_the_rules_and_the_configuration() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here")
    for words in (["check", "rules", "rules.yml"], ["check", "config", "--syntax-only", "prometheus.yml"]):
        ran = subprocess.run([promtool, *words], cwd=OBSERVABILITY, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_query_has_an_answer(start: Callable[..., Process], photos: Path, tmp_path: Path) -> None:
    http, metrics, port = free_port(), free_port(), free_port()
    cloud = start(Cloud, "--preset", "none", "--http", str(http))
    more = ("--loop", "--fps", "5", "--detector", "none", "--metrics-port", str(metrics))
    edge = start(Process, *edge_arguments(cloud.address, photos, tmp_path / "out", *more))
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    config["rule_files"] = [str(OBSERVABILITY / "rules.yml")]
    for job, target in zip(config["scrape_configs"], (http, metrics), strict=True):
        job["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    config["scrape_configs"][0] = {"job_name": "cloud", "static_configs": [{"targets": [f"127.0.0.1:{http}"]}]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    log = tmp_path / "prometheus.log"
    with log.open("wb") as said:
        prometheus = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        answers: list[Answer] = []

        def all_have_series() -> bool:
            assert prometheus.poll() is None, log.read_text()
            try:
                answers[:] = [ask(f"http://127.0.0.1:{port}", query, "edge-out", "10s") for query in queries()]
            except OSError:
                return False
            return bool(readings(tmp_path / "out")) and not missing(answers)

        edge.wait_until(all_have_series)
    finally:
        prometheus.terminate()
        prometheus.wait()
    assert not [answer for answer in answers if answer.error]


def missing(answers: list[Answer]) -> list[Answer]:
    """Those without series that should have some; refused ones are not waited for."""
    expected = [answer for answer in answers if not answer.query.where.startswith("rules.yml")]
    noisy = [answer for answer in expected if not any(word in answer.query.promql for word in QUIET)]
    return [answer for answer in noisy if not answer.series and not answer.error]
