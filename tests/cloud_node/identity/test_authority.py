"""Who is let in, thrown out, and what lies in the files."""

import json
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from enrolled import authority, bundle

from cloud_node.cli import _command
from cloud_node.identity.authority import Authority
from cloud_node.identity.certificates import Issuer, holder_of
from cloud_node.identity.claims import _body, issued_of
from cloud_node.identity.node import NodeIdentity
from common.errors import SettingsError
from common.files import write_private
from common.identity import read_bundle


def enroll(*arguments: str) -> int:
    return _command(["enroll", *arguments])


def test_nothing_is_issued_that_has_nowhere_to_go(tmp_path: Path) -> None:
    made = authority(tmp_path)
    out = tmp_path / "bundles" / "edge-17.bundle"
    with pytest.raises(SettingsError, match="there is no folder .*bundles"):
        enroll("edge-17", "--folder", str(made.folder), "--out", str(out))
    assert not Authority(made.folder).entries
    out.parent.mkdir()
    assert enroll("edge-17", "--folder", str(made.folder), "--out", str(out)) == 0


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


def revoked_serials(made: Authority) -> list[str]:
    return list(json.loads((made.node / "revoked.json").read_text()))


def revocations(made: Authority) -> dict[str, int]:
    """Of edges' logins, as NATS is told."""
    accounts = json.loads((made.node / "nats.json").read_text())["accounts"]
    return dict(_body(accounts[made._edges.public])["nats"].get("revocations", {}))


def test_a_clock_that_went_back_voids_no_revocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, now_s = authority(tmp_path), time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 5_000_000)
    ahead = made.enroll(["edge-17"])
    issued_s = issued_of(ahead.credentials[0].split("\n")[1])
    made.rotate()
    monkeypatch.setattr(time, "time", lambda: now_s)
    before = [issued_of(token) for token in NodeIdentity(made.node).now.accounts.values()]
    made.revoke("edge-17")
    assert set(revocations(made).values()) == {issued_s} and issued_s > now_s
    made.rotate()
    made.forget_former()
    assert all(item.revoked_s >= item.issued_s > now_s for item in made.logins if item.revoked_s > now_s)
    assert sum(item.revoked_s > now_s for item in made.logins) == 2  # those that were issued ahead
    after = [issued_of(token) for token in NodeIdentity(Authority(made.folder).node).now.accounts.values()]
    assert min(after) > max(before) > now_s


def test_what_was_revoked_stays_so_a_while_after_it_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, now_s = authority(tmp_path), time.time()
    made.enroll(["edge-17"], days=1)
    [entry] = made.revoke("edge-17")
    for days, serials in ((20, [entry.serial]), (40, [])):
        monkeypatch.setattr(time, "time", lambda days=days: now_s + days * 86_400)
        made.rotate()
        assert revoked_serials(made) == serials and len(revocations(made)) == len(serials)


def test_a_certificate_that_is_not_in_the_register_is_revoked(tmp_path: Path) -> None:
    made = authority(tmp_path)
    unknown = made._issuer().client(["edge-17"], 1)
    with_colons = ":".join(f"{int(unknown.serial, 16):040x}"[at : at + 2] for at in range(0, 40, 2)).upper()
    [entry] = made.revoke(with_colons)
    made.revoke("0x0A1")
    assert set(revoked_serials(made)) == {unknown.serial, "a1"} == set(revoked_serials(Authority(made.folder)))
    assert entry.serial == unknown.serial and made.revoke(unknown.serial) == []
    enroll("--folder", str(made.folder), "--revoke", "ab" * 12)
    enroll("--folder", str(made.folder), "--list")
    assert "ab" * 12 in revoked_serials(made)
    for other in ("17", "cafe", "edge-18", "0x", "0xq", "0x" + "1" * 41, "g" * 16):
        with pytest.raises(SettingsError, match="no edge and no serial"):
            made.revoke(other)


def test_former_bundles_are_void_when_they_are_forgotten(tmp_path: Path) -> None:
    made = authority(tmp_path)
    made.enroll(["edge-17"])
    made.rotate_authority()
    made.enroll(["edge-18"])
    made.forget_former()
    former, kept = made.entries
    assert revoked_serials(made) == [former.serial] and set(revocations(made)) == set(former.nkeys)
    assert former.revoked_s and not kept.revoked_s
    register = json.loads((made.folder / "register.json").read_text())
    for entry in register["entries"]:  # as it was before that was kept
        del entry["issuer"]
        entry["revoked_s"] = 0
    register["entries"][0]["issued_s"] -= 3600
    write_private(made.folder / "register.json", json.dumps(register))
    again = Authority(made.folder)
    again.forget_former()
    assert [bool(entry.revoked_s) for entry in again.entries] == [True, False]


def test_a_change_of_authority_that_was_cut_short_leaves_one_that_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = authority(tmp_path)
    before = made._issuer().fingerprint

    def cut_short(path: Path, content: str | bytes) -> None:
        if path.name == "ca.key":
            raise KeyboardInterrupt
        write_private(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("cloud_node.identity.authority.write_private", cut_short)
        with pytest.raises(KeyboardInterrupt):
            made.rotate_authority()
    again = Authority(made.folder)
    issued = x509.load_pem_x509_certificate(again.enroll(["edge-17"]).certificate.encode())
    [signer] = again._issuer().certificates
    issued.verify_directly_issued_by(signer)
    assert signer.fingerprint(hashes.SHA256()).hex() == before
    again.rotate_authority()
    assert again._issuer().fingerprint != before
    again.forget_former()
    assert (made.node / "ca.crt").read_bytes().count(b"BEGIN") == 1
