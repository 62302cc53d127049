"""Who comes first and who may send what: the policy file (docs/policies.md)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import inf
from pathlib import Path
from typing import Any

from common.errors import SettingsError
from common.frame import Priority
from common.packing import ImageFormat
from common.settings import TomlFile, convert, kinds


@dataclass(frozen=True, slots=True)
class EdgePolicy:
    """What one edge may do. Raises ValueError, which begins with the field's name, for a value out of its range."""

    highest: Priority = Priority.ESSENTIAL  # a frame that claims more is served at this
    share: float = 1.0  # of a device's time against the other edges of its priority, 0.001..1000
    frames_per_s: float = 0.0  # 0 = no limit
    bytes_in_flight: int = 0  # 0 = no limit beside the window
    max_pixels: int = 0  # 0 = the node's limit
    preset: str = ""  # network preset for this edge; "" = what it asks for
    result_format: ImageFormat | None = None  # how results come back if the edge does not say; None = the node's choice
    quality: int = 0  # of the result, 1..100; 0 = the node's choice

    def __post_init__(self) -> None:
        for name, least, most in (
            ("share", 0.001, 1000),
            ("frames_per_s", 0, inf),
            ("bytes_in_flight", 0, inf),
            ("max_pixels", 0, inf),
            ("quality", 0, 100),
        ):
            value = getattr(self, name)
            if not least <= value <= most or value == inf:
                raise ValueError(f"{name} {value}: " + (f"at least {least}" if most == inf else f"{least}..{most}"))
        if self.result_format is ImageFormat.PNG:
            raise ValueError("result_format: png is not offered; results come as lossless, jpeg or webp")


DEFAULT = EdgePolicy()
KINDS = kinds(EdgePolicy)


class Policy:
    """The policies of all edges: by name, by pattern (`lobby-*`), or the default."""

    def __init__(self, default: EdgePolicy = DEFAULT, edges: Mapping[str, EdgePolicy] | None = None) -> None:
        self.default = default
        self.edges = dict(edges or {})

    @classmethod
    def load(cls, path: Path, presets: Collection[str] = ()) -> "Policy":
        """Read a policy file. `presets` are those that the node serves; none given: any name will do.

        Raises:
            SettingsError: for the first thing that is wrong, with file and line.
        """
        file = TomlFile(path)
        for key, value in file.tree.items():
            if key not in ("default", "edges") or not isinstance(value, dict):
                raise SettingsError(f"{file.where(key)}: '{key}' is neither [default] nor [edges.NAME]")

        def read(base: EdgePolicy, table: Any, *at: str) -> EdgePolicy:
            if not isinstance(table, dict):
                raise SettingsError(f"{file.where(*at)}: write [{'.'.join(at)}] and its settings below")
            for key, value in table.items():
                where = file.where(*at, key)
                if key not in KINDS:
                    hint = " (a name with dots needs quotes)" if isinstance(value, dict) else ""
                    raise SettingsError(f"{where}: '{key}' is not one of {', '.join(KINDS)}{hint}")
                made = convert(KINDS[key], value, f"{where}: {key}")
                if key == "preset" and made and presets and made not in presets:
                    raise SettingsError(f"{where}: this node serves {', '.join(presets)}, not preset '{made}'")
                try:
                    base = replace(base, **{key: made})
                except ValueError as error:
                    raise SettingsError(f"{where}: {error}") from None
            return base

        default = read(DEFAULT, file.tree.get("default", {}), "default")
        edges = file.tree.get("edges", {})
        return cls(default, {name: read(default, table, "edges", name) for name, table in edges.items()})

    def of(self, edge: str) -> EdgePolicy:
        """The policy of an edge: its own, else that of the first pattern that fits, else the default."""
        if edge in self.edges:
            return self.edges[edge]
        fitting = (policy for pattern, policy in self.edges.items() if fnmatchcase(edge, pattern))
        return next(fitting, self.default)
