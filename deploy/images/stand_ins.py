"""Stand-ins for the images of others, where no registry of images is reached: Debian's packages and a CPython of here.

    python:3.12-slim-bookworm     Debian 12, and the CPython of that version that this machine has, in /usr/local
    nats:2.11-alpine              Debian 12, BusyBox' wget, the nats-server that `make` found
    prom/prometheus:v2.55.1       Debian 12, Debian's Prometheus

They have the names, users and entry points of the real ones, and are not the real ones.
"""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from common.nats_server import find_server
from deploy.images.engine import EngineMissing, Podman, needed

PACKAGES = (
    "busybox,ca-certificates,netbase,tzdata,libbz2-1.0,libffi8,liblzma5,libssl3,libsqlite3-0,zlib1g,libreadline8,"
    "libncursesw6,libuuid1,libexpat1,libgdbm6"
)
LEFT_OUT = ("man", "doc", "locale", "info")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = f"""
FROM scratch
ADD debian.tar /
ADD python.tar /usr/local/
ENV PATH={PATH} LANG=C.UTF-8
RUN ldconfig && python3 -m ensurepip --default-pip && python3 -c "import bz2, ctypes, lzma, sqlite3, ssl, uuid, zlib"
CMD ["python3"]
"""
NATS = f"""
FROM scratch
ADD debian.tar /
COPY nats-server /usr/local/bin/
ENV PATH={PATH}
RUN ln -s /bin/busybox /usr/local/bin/wget && nats-server --version
ENTRYPOINT ["sh", "-c", "case $0 in -*) exec nats-server $0 $*;; *) exec $0 $*;; esac"]
CMD ["--config", "/etc/nats/nats-server.conf"]
"""
PROMETHEUS = f"""
FROM scratch
ADD debian.tar /
COPY prometheus promtool /bin/
ENV PATH={PATH}
RUN prometheus --version
USER 65534
WORKDIR /prometheus
ENTRYPOINT ["/bin/prometheus"]
"""


def interpreter(version: str) -> Path:
    """The folder of a CPython `version` (3.12) that may be moved elsewhere: not Debian's own. Raises EngineMissing."""
    found = shutil.which(f"python{version}")
    show = "import sys; print(sys.base_prefix)"
    told = [subprocess.run([found, "-c", show], capture_output=True, text=True).stdout.strip()] if found else []
    homes = (".pyenv/versions", ".local/share/uv/python")
    more = [path for home in homes for path in sorted((Path.home() / home).glob(f"*{version}.*"))]
    for prefix in [*map(Path, filter(None, told)), *more]:
        if prefix != Path("/usr") and (prefix / "lib" / f"libpython{version}.so").exists():
            return prefix
    raise EngineMissing(f"no CPython {version} with a shared library: pyenv and `uv python install {version}` have it")


def pack(prefix: Path, version: str, target: Path) -> None:
    """What an image needs of that CPython: no tests, no site-packages, no static library."""

    def kept(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(item.name).parts
        inside = len(parts) > 3 and "site-packages" in parts
        if inside or {"__pycache__", "test", "idlelib"} & set(parts) or item.name.endswith(".a"):
            return None
        item.uid = item.gid = 0
        return item

    with tarfile.open(target, "w") as archive:
        library = prefix / "lib"
        names = [prefix / "bin" / name for name in (f"python{version}", "python3", "python")]
        for path in [*names, *library.glob("libpython3*.so*"), library / f"python{version}"]:
            archive.add(path, path.relative_to(prefix), filter=kept)


def debian(target: Path) -> None:
    """A small Debian 12, unless it is there."""
    if not target.exists():
        needed("mmdebstrap")
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
        new = target.with_suffix(".new.tar")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", *excluded, f"--include={PACKAGES}", "bookworm", new]
        subprocess.run(command, check=True)
        new.rename(target)


def build(engine: Podman, name: str, recipe: str, files: dict[str, Path]) -> None:
    """The image localhost/`name`, from the text of a Dockerfile and the files that it takes."""
    context = engine.folder / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    for target, source in files.items():
        (context / target).hardlink_to(source) if source.stat().st_dev == context.stat().st_dev else shutil.copy(
            source, context / target
        )
    (context / "Dockerfile").write_text(recipe)
    engine("build", "--format", "docker", "--network", "none", "--tag", f"localhost/{name}", str(context))
    shutil.rmtree(context)


def python(engine: Podman, version: str) -> None:
    """The stand-in of python:VERSION-slim-bookworm, unless it is there."""
    name = f"python:{version}-slim-bookworm"
    if engine("image", "exists", f"localhost/{name}", check=False).returncode:
        debian(engine.folder / "debian.tar")
        packed = engine.folder / f"python-{version}.tar"
        pack(interpreter(version), version, packed)
        build(engine, name, PYTHON, {"debian.tar": engine.folder / "debian.tar", "python.tar": packed})
        packed.unlink()


def others(engine: Podman, compose: str) -> None:
    """The stand-ins of what compose.yaml takes of others, as far as they are to be had, unless they are there."""
    [nats] = re.findall(r"image: (nats:\S+)", compose)
    [prometheus] = re.findall(r"image: (prom/prometheus:\S+)", compose)
    needed("prometheus", "promtool")
    programs = {name: Path(shutil.which(name) or "") for name in ("prometheus", "promtool")}
    for name, recipe, files in ((nats, NATS, {"nats-server": find_server()}), (prometheus, PROMETHEUS, programs)):
        if engine("image", "exists", f"localhost/{name}", check=False).returncode:
            debian(engine.folder / "debian.tar")
            build(engine, name, recipe, {"debian.tar": engine.folder / "debian.tar", **files})
