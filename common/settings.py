"""One frozen settings object per process, from flags, environment and a TOML file.

A settings class is a frozen dataclass whose fields are made by `option`; a field whose type is itself such
a class is a group: a heading in `--help` and a table in the file. Flags win over environment variables
(LAMPLIGHT_ and the flag's name), those over the file, that over the defaults.
"""

import argparse
import dataclasses
import difflib
import math
import os
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from common.errors import SettingsError

S = TypeVar("S")
PREFIX = "LAMPLIGHT_"
FILE_BYTES = 1024 * 1024  # of a settings file, at most


def option(
    default: Any,
    help: str,
    *,
    metavar: str = "",
    flag: str = "",
    apart: str = ",",
    secret: bool = False,
) -> Any:
    """A setting: its default, its one line of help, and how its flag is called if not as the field.

    A tuple's items are kept `apart` by this text; its flag may also be given several times. A `secret` one may hold a
    password: it is in no repr and in no message, and its help says where it belongs.
    """
    metadata = {
        "help": help, "metavar": metavar, "flag": flag, "apart": apart, "secret": secret,
    }  # fmt: skip
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


def group(cls: type[S], *, former: str = "") -> S:
    """A group of settings; in files its `former` name is understood too."""
    made: S = dataclasses.field(default_factory=cls, metadata={"former": former})
    return made


def check_least(*rows: tuple[str, float, float]) -> None:
    """Rows of (flag, value, least). Raises ValueError that names the flag of a value below, or not finite."""
    for flag, value, least in rows:
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"{flag} {value:g}: at least {least:g}")


@dataclasses.dataclass(frozen=True, slots=True)
class _Leaf:
    path: tuple[str, ...]
    field: "dataclasses.Field[Any]"
    kind: Any

    @property
    def flag(self) -> str:
        return str(self.field.metadata["flag"] or "--" + self.path[-1].replace("_", "-"))

    @property
    def variable(self) -> str:
        return PREFIX + self.flag.lstrip("-").replace("-", "_").upper()

    @property
    def dest(self) -> str:
        return ".".join(self.path)

    def read(self, value: Any, where: str) -> Any:
        """The value as this setting's type. Raises SettingsError."""
        return convert(self.kind, value, where, self.field.metadata["secret"])

    @property
    def is_list(self) -> bool:
        return typing.get_origin(self.kind) is tuple

    def items(self, *texts: str) -> Any:
        """What was given on the command line or in the environment, for `read`."""
        return (
            [item for text in texts for item in text.split(self.field.metadata["apart"])] if self.is_list else texts[0]
        )


def _leaves(cls: type, path: tuple[str, ...] = ()) -> list[_Leaf]:
    hints = typing.get_type_hints(cls)
    leaves = []
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if isinstance(kind, types.UnionType):
            (kind,) = [part for part in typing.get_args(kind) if part is not types.NoneType]
        if dataclasses.is_dataclass(kind):
            leaves += _leaves(typing.cast(type, kind), (*path, field.name))
        else:
            leaves.append(_Leaf((*path, field.name), field, kind))
    return leaves


def _former(cls: type) -> dict[str, str]:
    """Former names of groups, and what they are called now."""
    return {old: field.name for field in dataclasses.fields(cls) if (old := field.metadata.get("former"))}


def kinds(cls: type) -> dict[str, Any]:
    """The type of each field of a settings class, groups apart; `None` beside it left out."""
    return {leaf.path[-1]: leaf.kind for leaf in _leaves(cls)}


def convert(kind: Any, value: Any, where: str, secret: bool = False) -> Any:
    """A value from a flag, a variable or a file as this type; raises SettingsError that begins with `where`."""
    try:
        if typing.get_origin(kind) is tuple:
            items = value.split(",") if isinstance(value, str) else value
            return tuple(typing.get_args(kind)[0](item) for item in items)
        if kind is bool:
            if isinstance(value, bool):
                return value
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[str(value).lower()]
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind[str(value).upper()]
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise ValueError
        if kind is str and not isinstance(value, str | int):
            raise ValueError
        return kind(value)
    except (KeyError, ValueError, TypeError, OverflowError):
        raise SettingsError(f"{where}: {'***' if secret else repr(value)} is not {_expected(kind)}") from None


