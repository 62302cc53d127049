"""Weights that are replaced while several devices serve them, some of which fail meanwhile."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from devices import House, PlainEngine, make_job

from cloud_node.reloading import Reloader
from cloud_node.restarts import RestartLimit
from cloud_node.served_weights import ServedWeights
from cloud_node.settings import CloudSettings
from cloud_node.watch import FileWatch
from common.errors import DeviceLost, WeightsError
from common.pixels import RawImage

SOON = RestartLimit(5, 600.0, 0.01)


class FileEngine(PlainEngine):
    """Its version is what its file says."""

    def __init__(
        self, served: ServedWeights, before: Callable[[Sequence[RawImage]], None], on_reload: Callable
    ) -> None:
        super().__init__(before)
        self._on_reload = on_reload
        file = served.files["plain"]
        assert file is not None
        self._take(file)

    def _take(self, file: Path) -> str:
        self.model = f"plain@{file.read_text()}"
        self.models = {"plain": self.model}
        return self.model

    def reload(self, preset: str, weights: Path | None) -> str:
        self._on_reload(weights.read_text())
        return self._take(weights)


class Place:
    """Two devices that serve a file, and what reads it again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.write_text("old")
        self.served = ServedWeights({"plain": file})
        self.fail_next = threading.Event()  # the first device is lost with its next batch
        self.on_second: Callable[[str], None] = lambda text: None  # called before the second takes other weights

        def first(images: Sequence[RawImage]) -> None:
            if self.fail_next.is_set():
                self.fail_next.clear()
                raise DeviceLost("gone")

        self.house = House(
            lambda: FileEngine(self.served, first, lambda text: None),
            lambda: FileEngine(self.served, lambda images: None, lambda text: self.on_second(text)),
            restarts=SOON,
        )
        settings = CloudSettings(preset=("plain",), weights=(f"plain={file}",))
        self.reloader = Reloader(settings, FileWatch([file]), self.served, self.house.supervisor, None)

    @property
    def models(self) -> list[str]:
        return [worker.models["plain"] for worker in self.house.workers]

    async def up(self) -> None:
        await self.house.until(lambda: self.house.supervisor.devices == 2)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "mine.safetensors")
    yield made
    made.served.close()


async def test_weights_that_one_device_refuses_are_on_none(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(text: str) -> None:
        raise WeightsError("no memory for both")

    await place.served.keep()
    async with place.house.running():
        await place.up()
        place.on_second = refuse
        place.file.write_text("new")
        await place.reloader.reload()
        assert place.models == ["plain@old", "plain@old"]
        assert "preset plain keeps its weights: no memory for both" in caplog.text
        place.house.submit(*map(make_job, range(4)))
        await place.house.settled()
    assert {result.model for result in place.house.results.values()} == {"plain@old"}


async def test_a_device_that_is_lost_while_another_takes_the_weights_has_them_in_the_end(place: Place) -> None:
    """It is built again from what was served until then, and nobody would have told it of the new ones."""
    loop, house = asyncio.get_running_loop(), place.house
    await place.served.keep()

    async def lose_the_first() -> None:
        place.fail_next.set()
        sequence = 0
        while not house.workers[0].counts["lost"]:
            house.submit(make_job(sequence))
            sequence += 1
            await asyncio.sleep(0.01)
        await house.until(lambda: house.workers[0].healthy)

    def meanwhile(text: str) -> None:
        if text == "new":
            asyncio.run_coroutine_threadsafe(lose_the_first(), loop).result(60)
            assert place.models == ["plain@old", "plain@old"]  # the first anew

    async with house.running():
        await place.up()
        place.on_second = meanwhile
        place.file.write_text("new")
        await place.reloader.reload()
        assert house.workers[0].counts["lost"] and place.models == ["plain@new", "plain@new"]
        await place.up()


async def test_a_disk_that_is_slow_holds_up_nobody_while_weights_are_copied(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, others_went_on = shutil.copyfile, threading.Event()

    def slowly(source: Path, target: Path) -> None:
        assert others_went_on.wait(30), "the event loop stood still"
        copied(source, target)

    monkeypatch.setattr(shutil, "copyfile", slowly)
    keeping = asyncio.create_task(place.served.keep())
    await asyncio.sleep(0.01)
    others_went_on.set()
    await keeping
    assert place.served.files["plain"].read_text() == "old"
