"""The images, as far as they can be checked where none is built: linted, and what they are made from is whole."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cloud_node.alive import TIMEOUT_S
from cloud_node.settings import CloudSettings
from common.channel import DEFAULT_PORT
from common.settings import load
from deploy.images import local
from deploy.images.engine import PACKAGES
from edge_node.settings import EdgeSettings

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "deploy" / "images" / "Dockerfile"
TEXT = DOCKERFILE.read_text()


def stages() -> dict[str, str]:
    """Name -> its lines."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", TEXT, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


FINAL = {name: text for name, text in stages().items() if "ENTRYPOINT" in text}


def test_it_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_there_is_one_for_each_node_and_device() -> None:
    assert set(FINAL) == {"cloud-cpu", "cloud-cuda", "edge"}


@pytest.mark.parametrize("name", FINAL)
def test_they_run_as_a_user_without_rights_and_start_a_node(name: str) -> None:
    text = FINAL[name]
    assert "USER 10001" in text
    module = "edge_node" if name == "edge" else "cloud_node"
    assert f'ENTRYPOINT ["python", "-m", "{module}"]' in text
    if module == "cloud_node":
        assert f"EXPOSE {DEFAULT_PORT} 8080" in text
        assert CloudSettings(http="8080").http_address == ("127.0.0.1", 8080)


@pytest.mark.parametrize("name", FINAL)
def test_the_health_check_tells_alive_from_dead(name: str) -> None:
    check = re.search(r"^HEALTHCHECK .*--timeout=(\d+)s .*\\\n +CMD (\[.*\])$", FINAL[name], flags=re.MULTILINE)
    assert check, "there is none"
    _, *command = json.loads(check[2])

    def ends(port: int) -> int:
        words = [sys.executable, *(word.replace("8080", str(port)) for word in command)]
        away = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
        environment = {**os.environ, **away, "LAMPLIGHT_METRICS_PORT": f"0.0.0.0:{port}"}
        return subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True).returncode

    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = silent.getsockname()[1]
        assert ends(dead) == 1, "it takes connections and says nothing"
        assert int(check[1]) > 2 * TIMEOUT_S, "or else it is killed before it can tell"
    assert ends(dead) == 1
    with answering({"/livez", "/metrics"}) as port:
        assert ends(port) == 0
    with answering(set()) as port:
        assert ends(port) == 1
    with answering({"/livez", "/metrics"}, first=b"no HTTP at all\r\n\r\n") as port:
        assert ends(port) == 1


@contextmanager
def answering(paths: set[str], first: bytes = b"") -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if first:
                self.wfile.write(first)
            else:
                self.send_response(200 if self.path in paths else 503)
                self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_edge_in_a_container_serves_what_its_check_asks_for() -> None:
    port = re.search(r"^ENV LAMPLIGHT_METRICS_PORT=(\d+)$", FINAL["edge"], flags=re.MULTILINE)
    assert port
    settings = load(EdgeSettings, ["--camera", "0"], {"LAMPLIGHT_METRICS_PORT": port[1]})
    assert settings.telling.metrics_address == ("127.0.0.1", int(port[1]))


def test_the_context_makes_the_same_wheel_as_the_repository(tmp_path: Path) -> None:
    """Nothing that the package needs is kept out by the ignore file, and every weight is in."""
    allowed = [line[1:] for line in Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines() if line[0] == "!"]
    copied = re.findall(r"^COPY (?!--from)(.+)$", TEXT, flags=re.MULTILINE)
    sources = {source for line in copied for source in line.split()[:-1]}
    assert sources == set(allowed)
    context = tmp_path / "context"
    context.mkdir()
    for name in allowed:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, context / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, "."]
    subprocess.run(build, cwd=context, check=True)
    [wheel] = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for package in ("common", "cloud_node", "edge_node"):
        for file in (REPOSITORY / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert str(file.relative_to(REPOSITORY)) in inside
    assert "lamplight/v1/enhancement_pb2.py" in inside


def test_what_is_installed_is_locked() -> None:
    """Every file from an index has a hash, but torch for a CPU, which has a version."""
    installs = re.findall(r"pip (?:install|wheel) ([^&\n]+)", TEXT)
    away = [line for line in installs if "--no-index" not in line and not line.rstrip().endswith("/wheels/project .")]
    torch = [line for line in away if "--require-hashes" not in line]
    assert [re.sub(r"\s+", " ", line).strip() for line in torch] == [
        """--no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)\""""
    ]
    assert re.search(r"^torch==", (REPOSITORY / "constraints.txt").read_text(), flags=re.MULTILINE)
    locks = [re.findall(r"-r (deploy/locks/\S+)", line) for line in away if line not in torch]
    names = ("build", "cloud", "cloud-cpu", "edge", "source")
    assert sorted(name for [name] in locks) == sorted(f"deploy/locks/{name}.txt" for name in names)
    assert all((REPOSITORY / name).is_file() for [name] in locks)


def test_what_is_built_from_source_is_built_with_locked_tools() -> None:
    wheels = re.findall(r"pip wheel ([^&\n]+)", TEXT)
    assert len(wheels) == 2
    assert all("--no-build-isolation" in line and "--no-deps" in line for line in wheels)
    for line in re.findall(r"pip install ([^&\n]+)", TEXT):
        assert "--only-binary :all:" in line or "--no-index" in line or "TORCH_INDEX" in line
    build = (REPOSITORY / "deploy" / "locks" / "build.txt").read_text()
    assert all(f"\n{name}==" in build for name in ("hatchling", "setuptools"))


def test_the_page_names_the_packages_that_images_are_built_with() -> None:
    assert f"--no-install-recommends {PACKAGES}\n" in (REPOSITORY / "docs" / "deployment.md").read_text()


def test_what_is_missing_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["local", "--folder", str(tmp_path / "images")])
    assert local.main() == 1
    assert "run it as root" in json.loads((tmp_path / "images" / "report.json").read_text())[0]["detail"]