def _expected(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(member.name.lower() for member in kind)
    if typing.get_origin(kind) is tuple:
        return f"a list of {typing.get_args(kind)[0].__name__}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return str(names.get(kind, getattr(kind, "expected", kind)))


class TomlFile:
    """A TOML file that knows where its keys stand.

    Raises:
        SettingsError: when it cannot be read, or is no TOML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                data = file.read(FILE_BYTES + 1)
            if len(data) > FILE_BYTES:
                raise SettingsError(f"settings file {path}: it has more than {FILE_BYTES:,} bytes")
            text = data.decode("utf-8")
            self.tree: dict[str, Any] = tomllib.loads(text)
        except OSError as error:
            raise SettingsError(f"settings file {path}: {error.strerror}") from None
        except RecursionError:
            raise SettingsError(f"settings file {path}: lists or tables in it are too deep") from None
        except ValueError as error:  # no UTF-8, no TOML, a number with too many digits, a path with a zero byte
            raise SettingsError(f"settings file {path}: {error}") from None
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        arrays: dict[str, int] = {}  # how many [[name]] there were
        for number, row in enumerate(text.splitlines(), 1):
            header = row.lstrip().startswith("[")
            key = _key(row if header else row.partition("=")[0] + "= 0")
            if header and key:
                if row.lstrip().startswith("[[") and len(key) == 1:
                    arrays[key[0]] = arrays.get(key[0], -1) + 1
                    self._lines.setdefault(key, number)
                table = at = (key[0], str(arrays[key[0]]), *key[1:]) if key[0] in arrays else key
            else:
                at = (*table, *key)
            self._lines.setdefault(at, number)

    def where(self, *key: str) -> str:
        """The file and the line of a key, or of the table around it: `FILE:LINE`.

        The second [[name]] has the key ("name", "1").
        """
        while key and key not in self._lines:
            key = key[:-1]
        return f"{self.path}:{self._lines[key]}" if key else str(self.path)


def _key(row: str) -> tuple[str, ...]:
    """The names of a header or of a key that has a number for a value; empty for any other line."""
    try:
        at: Any = tomllib.loads(row)
    except (ValueError, RecursionError):
        return ()
    names: list[str] = []
    while isinstance(at, dict) and at:
        [(name, at)] = at.items()
        names.append(name)
        at = at[0] if isinstance(at, list) else at
    return tuple(names)


def _read_file(
    path: Path, leaves: Sequence[_Leaf], former: Mapping[str, str], array: str = ""
) -> tuple[dict[tuple[str, ...], Any], list[dict[tuple[str, ...], Any]]]:
    """The settings of a file, and those of each table of the array [[array]] in it."""
    file = TomlFile(path)
    known = {leaf.path: leaf for leaf in leaves}
    groups = {leaf.path[:depth] for leaf in leaves for depth in range(1, len(leaf.path))}

    def walk(table: Mapping[str, Any], into: dict[tuple[str, ...], Any], at: tuple[str, ...], within: Any = ()) -> None:
        for key, value in table.items():
            here = (*at, key)
            now = (former.get(here[0], here[0]), *here[1:])
            if now in known:
                if now in into:
                    raise SettingsError(
                        f"{file.where(*within, *here)}: '{'.'.join(now)}' is set twice: "
                        f"[{here[0]}] and [{_other_name(here[0], former)}] are the same table, keep one"
                    )
                into[now] = known[now].read(value, file.where(*within, *here))
            elif now in groups and isinstance(value, dict):
                walk(value, into, here, within)
            else:
                raise SettingsError(f"{file.where(*within, *here)}: unknown setting '{'.'.join(here)}'")

    found: dict[tuple[str, ...], Any] = {}
    tables: list[dict[tuple[str, ...], Any]] = []
    tree = dict(file.tree)
    if array and isinstance(tree.get(array), list) and all(isinstance(item, dict) for item in tree[array]):
        for number, item in enumerate(tree.pop(array)):
            tables.append({})
            walk(item, tables[-1], (), (array, str(number)))
    walk(tree, found, ())
    return found, tables


def _other_name(name: str, former: Mapping[str, str]) -> str:
    """The former name of a group for its own, and the other way round."""
    return former.get(name) or next((old for old, now in former.items() if now == name), name)


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong: a hundred flags in brackets help nobody."""

    def error(self, message: str) -> typing.NoReturn:
        said = message.removeprefix("unrecognized arguments: ")
        if said != message and not said.strip():
            message = "an argument is empty"
        elif said != message:
            first = said.split()[0].partition("=")[0]
            near = difflib.get_close_matches(first, self._option_string_actions, 1, 0.75)
            message = f"there is no flag {first}" if first.startswith("-") else f"nothing here takes '{first}'"
            message += f"; is {near[0]} meant?" if near else ""
        self.exit(2, f"lamplight: {message} (`{self.prog} --help` names all there is)\n")


def parser(
    cls: type, prog: str, description: str, epilog: str = "", repeated: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """The command line of a settings class; the `repeated` flags may come several times and give a list."""
    made = _Parser(
        prog=prog,
        usage="%(prog)s [FLAGS]",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--config", metavar="FILE", type=Path, help="settings from a TOML file")
    sections: dict[tuple[str, ...], Any] = {(): made}
    for leaf in _leaves(cls):
        at = leaf.path[:-1]
        if at not in sections:
            sections[at] = made.add_argument_group(at[-1].replace("_", " "))
        metadata, default = leaf.field.metadata, leaf.field.default
        text = metadata["help"]
        if metadata["secret"] and leaf.variable not in text:
            text += f"; with a password in it use {leaf.variable} or --config"
        if default not in (None, "", (), False, dataclasses.MISSING):
            text += f" (default: {_shown(default)})"
        arguments: dict[str, Any] = {"help": text.replace("%", "%%"), "default": None}
        if leaf.kind is bool:
            arguments |= {"action": argparse.BooleanOptionalAction if default else "store_true"}
        else:
            arguments["metavar"] = metadata["metavar"] or leaf.path[-1].upper()
            if isinstance(leaf.kind, type) and issubclass(leaf.kind, Enum):
                arguments["metavar"] = "{" + ",".join(member.name.lower() for member in leaf.kind) + "}"
        if leaf.dest in repeated or leaf.is_list:
            arguments |= {"action": "append"}
        sections[at].add_argument(leaf.flag, dest=leaf.dest, **arguments)
    return made


def _shown(default: Any) -> str:
    """A default as it would be given."""
    if isinstance(default, Enum):
        return default.name.lower()
    return ",".join(map(_shown, default)) if isinstance(default, tuple) else str(default)


def load(
    cls: type[S],
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    prog: str = "",
    description: str = "",
    epilog: str = "",
) -> S:
    """Read the settings; `--help` and unknown flags exit.

    Raises:
        SettingsError: for a value or key that does not fit, naming the flag, variable or line.
    """
    [made] = load_each(cls, argv, environ, prog=prog, description=description, epilog=epilog)
    return made


def load_each(
    cls: type[S],
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    repeated: Sequence[str] = (),
    array: str = "",
    prog: str = "",
    description: str = "",
    epilog: str = "",
) -> list[S]:
    """Read settings as `load`, one object for each value of the `repeated` options on the command line; where they
    are not there (and not in the environment), one for each table [[array]] of the file, which has the file's own
    keys and wins over them.

    Raises:
        SettingsError: for a value or key that does not fit, naming the flag, variable or line.
    """
    leaves = _leaves(cls)
    given = vars(parser(cls, prog, description, epilog, repeated).parse_args(argv))
    base: dict[tuple[str, ...], Any] = {}
    tables: list[dict[tuple[str, ...], Any]] = []
    config = given["config"] or environ.get(PREFIX + "CONFIG")
    if config:
        base, tables = _read_file(Path(config), leaves, _former(cls), array)
    over: dict[tuple[str, ...], Any] = {}
    several: list[dict[tuple[str, ...], Any]] = []
    replaced = set()
    for leaf in leaves:
        if environ.get(leaf.variable):
            over[leaf.path] = leaf.read(leaf.items(environ[leaf.variable]), leaf.variable)
            replaced |= {leaf.path} if leaf.dest in repeated else set()
        if leaf.dest in repeated:
            several += [{leaf.path: leaf.read(value, leaf.flag)} for value in given[leaf.dest] or ()]
        elif given[leaf.dest] is not None:
            over[leaf.path] = leaf.read(leaf.items(*given[leaf.dest]) if leaf.is_list else given[leaf.dest], leaf.flag)
    if several:  # the flags say which ones: what the file and the environment say of that does not count
        chosen = {(name,) for name in repeated}
        base = {path: value for path, value in base.items() if path not in chosen}
        over = {path: value for path, value in over.items() if path not in chosen}
    elif tables and not replaced:
        several = tables
    return [_build(cls, base | one | over, ()) for one in several or [{}]]


def _build(cls: type[S], values: Mapping[tuple[str, ...], Any], at: tuple[str, ...]) -> S:
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        here = (*at, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            arguments[field.name] = _build(typing.cast(type, hints[field.name]), values, here)
        elif here in values:
            arguments[field.name] = values[here]
    try:
        return cls(**arguments)
    except ValueError as error:
        raise SettingsError(str(error)) from None
