from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

import edge_node.cli
from cloud_node.settings import CloudSettings
from common.errors import SettingsError
from common.packing import ImageFormat
from common.settings import group, load, option
from edge_node.settings import EdgeSettings


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True, slots=True)
class Inner:
    depth_ms: int = option(5, "how deep")


@dataclass(frozen=True, slots=True)
class Outer:
    name: str = option("x", "what it is called")
    size: int = option(1, "how large")
    share: float = option(0.5, "how much")
    loud: bool = option(False, "speak up")
    colour: Colour = option(Colour.RED, "which colour")
    numbers: tuple[int, ...] | None = option(None, "some numbers")
    path: Path | None = option(None, "where")
    inner: Inner = group(Inner)


def test_defaults() -> None:
    assert load(Outer, [], {}) == Outer()


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('name = "file"\nsize = 2\nshare = 1\n[inner]\ndepth_ms = 7\n')
    made = load(Outer, ["--config", str(file), "--name", "flag"], {"LAMPLIGHT_NAME": "env", "LAMPLIGHT_SIZE": "3"})
    assert (made.name, made.size, made.share, made.inner.depth_ms) == ("flag", 3, 1.0, 7)


def test_every_kind_of_value_from_flags() -> None:
    made = load(Outer, ["--loud", "--colour", "blue", "--numbers", "1,2", "--path", "/x", "--depth-ms", "9"], {})
    assert made == Outer(loud=True, colour=Colour.BLUE, numbers=(1, 2), path=Path("/x"), inner=Inner(9))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nmae", "y"], "there is no flag --nmae; is --name meant?"),
        (["--zzz=1"], "there is no flag --zzz (`lamp --help`"),
        ([""], "an argument is empty (`lamp --help`"),
        (["  "], "an argument is empty (`lamp --help`"),
        (["stray"], "nothing here takes 'stray' (`lamp --help`"),
        (["--size"], "argument --size: expected one argument (`lamp --help`"),
    ],
)
def test_a_wrong_flag_is_one_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        load(Outer, argv, {}, prog="lamp")
    said = capsys.readouterr().err
    assert exit.value.code == 2 and message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size = 1\nsizes = 3\n", r"s\.toml:2: unknown setting 'sizes'"),
        ("[inner]\ndeep = 3\n", r"s\.toml:2: unknown setting 'inner\.deep'"),
        ("\nsize = 'large'\n", r"s\.toml:2: 'large' is not a whole number"),
        ("size = 1.5\n", r"s\.toml:1: 1\.5 is not a whole number"),
        ("size = true\n", r"s\.toml:1: True is not a whole number"),
        ("size = \n", "s.toml"),
        ("inner = 3\n", r"s\.toml:1: unknown setting 'inner'"),
        ("colour = 'green'\n", "one of red, blue"),
        ("size = 1\n[inner]\nsize = 2\n", r"s\.toml:3: unknown setting 'inner\.size'"),
        ("size = 1\n[ inner ]\n'depth_ms' = 'x' # a = b\n", r"s\.toml:3: 'x' is not a whole number"),
        ("inner.deep = 3\n", r"s\.toml:1: unknown setting 'inner\.deep'"),
        ("name = ['x']\n", r"s\.toml:1: \['x'\] is not text"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load(Outer, ["--config", str(file)], {})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"size = " + b"[" * 5000, "too deep"),
        (b"x = " + b"{a=" * 5000, "too deep"),
        (b"size = " + b"9" * 5000, "digits"),
        (b"#" * 2**20 + b"#", "more than 1,048,576 bytes"),
        (b"name = '\xff'", "utf-8"),
        (b"\0", "s.toml"),
    ],
)
def test_a_hostile_file_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(data)
    with pytest.raises(SettingsError, match=message):
        load(Outer, ["--config", str(file)], {})


def test_a_file_without_end_and_a_name_that_cannot_be() -> None:
    with pytest.raises(SettingsError, match="more than 1,048,576 bytes"):
        load(Outer, ["--config", "/dev/zero"], {})
    with pytest.raises(SettingsError, match="null byte"):
        load(Outer, ["--config", "a\0b"], {})


