import asyncio
import itertools
import logging
from pathlib import Path

import pytest

from edge_node import machine
from edge_node.care import PATIENCE, SLOWEST, Care, Slowdown, next_factor
from edge_node.settings import Care as Bounds


def zone(thermal: Path, number: int, millidegrees: str, kind: str = "cpu-thermal") -> None:
    folder = thermal / f"thermal_zone{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "temp").write_text(f"{millidegrees}\n")
    (folder / "type").write_text(f"{kind}\n")


def test_the_hottest_plausible_zone_counts(tmp_path: Path) -> None:
    assert machine.celsius(tmp_path) is None
    zone(tmp_path, 0, "48300")
    zone(tmp_path, 1, "61250", "gpu-thermal")
    zone(tmp_path, 2, "-274000", "no-sensor")
    zone(tmp_path, 10, "nonsense")
    assert machine.celsius(tmp_path) == (61.25, "gpu-thermal")


def test_what_this_process_uses() -> None:
    used, available = machine.rss_mib(), machine.available_mib()
    assert used is not None and available is not None
    block = bytearray(b"x" * (64 * machine.MIB))
    more = machine.rss_mib()
    assert more is not None and more > used + 48 and len(block)


def test_frames_halve_while_it_is_hot_and_come_back_when_it_has_cooled() -> None:
    factor, factors = 1, []
    for degrees in (70, 81, 85, 79, 76, 74.9, 74, 74):
        factor = next_factor(factor, degrees, 80.0)
        factors.append(factor)
    assert factors == [1, 2, 4, 4, 4, 2, 1, 1]
    for _ in range(20):
        factor = next_factor(factor, 99, 80.0)
    assert factor == SLOWEST


def test_a_hot_node_slows_down_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slowdown = Slowdown()
    care = Care(Bounds(max_celsius=80.0), slowdown, asyncio.Event(), thermal=tmp_path)
    with caplog.at_level(logging.WARNING):
        care.check_temperature()
        care.check_temperature()
        assert [record.getMessage() for record in caplog.records] == [
            f"--max-celsius has no effect: no temperature is told in {tmp_path}"
        ]
        zone(tmp_path, 0, "84000")
        care.check_temperature()
        assert slowdown.factor == 2 and "84 °C" in caplog.text and "one frame of 2" in caplog.text
        assert "84 °C, one frame of 2 to cool down" in care.status()
        zone(tmp_path, 0, "70000")
        care.check_temperature()
        assert slowdown.factor == 1 and "taking every frame" in caplog.text


def test_a_live_source_skips_and_a_file_loses_nothing() -> None:
    slowdown = Slowdown()
    live, file = slowdown.pass_for(True), slowdown.pass_for(False)
    assert [live() for _ in range(4)] == [True] * 4
    slowdown.factor = 4
    assert [live() for _ in range(8)].count(True) == 2
    assert [file() for _ in range(8)] == [True] * 8


def test_memory_above_the_bound_for_a_while_ends_the_node(caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()
    care = Care(Bounds(max_rss_mib=1), Slowdown(), stop)
    for _ in range(PATIENCE - 1):
        care.check_memory()
    assert not stop.is_set() and not care.wants_restart
    care.check_memory()
    assert stop.is_set() and care.wants_restart and "--max-rss-mib 1" in caplog.text


def test_memory_that_falls_again_is_forgiven(tmp_path: Path) -> None:
    stop, care = asyncio.Event(), None
    statm = tmp_path / "self" / "statm"
    statm.parent.mkdir()
    care = Care(Bounds(max_rss_mib=100), Slowdown(), stop, proc=tmp_path)
    for pages in itertools.islice(itertools.cycle([2**16] * (PATIENCE - 1) + [2**8]), 20):
        statm.write_text(f"999999 {pages} 1 1 0 1 0\n")
        care.check_memory()
    assert not stop.is_set()


def test_without_bounds_nothing_is_done() -> None:
    stop = asyncio.Event()
    care = Care(Bounds(), Slowdown(), stop)
    for _ in range(PATIENCE + 1):
        care.check_memory()
        care.check_temperature()
    assert not stop.is_set()
