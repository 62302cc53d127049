"""A cloud node's folder while it runs: a revocation that could not be read at once is not lost."""

import asyncio
from pathlib import Path

import pytest
from enrolled import authority, bundle

from cloud_node.identity import node
from cloud_node.identity.node import NodeIdentity
from common.errors import SettingsError

HANG_S = 30


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
