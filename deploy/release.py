"""Builds what is released into dist/, checks it, and writes its notes: make release

Nothing is uploaded. The version is that of pyproject.toml, and CHANGELOG.md has a section for it.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("deploy/locks/edge.txt", "deploy/locks/cloud.txt", "deploy/sbom/edge.cdx.json", "deploy/sbom/cloud.cdx.json")


def notes(changelog: str, version: str) -> str:
    """The section of a version, without its heading. ValueError if there is none, or nothing in it."""
    sections = re.split(r"^## +(\S+).*\n", changelog, flags=re.MULTILINE)
    found = dict(zip(sections[1::2], sections[2::2], strict=True)).get(version, "").strip()
    if not found:
        raise ValueError(
            f"CHANGELOG.md has nothing under '## {version}', the version in pyproject.toml: write it first"
        )
    return found + "\n"


def sums(files: list[Path]) -> str:
    """What sha256sum --check reads."""
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


def built(folder: Path, source: Path) -> tuple[Path, Path]:
    """(wheel, source archive) of the project in `source`."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=source, check=True)
    [wheel], [archive] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, archive


def check_archive(archive: Path, wheel: Path) -> None:
    """The source archive alone makes the same wheel. RuntimeError if not."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        [source] = Path(scratch).iterdir()
        again, _ = built(Path(scratch) / "dist", source)
        if again.read_bytes() != wheel.read_bytes():
            names = set(zipfile.ZipFile(again).namelist()) ^ set(zipfile.ZipFile(wheel).namelist())
            raise RuntimeError(
                f"{archive.name} makes another wheel than the repository; {sorted(names) or 'same names'}"
            )


def check_wheel(wheel: Path, version: str, python: Path) -> None:
    """Both nodes of the wheel start, away from the repository, with the dependencies that `python` has."""
    with tempfile.TemporaryDirectory() as scratch:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", scratch]
        subprocess.run([*install, wheel], check=True)
        environment = {**os.environ, "PYTHONPATH": scratch, "PYTHONSAFEPATH": "1"}
        asks = "import edge_node, importlib.metadata as m; print(edge_node.__path__[0], m.version('lamplight'))"
        told = subprocess.run(
            [python, "-c", asks], cwd=scratch, env=environment, check=True, capture_output=True, text=True
        )
        if told.stdout.split() != [str(Path(scratch) / "edge_node"), version]:
            raise RuntimeError(f"not the wheel was started, or not of version {version}: {told.stdout}")
        for node in ("edge_node", "cloud_node"):
            command = [python, "-m", node, "--help"]
            subprocess.run(command, cwd=scratch, env=environment, check=True, stdout=subprocess.DEVNULL)


def release(python: Path, dist: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    text = notes(changelog, version)
    shutil.rmtree(dist, ignore_errors=True)
    wheel, archive = built(dist, ROOT)
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", wheel, archive], check=True)
    check_archive(archive, wheel)
    check_wheel(wheel, version, python)
    beside = [dist / f"lamplight-{version}-{Path(name).name}" for name in BESIDE]
    for name, copy in zip(BESIDE, beside, strict=True):
        shutil.copy(ROOT / name, copy)
    (dist / "SHA256SUMS").write_text(sums([wheel, archive, *beside]))
    (dist / "notes.md").write_text(f"# Lamplight {version}\n\n{text}")
    print(f"dist/ has Lamplight {version}: wheel, source archive, locks, bills of materials, checksums, notes")
    if re.search(rf"^## +{re.escape(version)} .*unreleased", changelog, flags=re.MULTILINE):
        print(f"CHANGELOG.md still calls {version} unreleased")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="one that has the dependencies")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    release(options.python.absolute(), options.dist.absolute())
