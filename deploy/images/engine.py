"""Podman with storage and settings of its own in one folder, where there is no Docker engine."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

# Podman before 5.4 mounts no part of a volume; the folder behind that part is bound instead.
WRAPPER = """#!{python}
import os, subprocess, sys

def bound(argument):
    parts = dict(part.partition("=")[::2] for part in argument.split(","))
    if parts.get("type") != "volume" or "subpath" not in parts:
        return argument
    shown = [{podman!r}, "volume", "inspect", "--format", "{{{{.Mountpoint}}}}", parts["source"]]
    folder = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip()
    rest = ",ro" if "ro" in parts else ""
    return f"type=bind,source={{folder}}/{{parts['subpath']}},destination={{parts['destination']}}{{rest}}"

os.execv({podman!r}, ["podman", *map(bound, sys.argv[1:])])
"""

PACKAGES = "podman buildah crun runc netavark aardvark-dns mmdebstrap busybox prometheus"


class EngineMissing(Exception):
    """A program that the images are built and run with is not here; the text says how to get it."""


def needed(*programs: str) -> None:
    """Raises EngineMissing unless all of `programs` are on PATH."""
    if missing := [program for program in programs if not shutil.which(program)]:
        raise EngineMissing(f"no {', '.join(missing)} here: apt-get install --no-install-recommends {PACKAGES}")


class Podman:
    """`engine("image", "ls")` runs podman; all of its state is in `folder`."""

    def __init__(self, folder: Path) -> None:
        needed("podman")
        self.folder = folder
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # podman's own bounds may be above what is allowed here
        hybrid = Path("/sys/fs/cgroup/systemd").exists()  # crun wants cgroups of version 2 alone
        (folder / "containers.conf").write_text(
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=8192:8192"]\n'
            'log_driver = "k8s-file"\n[network]\nnetwork_backend = "netavark"\n'
            f'[engine]\nruntime = "{"runc" if hybrid else "crun"}"\n'
            'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
        )
        wrapper = folder / "bin" / "podman"
        wrapper.write_text(WRAPPER.format(python=sys.executable, podman=shutil.which("podman")))
        wrapper.chmod(0o755)
        self.environ = {
            **os.environ,
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
        }

    def __call__(self, *arguments: str, check: bool = True, shown: bool = False) -> subprocess.CompletedProcess[str]:
        """Run it. `shown` leaves its output to the terminal. Raises CalledProcessError when it fails and `check`."""
        pipe = None if shown else subprocess.PIPE
        command = [str(self.folder / "bin" / "podman"), *arguments]
        ran = subprocess.run(command, env=self.environ, stdout=pipe, stderr=pipe, text=True)
        if check and ran.returncode:
            print(ran.stdout or "", ran.stderr or "", file=sys.stderr)
            ran.check_returncode()
        return ran

    def inspect(self, name: str) -> dict[str, Any]:
        """What podman knows of a container or image."""
        return json.loads(self("inspect", name).stdout)[0]

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """podman-compose on deploy/compose.yaml as it is, with the images that are here."""
        file = Path(__file__).resolve().parents[1] / "compose.yaml"
        program = Path(__file__).resolve().parents[2] / ".images" / "venv" / "bin" / "podman-compose"
        if not program.exists():
            raise EngineMissing(f"no {program} here: `make images-local` installs it")
        command = [str(program), "--podman-path", str(self.folder / "bin" / "podman")]
        fixed = ["--in-pod=false", "--file", str(file), "--profile", "edge"]
        ran = subprocess.run([*command, *fixed, *arguments], env=self.environ, capture_output=True, text=True)
        if check and ran.returncode:
            print(ran.stdout, ran.stderr, file=sys.stderr)
            ran.check_returncode()
        return ran
