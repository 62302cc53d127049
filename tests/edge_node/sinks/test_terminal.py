import io

from rich.console import Console

from common.frame import Outcome, Route
from edge_node.sinks import TerminalLine


def plain() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=200, force_terminal=False), text


def test_counts(make_shown) -> None:
    console, _ = plain()
    line = TerminalLine(22, console=console)
    for sequence, latency_ms in enumerate([10, 20, 90], 1):
        line.write(make_shown(sequence, latency_ns=latency_ms * 1_000_000))
    line.write(make_shown(4, outcome=Outcome.EXPIRED, latency_ns=10**12))
    line.write(make_shown(5, outcome=Outcome.FAILED))
    line.write(make_shown(6, outcome=Outcome.FAILED))
    text = line.line()
    assert text.startswith("6/22 frames   3 text regions   p50 20 ms   ")
    assert "frames/s" in text
    assert text.endswith("1 expired   2 failed")
    line.close()


def test_without_a_terminal_lines_are_few_and_plain(make_shown) -> None:
    console, text = plain()
    line = TerminalLine(console=console, every_s=3600)
    for sequence in range(50):
        line.write(make_shown(sequence))
    line.close()
    line.close()
    lines = text.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("1 frames")
    assert lines[1].startswith("50 frames   50 text regions")
    assert "\x1b" not in text.getvalue()


def test_on_a_terminal_there_is_one_live_line(make_shown) -> None:
    text = io.StringIO()
    line = TerminalLine(3, console=Console(file=text, force_terminal=True, width=40))
    for sequence in range(3):
        line.write(make_shown(sequence))
    line.close()
    shown = text.getvalue()
    assert "3/3 frames" in shown
    assert shown.count("\n") <= 2


def test_a_terminal_keeps_its_cursor_until_the_first_frame(make_shown) -> None:
    hide, show = "\x1b[?25l", "\x1b[?25h"
    text = io.StringIO()
    line = TerminalLine(3, console=Console(file=text, force_terminal=True, width=40))
    assert text.getvalue() == "", "a start that fails later leaves the terminal as it was"
    line.write(make_shown(1))
    assert hide in text.getvalue() and show not in text.getvalue()
    line.close()
    closed = text.getvalue()
    assert closed.endswith(show) or closed.rindex(show) > closed.rindex(hide)
    line.close()
    line.write(make_shown(2))
    assert text.getvalue() == closed
    assert line.frames == 1


def test_no_frames_at_all() -> None:
    console, text = plain()
    TerminalLine(console=console).close()
    assert text.getvalue() == "0 frames   0 text regions   0.0 frames/s\n"


def test_the_ways_that_frames_took(make_shown) -> None:
    console, _ = plain()
    line = TerminalLine(console=console)
    for sequence, path in enumerate([Route.CLOUD, Route.EDGE, Route.EDGE]):
        line.write(make_shown(sequence, path=path))
    line.write(make_shown(3, outcome=Outcome.AS_IS, path=Route.NONE))
    assert line.line().endswith("2 lit here   1 read as they are") and "p50" in line.line()
    line.close()
