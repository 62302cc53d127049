"""A cloud node's folder while it runs: a revocation that could not be read at once is not lost."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from enrolled import authority, bundle

from cloud_node.identity import node
from cloud_node.identity.claims import _token
from cloud_node.identity.node import NodeIdentity
from cloud_node.settings import CloudSettings
from cloud_node.trust import Trust
from common.errors import SettingsError
from common.files import write_private
from common.settings import load

HANG_S = 120


async def until_revoked(identity: NodeIdentity, serial: str) -> None:
    async with asyncio.timeout(HANG_S):
        while serial not in identity.now.revoked:
            await asyncio.sleep(0.02)


async def test_what_cannot_be_read_is_tried_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = authority(tmp_path)
    bundle(made, "edge-17")
    identity, told, failures = NodeIdentity(made.node), [], 3
    identity.on_change.append(lambda: told.append(identity.now))
    read = node._read

    def fails_at_first(folder: Path) -> node.Secrets:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise SettingsError(f"{folder / 'revoked.json'}: Too many open files")
        return read(folder)

    monkeypatch.setattr(node, "_read", fails_at_first)
    running = asyncio.create_task(identity.run())
    [entry] = made.revoke("edge-17")
    await until_revoked(identity, entry.serial)
    await asyncio.sleep(0)
    assert failures == -1 and told == [identity.now]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_file_that_others_could_read_counts_once_that_is_put_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = authority(tmp_path)
    bundle(made, "edge-17")
    identity = NodeIdentity(made.node)
    [entry] = made.revoke("edge-17")
    (made.node / "revoked.json").chmod(0o644)
    running = asyncio.create_task(identity.run())
    async with asyncio.timeout(HANG_S):
        while "stays as it was" not in caplog.text:
            await asyncio.sleep(0.02)
    assert entry.serial not in identity.now.revoked and "chmod 600" in caplog.text
    (made.node / "revoked.json").chmod(0o600)
    await until_revoked(identity, entry.serial)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_folder_of_before_imports_kept_their_subjects_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = authority(tmp_path)
    NodeIdentity(made.node)
    assert "--rotate" not in caplog.text
    nats = json.loads((made.node / "nats.json").read_text())
    former = {"type": "account", "imports": [{"subject": "$JS.API.INFO", "local_subject": "lamplight.api.INFO"}]}
    nats["accounts"][made._edges.public] = _token(made._operator, made._edges.public, "edges", former, 1)
    write_private(made.node / "nats.json", json.dumps(nats))
    NodeIdentity(made.node)
    assert "enroll --rotate" in caplog.text
    for token in ("", "a", "a.b.c", "a.W10.c", 7):
        write_private(made.node / "nats.json", json.dumps({**nats, "accounts": {"A": token}}))
        with pytest.raises(SettingsError, match="is broken"):
            NodeIdentity(made.node)
    made.rotate()
    caplog.clear()
    NodeIdentity(made.node)
    assert "--rotate" not in caplog.text


def test_an_address_that_the_certificate_lacks_is_named_before_nats_starts(tmp_path: Path) -> None:
    made = authority(tmp_path)
    arguments = ["--host", "127.0.0.9", "--identity", str(made.node)]
    with pytest.raises(SettingsError, match=r"--host 127\.0\.0\.9: .*enroll --rotate --name 127\.0\.0\.9`"):
        Trust(load(CloudSettings, arguments, {})).embedded()
    made.rotate(["127.0.0.9"])
    Trust(load(CloudSettings, arguments, {})).embedded()


def test_nats_is_told_of_files_by_names_that_stay(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: each name is a link through ..data, which leads elsewhere once that changes."""
    made, mounted = authority(tmp_path), tmp_path / "mounted"
    shutil.copytree(made.node, mounted / "..1")
    for file in (mounted / "..1").iterdir():
        (mounted / file.name).symlink_to(f"..data/{file.name}")
    (mounted / "..data").symlink_to("..1")
    tls = NodeIdentity(mounted).nats_settings(tmp_path / "accounts")["tls"]
    (mounted / "..1").rename(mounted / "..2")
    (mounted / "..data").unlink()
    (mounted / "..data").symlink_to("..2")
    assert all(Path(tls[name]).is_file() for name in ("cert_file", "key_file", "ca_file"))
