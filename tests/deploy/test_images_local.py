"""What stands for images of others: it takes its names from compose.yaml; a CPython that is packed runs elsewhere."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from deploy.images import engine, local, stand_ins

SERVICES = yaml.safe_load(local.COMPOSE)["services"]


def test_it_says_what_it_does() -> None:
    ran = subprocess.run([sys.executable, "-m", "deploy.images.local", "--help"], cwd=local.ROOT, capture_output=True)
    assert ran.returncode == 0, ran.stderr


def test_programs_that_are_missing_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(engine.EngineMissing, match=r"no podman here: apt-get install .*\bpodman\b"):
        engine.needed("podman")


def test_the_names_are_those_of_the_files() -> None:
    images = {service["image"] for service in SERVICES.values()}
    for name in re.findall(r"^    (\S+:\S+)  +Debian", stand_ins.__doc__ or "", re.MULTILINE):
        if name.startswith("python:"):
            assert name == f"python:{local.DEFAULT_PYTHON}-slim-bookworm"
            assert "FROM python:${PYTHON}-slim-bookworm" in (local.ROOT / "deploy/images/Dockerfile").read_text()
        else:
            assert name in images


def test_a_part_of_a_volume_is_bound_where_podman_is_old(tmp_path: Path) -> None:
    podman = tmp_path / "podman"
    podman.write_text(f'#!/bin/sh\n[ "$1" = volume ] && echo {tmp_path}/"$5" || printf "%s\\n" "$@"\n')
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(engine.WRAPPER.format(python=sys.executable, podman=str(podman)))
    for file in (podman, wrapper):
        file.chmod(0o755)
    mount = "type=volume,source=trust,destination=/trust/node,ro,subpath=authority/node"
    ran = subprocess.run([wrapper, "run", "--mount", mount, "-e", "A=b,c"], capture_output=True, text=True, check=True)
    bound = f"type=bind,source={tmp_path}/trust/authority/node,destination=/trust/node,ro"
    assert ran.stdout.splitlines() == ["run", "--mount", bound, "-e", "A=b,c"]


def test_a_packed_python_runs_elsewhere(tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        prefix = stand_ins.interpreter(version)
    except engine.EngineMissing as error:
        pytest.skip(str(error))
    stand_ins.pack(prefix, version, tmp_path / "python.tar")
    with tarfile.open(tmp_path / "python.tar") as archive:
        archive.extractall(tmp_path / "usr", filter="data")
    assert not list((tmp_path / "usr" / "lib" / f"python{version}" / "site-packages").glob("*/*"))
    environ = {"LD_LIBRARY_PATH": str(tmp_path / "usr" / "lib"), "PATH": os.environ["PATH"]}
    show = "import sys, ssl, sqlite3, ctypes, ensurepip; print(sys.prefix)"
    command = [tmp_path / "usr" / "bin" / "python3", "-c", show]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(tmp_path / "usr")
    shutil.rmtree(tmp_path / "usr")