def test_a_table_is_understood_under_its_former_name(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("source = 'a.mp4'\n[keep]\nspool_mib = 7\n[spooling]\nspool_hours = 3\n")
    spooling = load(EdgeSettings, ["--config", str(file)], {}).spooling
    assert (spooling.spool_mib, spooling.spool_hours) == (7, 3.0)
    file.write_text("source = 'a.mp4'\n\n[keep]\nspool_gib = 7\n")
    with pytest.raises(SettingsError, match=r"s\.toml:4: unknown setting 'keep\.spool_gib'"):
        load(EdgeSettings, ["--config", str(file)], {})
    for first, second in (("keep", "spooling"), ("spooling", "keep")):
        file.write_text(f"source = 'a.mp4'\n[{first}]\nspool_mib = 7\n[{second}]\nspool_mib = 8\n")
        words = rf"s\.toml:5: 'spooling\.spool_mib' is set twice: \[{second}\] and \[{first}\] are the same"
        with pytest.raises(SettingsError, match=words):
            load(EdgeSettings, ["--config", str(file)], {})


def test_a_missing_file() -> None:
    with pytest.raises(SettingsError, match="nowhere.toml: No such file"):
        load(Outer, ["--config", "nowhere.toml"], {})


@pytest.mark.parametrize(
    ("flags", "environ", "message"),
    [
        (["--size", "big"], {}, "--size: 'big' is not a whole number"),
        ([], {"LAMPLIGHT_SHARE": "half"}, "LAMPLIGHT_SHARE: 'half' is not a number"),
        ([], {"LAMPLIGHT_LOUD": "perhaps"}, "LAMPLIGHT_LOUD: 'perhaps' is not true or false"),
        (["--numbers", "1,x"], {}, "not a list of int"),
    ],
)
def test_a_wrong_value_names_its_origin(flags: list[str], environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(Outer, flags, environ)


def test_help_shows_groups_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        load(Outer, ["--help"], {}, prog="python -m outer")
    text = capsys.readouterr().out
    assert exit.value.code == 0
    for expected in ("inner:", "--depth-ms", "(default: 5)", "{red,blue}", "python -m outer"):
        assert expected in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "say what to look at"),
        (["--camera", "0", "--source", "x"], "say what to look at"),
        (["--camera", "0", "--size", "big"], "as 1280x720"),
        (["--camera", "0", "--edge", "a.b"], "--edge"),
        (["--camera", "0", "--in-flight", "0"], "--in-flight 0: at least 1"),
        (["--camera", "0", "--quality", "101"], "--quality 101"),
        (["--camera", "0", "--result-format", "png"], "png is not offered"),
    ],
)
def test_edge_settings_that_make_no_sense(flags: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(EdgeSettings, flags, {})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gpus", "0", "--device", "cpu"], "exclude each other"),
        (["--port", "70000"], "--port 70000"),
        (["--window-frames", "0"], "--window-frames 0: at least 1"),
        (["--batch-frames", "-1"], "--batch-frames -1: at least 1"),
        (["--max-queued", "0"], "--max-queued 0: at least 1"),
        (["--grace-s", "-5"], "--grace-s -5: at least 0"),
        (["--quality", "-1"], "--quality -1"),
        (["--result-format", "png"], "png is not offered"),
    ],
)
def test_cloud_settings_that_make_no_sense(flags: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(CloudSettings, flags, {})


def test_both_commands_have_sensible_defaults() -> None:
    assert load(CloudSettings, ["--gpus", "0,1"], {}).gpus == (0, 1)
    edge = load(EdgeSettings, ["--camera", "0", "--size", "640x480", "--result-format", "webp"], {})
    assert edge.camera_size == (640, 480)
    assert edge.sending.result_format is ImageFormat.WEBP
    assert edge.name


@dataclass(frozen=True, slots=True)
class Lists:
    numbers: tuple[int, ...] = option((), "some numbers")
    lines: tuple[str, ...] = option((), "lines, with commas in them", apart="\n")


def test_a_list_may_be_given_in_parts(tmp_path: Path) -> None:
    made = load(Lists, ["--numbers", "1,2", "--numbers", "3", "--lines", "a,b", "--lines", "c"], {})
    assert made == Lists((1, 2, 3), ("a,b", "c"))
    assert load(Lists, [], {"LAMPLIGHT_LINES": "a,b\nc", "LAMPLIGHT_NUMBERS": "4"}) == Lists((4,), ("a,b", "c"))
    with pytest.raises(SettingsError, match=r"--numbers: \['1', 'x'\] is not a list of int"):
        load(Lists, ["--numbers", "1,x"], {})


def test_a_secret_is_shown_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True, slots=True)
    class Settings:
        url: str = option("", "where to", secret=True)
        name: str = option("x", "who")

    made = load(Settings, [], {"LAMPLIGHT_URL": "nats://me:hush@host"})
    assert made.url.startswith("nats://me:hush") and "hush" not in repr(made) and "name='x'" in repr(made)
    file = tmp_path / "s.toml"
    file.write_text('url = ["nats://me:hush@host"]\n')
    with pytest.raises(SettingsError, match=r"s.toml:1: \*\*\* is not text"):
        load(Settings, ["--config", str(file)], {})
    with pytest.raises(SystemExit):
        load(Settings, ["--help"], {"LAMPLIGHT_URL": "nats://me:hush@host"})
    shown = capsys.readouterr().out
    assert "hush" not in shown and "LAMPLIGHT_URL" in shown


def test_a_word_that_is_no_command_of_an_edge(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        edge_node.cli.main(["night.mp4"])
    assert exit.value.code == 2
    assert "--source night.mp4" in capsys.readouterr().err
