"""NATS as the overlays have it: real servers with the rendered configuration, and the commands of its containers."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from overlays import OVERLAYS, container_of, mounted, nats_conf, of
from ports import free_port

from cloud_node.identity.nats_conf import HANDSHAKE_S
from common.identity import read_bundle
from common.nats_server import find_server

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl to render overlays with")
PASSWORD = "0123456789"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    enroll(folder, "--init", "--name", "nats")
    enroll(folder, "edge-1")
    return folder / "authority"


def enroll(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "cloud_node", "enroll", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


class Pod:
    """A NATS pod of an overlay, its paths and ports changed to such of this machine."""

    def __init__(self, overlay: str, authority: Path, folder: Path, number: int, cluster_ports: list[int]) -> None:
        self.overlay = overlay
        self.stateful, self.folder = of(overlay, "StatefulSet", "nats"), folder / f"nats-{number}"
        self.nats = container_of(overlay, "StatefulSet", "nats", "nats")
        self.trust = self.folder / "etc" / "trust"
        self.renew(authority)
        for name in ("run", "bin"):
            (self.folder / name).mkdir()
        (self.folder / "bin" / "nats-server").symlink_to(find_server())
        self.port, self.http = free_port(), free_port()
        text = self.here(nats_conf(overlay))
        for old, new in (("4222", self.port), ("8222", self.http), ("port: 6222", f"port: {cluster_ports[number]}")):
            assert str(old) in text or "cluster" not in text
            text = text.replace(str(old), str(new))
        self.config = self.folder / "etc" / "nats.conf"
        self.config.write_text(text)
        self.log = self.folder / "log"
        self.environment = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "EVERY_S": "0.1"}
        self.environment |= {"POD_NAME": f"nats-{number}", "PASSWORD": PASSWORD}
        for item in self.nats["env"]:
            if "value" in item:
                value = item["value"].replace("$(PASSWORD)", PASSWORD)
                for peer, port in enumerate(cluster_ports):
                    value = value.replace(f"nats-{peer}.nats-peers:6222", f"localhost:{port}")
                self.environment[item["name"]] = value

    def renew(self, authority: Path) -> None:
        mounted(self.stateful, "trust", authority / "node", self.trust)

    def here(self, text: str) -> str:
        changes = {
            "/etc/nats": self.folder / "etc",
            "/data": self.folder / "data",
            "/var/run/nats": self.folder / "run",
        }
        for old, new in changes.items():
            text = text.replace(old, str(new))
        return text

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            words = [self.here(word) for word in command]
            return subprocess.Popen(words, env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def start_server(self) -> subprocess.Popen[bytes]:
        return self.start(*self.nats["command"], *self.nats["args"])

    def ask(self, page: str) -> dict[str, object]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/{page}") as answer:
            return dict(json.load(answer))

    def said(self, words: str) -> Callable[[], bool]:
        return lambda: words in self.log.read_text()


def until(holds: Callable[[], bool], pod: Pod) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, pod.log.read_text()
        time.sleep(0.05)


@contextmanager
def ended(*processes: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


each = pytest.mark.parametrize("overlay", OVERLAYS)


@each
def test_a_real_server_takes_the_configuration(overlay: str, authority: Path, tmp_path: Path) -> None:
    replicas = of(overlay, "StatefulSet", "nats")["spec"]["replicas"]
    pod = Pod(overlay, authority, tmp_path, 0, [free_port() for _ in range(replicas)])
    pod.nats["args"] = [pod.nats["args"][0].replace("exec nats-server", "exec nats-server -t")]
    checked = pod.start_server()
    assert checked.wait() == 0, pod.log.read_text()
    routes = yaml.safe_load({item["name"]: item.get("value") for item in pod.nats["env"]}["ROUTES"])
    names = [route.partition("@")[2] for route in routes]
    assert names[:replicas] == [f"nats-{number}.nats-peers:6222" for number in range(replicas)], "*.nats-peers"
    assert ("$ROUTES" in pod.config.read_text()) == (replicas > 1)


@each
def test_it_is_told_of_new_certificates_and_goes_slowly(overlay: str, authority: Path, tmp_path: Path) -> None:
    """What nats.conf says counts; the container `reload` and preStop do what they are for."""
    pod = Pod(overlay, authority, tmp_path, 0, [free_port() for _ in range(3)])
    reload = container_of(overlay, "StatefulSet", "nats", "reload")
    server = pod.start_server()
    telling = pod.start(*reload["command"], *reload["args"])
    with ended(server, telling):
        until(pod.said("Server is ready"), pod)
        until(pod.said("told the server"), pod)
        found = pod.ask("varz")
        assert found["tls_timeout"] == HANDSHAKE_S
        grace_s = pod.stateful["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        text = pod.config.read_text()
        assert "lame_duck_grace_period: 10s" in text and "lame_duck_duration: 30s" in text and grace_s > 40
        first = shown(pod.port)
        other = tmp_path / "other"
        shutil.copytree(authority, other / "authority")
        enroll(other, "--rotate")
        pod.renew(other / "authority")
        until(lambda: shown(pod.port) != first, pod)
        stop = pod.nats["lifecycle"]["preStop"]["exec"]["command"]
        assert pod.start(*stop).wait() == 0, pod.log.read_text()
        until(pod.said("ame duck"), pod)
        server.send_signal(signal.SIGTERM)
        until(lambda: server.poll() is not None, pod)
    mounts = {mount["name"]: mount["mountPath"] for mount in reload["volumeMounts"]}
    assert mounts == {"trust": "/etc/nats/trust", "run": "/var/run/nats"}
    assert pod.stateful["spec"]["template"]["spec"]["shareProcessNamespace"]


def shown(port: int) -> bytes:
    """The certificate that a client is shown."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
        plain.recv(65536)  # INFO
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as secure:
            return secure.getpeercert(binary_form=True) or b""


