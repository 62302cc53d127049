"""Who is let in, thrown out, and what lies in the files."""

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from enrolled import authority, bundle

from cloud_node.cli import _command
from cloud_node.identity.authority import Authority
from cloud_node.identity.certificates import Issuer, holder_of
from cloud_node.identity.node import NodeIdentity
from common.errors import SettingsError
from common.files import write_private
from common.identity import read_bundle


def enroll(*arguments: str) -> int:
    return _command(["enroll", *arguments])


def test_the_commands_from_nothing_to_revocation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    enroll("--init", "--name", "gpu-box", "--name", "10.0.0.5")
    enroll("edge-17")
    enroll("gate-0,gate-1", "--days", "7", "--out", "gate.bundle")
    assert read_bundle(Path("edge-17.bundle")).cloud == ("gpu-box:50051", "10.0.0.5:50051")
    assert read_bundle(Path("gate.bundle")).edges == ("gate-0", "gate-1")
    said = capsys.readouterr().out
    assert "gpu-box, 10.0.0.5" in said and "PRIVATE" not in said and "SU" not in said
    enroll("--revoke", "edge-17")
    enroll("--list")
    listed = capsys.readouterr().out
    assert "revoked  " in listed and "edge-17" in listed and "valid    " in listed and "gate-0,gate-1" in listed
    serial = f"{x509.load_pem_x509_certificate(read_bundle(Path('gate.bundle')).certificate.encode()).serial_number:x}"
    enroll("--revoke", serial.upper())
    assert len(json.loads(Path("authority/node/revoked.json").read_text())) == 2
    with pytest.raises(SettingsError, match="no edge and no serial"):
        enroll("--revoke", "edge-18")


def test_no_file_is_readable_by_others(tmp_path: Path) -> None:
    made = authority(tmp_path)
    made.rotate(["gpu-box"])
    made.rotate_authority()
    bundle(made, "edge-17")
    for path in tmp_path.rglob("*"):
        assert path.name == "lock" or not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    private = {"ca.key", "keys.json", "register.json"}
    assert not private & {path.name for path in made.node.iterdir()}


@pytest.mark.parametrize(
    "name", ["../edge", "a/b", "/etc/x", "a.b", "*", ">", "a b", "", "a\nb", "é", "a" * 65, "a,,b"]
)
def test_a_name_that_is_no_token_becomes_neither_path_nor_subject(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = authority(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    with pytest.raises((SettingsError, SystemExit)):
        enroll("--folder", str(made.folder), name)
    assert {path.name for path in set(tmp_path.rglob("*")) - before} <= {"lock"}


def test_an_authority_is_not_overwritten_and_not_guessed(tmp_path: Path) -> None:
    made = authority(tmp_path)
    with pytest.raises(SettingsError, match="not empty"):
        Authority.init(made.folder, [], [], [])
    with pytest.raises(SettingsError, match="no authority in"):
        Authority(tmp_path)
    with pytest.raises(SettingsError, match=r"--identity .*: not the folder node/.*: name .*node"):
        NodeIdentity(made.folder)
    with pytest.raises(SettingsError, match="host name"):
        Authority.init(tmp_path / "other", ["é é"], [], [])
    assert not (tmp_path / "other").exists()
    (made.folder / "ca.key").chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        made.enroll(["edge-17"])
    for content in ("{}", "[]", "x", '{"operator": "SUAB"}'):
        write_private(made.folder / "keys.json", content)
        with pytest.raises(SettingsError, match="is broken"):
            Authority(made.folder)


def test_two_commands_at_once_do_not_lose_what_the_other_did(tmp_path: Path) -> None:
    made = authority(tmp_path)
    with made.changing() as first:
        with pytest.raises(SettingsError, match="another command"), made.changing():
            pass
        first.enroll(["a"])
    with made.changing() as second:
        second.enroll(["b"])
    assert [entry.edges for entry in Authority(made.folder).entries] == [("a",), ("b",)]


def test_an_existing_authority_signs(tmp_path: Path) -> None:
    existing = Issuer.make(30)
    (tmp_path / "corporate.crt").write_bytes(existing.pem)
    write_private(tmp_path / "corporate.key", existing.key_pem)
    files = (tmp_path / "corporate.crt", tmp_path / "corporate.key")
    made = Authority.init(tmp_path / "a", [], [], [], files)
    issued = x509.load_pem_x509_certificate(made.enroll(["edge-17"]).certificate.encode())
    issued.verify_directly_issued_by(existing.certificates[0])
    leaf = existing.server(["x"], 1)
    (tmp_path / "leaf.crt").write_bytes(leaf.chain)
    write_private(tmp_path / "leaf.key", leaf.key)
    for certificate, key, says in (
        ("leaf.crt", "leaf.key", "not an authority's"),
        ("corporate.crt", "leaf.key", "not that of the first"),
        ("corporate.key", "corporate.key", "no certificate"),
        ("none", "leaf.key", "No such file"),
    ):
        with pytest.raises(SettingsError, match=says):
            Authority.init(tmp_path / "b", [], [], [], (tmp_path / certificate, tmp_path / key))


def test_a_certificate_says_who_it_is_for_and_nothing_else() -> None:
    issuer = Issuer.make(1)
    assert holder_of(issuer.client(["a", "b"], 1).chain).edges == ("a", "b")
    assert holder_of(issuer.server(["edge-17"], 1).chain).edges == ()
    assert holder_of(issuer.pem).edges == ()
    assert "PRIVATE" not in repr(issuer.client(["a"], 1))
