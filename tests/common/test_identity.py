"""Bundle files: what is read, and what hostile ones come to."""

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from enrolled import authority, bundle

from common.errors import SettingsError
from common.files import write_private
from common.identity import MAX_BYTES, Bundle, Identity, read_bundle

GARBAGE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bundle(authority(tmp_path_factory.mktemp("enrolled")), "edge-17").read_text()


def changed(text: str, **fields: Any) -> str:
    return json.dumps({**json.loads(text), **fields})


def test_what_was_written_is_read(good: str) -> None:
    read = Bundle.from_json(good)
    assert read.edges == ("edge-17",) and read.cloud == ("localhost:50051",) and read.expires_s > time.time()
    assert Bundle.from_json(read.to_json()) == read


def test_no_secret_is_shown(good: str, tmp_path: Path) -> None:
    body = json.loads(good)
    seed = body["credentials"][0].split("\n")[5]
    assert seed.startswith("SU")
    shown = repr(Bundle.from_json(good))
    assert "edge-17" in shown and seed not in shown and "PRIVATE" not in shown and "eyJ" not in shown
    for broken in (
        good[:-40],
        changed(good, key=seed),
        changed(good, credentials=seed + "\n"),
        changed(good, more=seed),
    ):
        write_private(tmp_path / "b", broken)
        with pytest.raises(SettingsError) as error:
            read_bundle(tmp_path / "b")
        assert seed not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "", "no JSON, or cut short"),
        (lambda text: text[: len(text) // 2], "cut short"),
        (lambda text: "[" * 100_000, "nested too deeply"),
        (lambda text: "[1]", "it is no lamplight edge bundle"),
        (lambda text: '{"kind": 7}', "it is no lamplight edge bundle"),
        (lambda text: changed(text, version=2), "its version is '2'"),
        (lambda text: changed(text, version=True), "its version is 'True'"),
        (lambda text: text.replace('"version": 1', f'"version": {"9" * 9999}'), "a number in it is too large"),
        (lambda text: text.replace('"version": 1', '"version": NaN'), "NaN is no value"),
        (lambda text: text.replace('"version": 1,', '"version": 1, "version": 1,'), "a key is there twice"),
        (lambda text: changed(text, **{"__class__": 1}), "unknown key '__class__'"),
        (lambda text: text.replace('"nats"', '"nats2"'), "unknown key 'nats2'"),
        (lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "key"}), "'key' is missing"),
        (lambda text: changed(text, edges=["../../etc"]), "edge name '../../etc'"),
        (lambda text: changed(text, edges=["a.b"]), "edge name 'a.b'"),
        (lambda text: changed(text, edges=["*"]), r"edge name '\*'"),
        (lambda text: changed(text, edges=[">"]), "edge name '>'"),
        (lambda text: changed(text, edges=["a b"]), "edge name 'a b'"),
        (lambda text: changed(text, edges=["a\n"]), "edge name"),
        (lambda text: changed(text, edges=["a" * 65]), "edge name"),
        (lambda text: changed(text, edges=["a", "a"]), "'edges' must be 1 to 64 names"),
        (lambda text: changed(text, edges=[]), "'edges' must be 1 to 64 names"),
        (lambda text: changed(text, edges=[["a"]]), "'edges' must be names"),
        (lambda text: changed(text, edges="edge-17"), "'edges' must be 1 to 64 names"),
        (lambda text: changed(text, expires_s="soon"), "'expires_s' is no time"),
        (lambda text: changed(text, expires_s=-1), "'expires_s' is no time"),
        (lambda text: changed(text, cloud=["a b"]), "'cloud' has something that is no address"),
        (lambda text: changed(text, cloud=["a,b"]), "'cloud' has something that is no address"),
        (lambda text: changed(text, cloud=["a" * 301]), "'cloud' has something that is no address"),
        (lambda text: changed(text, nats=["n"] * 65), "'nats' must be a list"),
        (lambda text: changed(text, nats={"a": 1}), "'nats' must be a list"),
        (lambda text: changed(text, key="../../../etc/shadow"), "'key' is not what it should be"),
        (lambda text: changed(text, key=json.loads(text)["certificate"]), "'key' is not what it should be"),
        (lambda text: changed(text, certificate=None), "'certificate' is not what it should be"),
        (lambda text: changed(text, authority=""), "'authority' is not what it should be"),
        (lambda text: changed(text, authority=GARBAGE), "a certificate is broken"),
        (lambda text: changed(text, certificate=GARBAGE), "a certificate is broken"),
        (lambda text: changed(text, credentials="-----BEGIN"), "'credentials' is not what it should be"),
        (lambda text: changed(text, credentials=["-----BEGIN"]), "'credentials' is not what it should be"),
        (lambda text: changed(text, credentials=2 * json.loads(text)["credentials"]), "'credentials' is not what"),
    ],
)
def test_a_hostile_bundle_is_refused_with_the_reason(good: str, tmp_path: Path, change: Any, says: str) -> None:
    write_private(tmp_path / "b", change(good))
    with pytest.raises(SettingsError, match=says):
        read_bundle(tmp_path / "b")


def test_a_huge_bundle_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    write_private(file, "")
    os.truncate(file, 10 * 2**30)  # sparse
    tracemalloc.start()
    with pytest.raises(SettingsError, match="larger than 262,144 bytes"):
        read_bundle(file)
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_bundle_that_others_can_read_is_refused(good: str, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "b"
    write_private(file, good)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(mode)
    with pytest.raises(SettingsError, match=f"others can read it .*chmod 600 {file}"):
        read_bundle(file)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, says in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory|no plain file"),
        (tmp_path / "pipe", "no plain file"),
        (Path("/dev/zero"), "no plain file"),
        (tmp_path / "a\0b", "null"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(SettingsError, match=says):
            read_bundle(path)
    write_private(tmp_path / "binary", bytes(range(256)))
    with pytest.raises(SettingsError, match="no text"):
        read_bundle(tmp_path / "binary")


def test_a_replaced_bundle_counts_and_a_broken_one_does_not(tmp_path: Path) -> None:
    made = authority(tmp_path)
    file = bundle(made, "edge-17")
    identity = Identity(file)
    first = identity.bundle
    assert identity.bundle is first
    bundle(made, "edge-17")
    second = identity.bundle
    assert second.certificate != first.certificate
    write_private(file, "{")
    assert identity.bundle is second
    write_private(file, bundle(made, "edge-18").read_bytes())
    assert identity.bundle is second  # another edge's


def test_a_file_appears_whole_and_private_whatever_was_there(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "f", tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    file.symlink_to(elsewhere)  # laid by another user of a shared folder
    write_private(file, "secret")
    assert file.read_text() == "secret" and not file.is_symlink() and elsewhere.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "f"]
    with pytest.raises(SettingsError, match="cannot write"):
        write_private(tmp_path / "no" / "f", "x")


def test_a_bundle_that_could_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = authority(tmp_path)
    file = bundle(made, "edge-17")
    identity = Identity(file)
    first, read = identity.bundle, read_bundle

    def fails(path: Path) -> Bundle:
        raise SettingsError(f"{path}: Too many open files")

    monkeypatch.setattr("common.identity.AGAIN_S", 0.0)
    monkeypatch.setattr("common.identity.read_bundle", fails)
    bundle(made, "edge-17")
    assert identity.bundle is first
    monkeypatch.setattr("common.identity.read_bundle", read)
    assert identity.bundle.certificate != first.certificate
    second = identity.bundle
    bundle(made, "edge-17").chmod(0o644)
    assert identity.bundle is second
    file.chmod(0o600)
    assert identity.bundle is not second
