"""What make release checks, on the project itself and on small ones that are wrong."""

import hashlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from deploy import release

VERSION = tomllib.loads((release.ROOT / "pyproject.toml").read_text())["project"]["version"]
SMALL = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "small"
version = "1.0"
[tool.hatch.build.targets.wheel]
packages = ["small"]
"""


def small(folder: Path, more: str = "") -> Path:
    (folder / "small").mkdir(parents=True)
    (folder / "small" / "__init__.py").touch()
    (folder / "small" / "data.bin").touch()
    (folder / "pyproject.toml").write_text(SMALL + more)
    return folder


def test_there_is_a_section_for_this_version() -> None:
    assert release.notes((release.ROOT / "CHANGELOG.md").read_text(), VERSION).startswith("- ")


def test_notes_are_those_of_one_version() -> None:
    changelog = "# Changelog\n\n## 0.2.0 (2027-01-01)\n\n- new\n\n## 0.1.0\n\n- old\n- older\n\n## 0.0.9\n\n"
    assert release.notes(changelog, "0.2.0") == "- new\n"
    assert release.notes(changelog, "0.1.0") == "- old\n- older\n"
    for version in ("0.0.9", "0.3.0", "0.1"):
        with pytest.raises(ValueError, match=f"nothing under '## {version}'"):
            release.notes(changelog, version)


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"lamp")
    assert release.sums([tmp_path / "a"]) == f"{hashlib.sha256(b'lamp').hexdigest()}  a\n"


def test_the_wheel_starts_away_from_the_repository(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=release.ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"lamplight-{VERSION}-")
    release.check_wheel(wheel, VERSION, Path(sys.executable))
    lacking = tmp_path / "lacking" / wheel.name
    lacking.parent.mkdir()
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(lacking, "w") as part:
        for name in whole.namelist():
            if name != "edge_node/settings.py":
                part.writestr(name, whole.read(name))
    with pytest.raises(subprocess.CalledProcessError):
        release.check_wheel(lacking, VERSION, Path(sys.executable))


def test_an_archive_makes_the_same_wheel_or_is_refused(tmp_path: Path) -> None:
    wheel, archive = release.built(tmp_path / "dist", small(tmp_path / "good"))
    release.check_archive(archive, wheel)
    lacking = '[tool.hatch.build.targets.sdist]\nexclude = ["*.bin"]\n'
    wheel, archive = release.built(tmp_path / "other", small(tmp_path / "bad", lacking))
    with pytest.raises(RuntimeError, match=r"another wheel.*data\.bin"):
        release.check_archive(archive, wheel)


def test_it_copies_what_is_there() -> None:
    for name in release.BESIDE:
        assert (release.ROOT / name).is_file()
