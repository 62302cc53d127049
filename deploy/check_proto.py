"""Fail when the generated code in proto/ is not what the .proto files give: run `make proto`."""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent.parent / "proto"


def stale(proto: Path = PROTO) -> list[str]:
    """Names of generated files that differ from a fresh generation, are missing, or have no source."""
    sources = sorted(str(path) for path in proto.glob("lamplight/v1/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--python_out={folder}", f"--pyi_out={folder}", f"--grpc_python_out={folder}"]
        if protoc.main(["protoc", f"-I{proto}", *outputs, *sources]):
            raise SystemExit("protoc failed on the .proto files")
        fresh = {path.name: path.read_bytes() for path in Path(folder, "lamplight/v1").iterdir()}
    here = {path.name: path.read_bytes() for path in (proto / "lamplight/v1").glob("*_pb2*.py*")}
    return sorted(name for name in fresh.keys() | here.keys() if fresh.get(name) != here.get(name))


if __name__ == "__main__":
    if names := stale():
        sys.exit(f"generated code is stale, run `make proto`: {', '.join(names)}")
