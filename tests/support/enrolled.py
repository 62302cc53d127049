"""An authority for tests, and cloud nodes that stand under it."""

from pathlib import Path

from cloud_node.identity.authority import Authority
from common.files import write_private


def authority(folder: Path, *names: str) -> Authority:
    """A new one, known as loopback and these names."""
    return Authority.init(folder / "authority", names, ["localhost:50051"], [])


def bundle(authority: Authority, *edges: str, days: float = 1.0) -> Path:
    """The file of an edge that was let in just now."""
    out = authority.folder.parent / f"{edges[0]}.bundle"
    write_private(out, authority.enroll(edges, days).to_json())
    return out
