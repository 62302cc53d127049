"""A cloud node for all, processes for one test, and dark photographs."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import Cloud, Process, dark_photos


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """One node for every test that does not harm it."""
    node = Cloud("--grace-s", "1")  # at the end, for results of edges that are gone
    yield node
    assert node.end() == 0, node.output


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts processes that end with the test: start(Cloud, ...) or start(Process, ...)."""
    started: list[Process] = []

    def make(kind: type[Process], *arguments: str, **options: object) -> Process:
        started.append(kind(*arguments, **options))
        return started[-1]

    yield make
    for process in started:
        process.end(signal.SIGKILL)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four dark photographs with text."""
    return dark_photos(tmp_path / "photos")
