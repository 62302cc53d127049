"""Write the tables of docs/licences.md anew, from what the locked distributions say of themselves: make licences

Asks pip for the metadata of every line in deploy/locks/{edge,cloud}.txt (no wheel is fetched); needs a network.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.locks.lock import EXTRAS, FOLDER, Pin, normalised, read

PAGE = Path(__file__).with_name("licences.md")
EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*")
ROW = re.compile(r"^\| ([a-z0-9-]+) \| (\d[^ |]*) \| ([^|]+?) \|", flags=re.MULTILINE)
UNSTATED = "NOASSERTION"  # as SPDX has it
SPDX = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2 license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 3-clause license": "BSD-3-Clause",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "osi approved :: apache software license": "Apache-2.0",
}
UNSAID = {  # their metadata says nothing, or no more than "BSD"; read in the files that they carry
    "aiomqtt": "BSD-3-Clause",
    "colorama": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "cuda-toolkit": UNSTATED,  # an empty package that asks for NVIDIA's libraries
    "omegaconf": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
}
MARKS = {
    "proprietary": re.compile("Proprietary"),
    "non-commercial": re.compile(r"\bNC\b|[Nn]on-?[Cc]ommercial"),
    "copyleft": re.compile(r"\b(?:[AL]?GPL|MPL|EPL|CDDL|EUPL|CC-BY-SA)\b"),
    "not stated": re.compile(UNSTATED),
}


def licence_of(metadata: Mapping[str, Any]) -> str:
    """The SPDX expression that metadata (as in pip's report) stands for. ValueError if it cannot be told."""
    classifiers = [line.rpartition(" :: ")[2] for line in metadata.get("classifier", []) if line.startswith("License")]
    said = [metadata.get("license_expression"), UNSAID.get(normalised(metadata["name"])), metadata.get("license")]
    for text in [*said, *classifiers]:
        words = (text or "").strip()
        known = SPDX.get(words.lower(), words)
        if EXPRESSION.fullmatch(known) and known not in ("UNKNOWN", "BSD"):
            return known
    raise ValueError(f"{metadata['name']}: no licence in its metadata; look it up and add it to UNSAID in {__file__}")


def mark(licence: str) -> str:
    """What a licence asks for beyond naming the authors: "" where one of its alternatives asks for nothing."""
    for name, pattern in MARKS.items():
        if all(pattern.search(choice) for choice in licence.split(" OR ")):
            return f"**{name}**"
    return ""


def licences(page: str) -> dict[tuple[str, str], str]:
    """(name, version) -> licence, as the page lists them."""
    return {(name, version): licence for name, version, licence in ROW.findall(page)}


def asked(lock: str) -> dict[str, str]:
    """Name -> licence of what a lock lists, as far as it is for this platform and Python."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    command += ["--disable-pip-version-check", "--require-hashes", "--report=-", "-r", str(FOLDER / f"{lock}.txt")]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found = [item["metadata"] for item in report["install"]]
    return {normalised(metadata["name"]): licence_of(metadata) for metadata in found}


def rows(pins: list[Pin], known: Mapping[str, str]) -> str:
    """A table in Markdown. Of two versions of one distribution, both have the licence of the one that was asked."""
    lines = ["| distribution | version | licence | |", "|---|---|---|---|"]
    for pin in pins:
        licence = known[pin.name] if pin.name in known else UNSAID[pin.name]
        lines.append(f"| {pin.name} | {pin.version} | {licence} | {mark(licence)} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with its tables as the distributions have it."""
    for lock in EXTRAS:
        block = f"<!-- {lock} -->\n\n{rows(read(lock), asked(lock))}\n\n<!-- end -->"
        page, found = re.subn(rf"<!-- {lock} -->.*?<!-- end -->", lambda match: block, page, flags=re.DOTALL)  # noqa: B023
        assert found == 1, f"docs/licences.md has no place for the table '{lock}'"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
