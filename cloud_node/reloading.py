"""Weights and the policy, read again while the node runs: on a signal, and when their files are replaced."""

import asyncio
import logging
from pathlib import Path

from cloud_node.admission import Admission
from cloud_node.policy import Policy
from cloud_node.served_weights import ServedWeights
from cloud_node.settings import CloudSettings
from cloud_node.supervisor import Supervisor
from cloud_node.watch import FileWatch
from common.errors import LamplightError, SettingsError

log = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0


def read_policy(settings: CloudSettings) -> Policy:
    """The policy that the settings name. Raises SettingsError."""
    return Policy() if settings.policy is None else Policy.load(settings.policy, settings.preset)


def watched(settings: CloudSettings) -> FileWatch:
    """Of the files that `Reloader` reads again; to be made before they are read first, so that no change is missed."""
    policy = [] if settings.policy is None else [settings.policy]
    return FileWatch([*_weights(settings).values(), *policy])


def _weights(settings: CloudSettings) -> dict[str, Path]:
    return {preset: file for preset, file in settings.presets.items() if file is not None}


class Reloader:
    """What does not fit is said in the log, and the old stays. No frame waits for it, and none is lost."""

    def __init__(
        self,
        settings: CloudSettings,
        watch: FileWatch,
        served: ServedWeights,
        supervisor: Supervisor,
        admission: Admission,
    ) -> None:
        self._settings, self._served, self._supervisor, self._admission = settings, served, supervisor, admission
        self._watch, self._weights = watch, _weights(settings)
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> None:
        """Read everything again that came from a file."""
        async with self._one_at_a_time:
            if self._settings.policy is not None:
                await self._policy()
            for preset in self._weights:
                await self._preset(preset)

    async def run(self) -> None:
        """Look for replaced files until cancelled."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            for file in await asyncio.to_thread(self._watch.changed):
                async with self._one_at_a_time:
                    if file == self._settings.policy:
                        await self._policy()
                    for preset, weights in self._weights.items():
                        if weights == file:
                            await self._preset(preset)

    async def _policy(self) -> None:
        try:
            policy = await asyncio.to_thread(read_policy, self._settings)
        except SettingsError as error:
            log.error("the policy stays as it was: %s", error)
            return
        self._admission.set_policy(policy)
        log.warning("policy %s is in force", self._settings.policy)

    async def _preset(self, preset: str) -> None:
        file, before = self._weights[preset], self._served.files[preset]
        losses = self._losses()
        try:
            async with self._served.trying(preset, file) as copy:
                version = await self._supervisor.reload(preset, copy, before)
            await self._catch_up(preset, copy, losses)
        except LamplightError as error:
            log.error("preset %s keeps its weights: %s", preset, error)
            return
        except Exception:  # a device that is dying; the worker sees to that
            log.exception("preset %s keeps its weights", preset)
            return
        log.warning("preset %s is %s now", preset, version)

    async def _catch_up(self, preset: str, weights: Path, losses: list[int]) -> None:
        """A device that was lost while others took the weights was built again from those before."""
        for worker, had, has in zip(self._supervisor.workers, losses, self._losses(), strict=True):
            if has != had:
                try:
                    await worker.reload(preset, weights)
                except LamplightError as error:
                    log.error("%s does not serve the new weights of preset %s: %s", worker.name, preset, error)

    def _losses(self) -> list[int]:
        return [worker.counts["lost"] for worker in self._supervisor.workers]
