"""Makes a virtual environment for each peer in benchmarks/serving/.venvs, from the package index.

    python benchmarks/serving/setup_peers.py            # all that are missing
    python benchmarks/serving/setup_peers.py --again triton

Each holds the peer and what our engine needs, as constraints.txt pins it, so that the same network runs behind each.
pytriton carries a Triton server that loads Debian's own /usr/bin/python3.11 and no other build; it also wants NumPy 1
and, for its client, protobuf 6, so that environment has these and code generated from our .proto files for protobuf 6.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENVS = Path(__file__).resolve().parent / ".venvs"
DEBIAN_PYTHON = Path("/usr/bin/python3.11")
OURS = (
    ("torch", "kornia", "safetensors", "zstandard", "nats-py", "nkeys", "pillow", "onnxruntime", "openvino", "rich")
    + ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-grpc")
)  # fmt: skip
PEERS = {
    "litserve": ("litserve==0.2.19", "numpy", "grpcio", "protobuf", "aiohttp"),
    "ray": ("ray[serve]==2.60.0", "numpy", "grpcio", "protobuf", "aiohttp"),
    "triton": ("nvidia-pytriton==0.7.0", "numpy==1.26.4", "protobuf==6.33.6", "grpcio-tools==1.80.1"),
}
OWN_RELEASES = {"triton": ("numpy", "protobuf", "grpcio-tools", "ml-dtypes")}  # our pins do not hold there


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment. Exits when there is none."""
    python = VENVS / peer / "bin" / "python"
    if not (VENVS / peer / ".ready").exists():
        sys.exit(f"no environment for {peer}: run `python benchmarks/serving/setup_peers.py {peer}` first")
    return python


def path_of(peer: str) -> str:
    """PYTHONPATH for a peer, "" for none: the repository, and the generated code that its protobuf takes."""
    generated = VENVS / peer / "proto"
    return os.pathsep.join(map(str, (ROOT, generated if generated.exists() else ROOT / "proto")))


def make(peer: str) -> None:
    base = Path(sys.executable)
    if peer == "triton":
        if not DEBIAN_PYTHON.exists():
            sys.exit(f"pytriton needs Debian's own Python at {DEBIAN_PYTHON}: apt install python3.11 python3.11-venv")
        base = DEBIAN_PYTHON
    folder = VENVS / peer
    _run(base, "-m", "venv", "--clear", folder)
    python = folder / "bin" / "python"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        for line in (ROOT / "constraints.txt").read_text().splitlines():
            if line.partition("==")[0] not in OWN_RELEASES.get(peer, ()):
                print(line, file=pins)
        pins.flush()
        _run(python, "-m", "pip", "install", "--quiet", "-c", pins.name, *PEERS[peer], *OURS)
    generate(peer)
    _run(python, "-c", "import cloud_node.engine, common.broker, common.wire", env={"PYTHONPATH": path_of(peer)})
    (folder / ".ready").touch()


def generate(peer: str) -> None:
    """The code of our .proto files, for a protobuf that is not ours; at every set-up, since they change."""
    folder = VENVS / peer
    if peer == "triton":
        (folder / "proto").mkdir(exist_ok=True)
        files = sorted((ROOT / "proto" / "lamplight" / "v1").glob("*.proto"))
        out = [f"--{kind}_out={folder / 'proto'}" for kind in ("python", "grpc_python")]
        _run(folder / "bin" / "python", "-m", "grpc_tools.protoc", "-I", ROOT / "proto", *out, *files)


def _run(*command: object, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT, env={**os.environ, **(env or {})})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", choices=[*PEERS, []], help="(default: all)")
    parser.add_argument("--again", action="store_true", help="make those anew that are there")
    given = parser.parse_args()
    for peer in given.peers or PEERS:
        if given.again or not (VENVS / peer / ".ready").exists():
            print(f"{peer}: making its environment", flush=True)
            make(peer)
        else:
            generate(peer)
        print(f"{peer}: {VENVS / peer}")


if __name__ == "__main__":
    main()