def test_servers_find_each_other_and_an_edge_is_no_server(authority: Path, tmp_path: Path) -> None:
    """Its certificate is of the same authority: the password tells them apart."""
    ports = [free_port() for _ in range(3)]
    members = [Pod("one-gpu", authority, tmp_path, number, ports) for number in range(2)]
    for pod in members:
        as_cert_manager(pod, authority)
    with ended(*[pod.start_server() for pod in members]):
        for pod in members:
            until(pod.said("Route connection created"), pod)
        until(lambda: bool(members[0].ask("routez")["num_routes"]), members[0])
        assert b"Authorization Violation" in as_route(ports[0], authority.parent / "edge-1.bundle", "")
        assert b"Authorization Violation" in as_route(ports[0], authority.parent / "edge-1.bundle", "guess")
        assert b"Authorization Violation" not in as_route(ports[0], authority.parent / "edge-1.bundle", PASSWORD)


def as_cert_manager(pod: Pod, authority: Path) -> None:
    """Have the pod's certificate signed anew, for the uses that certificates.yaml asks for."""
    uses = {"server auth": ExtendedKeyUsageOID.SERVER_AUTH, "client auth": ExtendedKeyUsageOID.CLIENT_AUTH}
    asked = of(pod.overlay, "Certificate", "nats")["spec"]
    file, now = pod.trust / "server.crt", datetime.now(UTC)
    former = x509.load_pem_x509_certificate(file.read_bytes())
    issuer = x509.load_pem_x509_certificate((authority / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateBuilder(issuer.subject, former.subject, former.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([uses[use] for use in asked["usages"]]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, asked["dnsNames"])), critical=False)
        .sign(key, hashes.SHA256())
    )
    file.unlink()
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def as_route(port: int, bundle: Path, password: str) -> bytes:
    """What a server answers to who says, with an edge's certificate, that it is another server."""
    found, pair = read_bundle(bundle), bundle.with_name("pair.pem")
    pair.write_text(found.certificate + found.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(pair)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
        with context.wrap_socket(plain) as secure:
            secure.sendall(b"CONNECT " + json.dumps({"user": "nats", "pass": password}).encode() + b"\r\nPING\r\n")
            answer = b""
            while b"PONG" not in answer and b"-ERR" not in answer and (more := secure.recv(65536)):
                answer += more
            return answer
