"""Writes the software bills of materials from the locks, docs/licences.md and the files shipped: make sbom

Offline, and the same each time. Each is validated against the schema of CycloneDX.
"""

import hashlib
import json
import re
import runpy
import sys
import tomllib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.locks.lock import EXTRAS, ROOT, Pin, normalised, read

FOLDER = Path(__file__).resolve().parent
COMMON = ["common/priors/*.gz", "common/recognizers/*.npz", "common/web/uplot/*.js"]
SHIPPED = {  # files that no lock lists, by extra
    "edge": ["edge_node/weights/*.onnx", *COMMON],
    "cloud": ["cloud_node/laegan/weights/*.safetensors", *COMMON],
}
OWN = "Apache-2.0"
Licences = dict[tuple[str, str], str]


def direct(extra: str) -> set[str]:
    """Normalised names of what pyproject.toml asks for with this extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    return {normalised(re.split(r"[^A-Za-z0-9._-]", requirement)[0]) for requirement in wanted}


def distribution(pin: Pin, licences: Licences) -> dict[str, Any]:
    """A component for a pin; the hashes are those of its wheels and source archive, of which one gets installed."""
    purl = f"pkg:pypi/{pin.name}@{pin.version}"
    hashes = [{"alg": "SHA-256", "content": digest} for digest in pin.hashes]
    part = {"type": "library", "bom-ref": purl, "name": pin.name, "version": pin.version, "purl": purl}
    licence = licences[pin.name, pin.version]
    said = {} if licence == "NOASSERTION" else {"licenses": [{"expression": licence}]}
    return part | said | {"externalReferences": [{"type": "distribution", "url": purl, "hashes": hashes}]}


def shipped(file: Path) -> dict[str, Any]:
    """A component for a file of weights or a vendored one."""
    name = str(file.relative_to(ROOT))
    model = file.suffix in (".onnx", ".safetensors", ".npz")
    hashes = [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}]
    licence = [{"expression": OWN if model else "MIT"}]
    kind = "machine-learning-model" if model else "file"
    return {"type": kind, "bom-ref": f"file:{name}", "name": name, "hashes": hashes, "licenses": licence}


def bill(extra: str) -> str:
    """The bill of one extra as CycloneDX 1.6 in JSON."""
    page = runpy.run_path(str(ROOT / "docs" / "write_licences.py"))
    licences = page["licences"](page["PAGE"].read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    pins = read(extra)
    files = sorted(file for pattern in SHIPPED[extra] for file in ROOT.glob(pattern))
    own = f"pkg:pypi/lamplight@{version}"
    root = {"type": "application", "bom-ref": own, "name": f"lamplight[{extra}]", "version": version, "purl": own}
    wanted = [f"pkg:pypi/{pin.name}@{pin.version}" for pin in pins if pin.name in direct(extra)]
    body = {
        "metadata": {"component": root | {"licenses": [{"expression": OWN}]}},
        "components": [distribution(pin, licences) for pin in pins] + [shipped(file) for file in files],
        "dependencies": [{"ref": own, "dependsOn": wanted}],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return json.dumps(head | body, indent=1) + "\n"


def checker() -> Callable[[str], object]:
    """Says what is wrong with a bill, None if nothing is."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str


if __name__ == "__main__":
    check = checker()
    for extra in EXTRAS:
        text = bill(extra)
        if wrong := check(text):
            sys.exit(f"{extra}: {wrong}")
        (FOLDER / f"{extra}.cdx.json").write_text(text)
