"""Writes the locks of what is deployed anew, from pyproject.toml and constraints.txt: make locks

Versions that constraints.txt leaves open stay as they are in the locks; --upgrade takes the newest.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from deploy.locks.lock import EXTRAS, FOLDER, ROOT, entries

COMPILE = ["pip", "compile", "--universal", "--python-version=3.11", "--generate-hashes", "--quiet"]
BARE = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
CUDA = r"(torch|triton|nvidia-.+|cuda-.+)=="  # for a CPU, torch comes from PyTorch's own index
FROM_SOURCE = r"nkeys=="  # no wheels published: built with what build.txt has
HEAD = "# Made by `make locks`, not by hand.\n"


def compiled(source: Path, output: Path, more: list[str]) -> None:
    """Resolve `source` into `output`, for every platform and Python from 3.11 on."""
    uv = Path(sys.executable).with_name("uv")
    command = [uv, *COMPILE, *BARE, "-c", "constraints.txt", *more, "-o", output, source]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    output.write_text(HEAD + "".join(f"{entry}\n" for entry in entries(output.read_text())))


def write(more: list[str]) -> None:
    for extra in EXTRAS:
        compiled(ROOT / "pyproject.toml", FOLDER / f"{extra}.txt", ["--extra", extra, *more])
    for tools in ("build", "release"):
        compiled(FOLDER / f"{tools}.in", FOLDER / f"{tools}.txt", more)
    cloud = entries((FOLDER / "cloud.txt").read_text())
    source = [entry for entry in cloud if re.match(FROM_SOURCE, entry)]
    without_cuda = [entry for entry in cloud if not re.match(CUDA, entry)]
    (FOLDER / "source.txt").write_text(HEAD + "".join(f"{entry}\n" for entry in source))
    (FOLDER / "cloud-cpu.txt").write_text(HEAD + "".join(f"{entry}\n" for entry in without_cuda))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest of what constraints.txt leaves open")
    write(["--upgrade"] if parser.parse_args().upgrade else [])
