"""Locks, bills of materials and licences agree with each other, with constraints.txt and with what is here. Offline."""

import importlib.metadata
import importlib.util
import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.locks import lock
from deploy.sbom.write import FOLDER as BILLS
from deploy.sbom.write import bill

ROOT = lock.ROOT
LICENCES = runpy.run_path(str(ROOT / "docs" / "write_licences.py"))
PAGE = (ROOT / "docs" / "licences.md").read_text()
LOCKS = sorted(file.stem for file in lock.FOLDER.glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


def wanted(extra: str) -> list[Requirement]:
    return [Requirement(line) for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]]


def table(extra: str) -> str:
    return PAGE.split(f"<!-- {extra} -->")[1].split("<!-- end -->")[0]


def test_there_is_a_lock_for_each_image_and_for_the_tools() -> None:
    assert set(LOCKS) == {"edge", "cloud", "cloud-cpu", "source", "build", "release"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_versions_and_hashes_and_the_constraints_versions(name: str) -> None:
    pins = lock.read(name)
    assert pins
    for pin in pins:
        assert pin.version == CONSTRAINTS.get(pin.name, pin.version), f"{pin.name}: run make locks"


@pytest.mark.parametrize("extra", lock.EXTRAS)
def test_what_an_extra_asks_for_is_locked(extra: str) -> None:
    locked = {pin.name: pin for pin in lock.read(extra)}
    for requirement in wanted(extra):
        pin = locked.get(lock.normalised(requirement.name))
        assert pin, f"{requirement.name} is not in {extra}.txt: run make locks"
        assert requirement.specifier.contains(pin.version, prereleases=True), f"{requirement}: run make locks"


def test_a_cpu_gets_the_cloud_s_lock_without_cuda() -> None:
    cloud, cpu = lock.read("cloud"), lock.read("cloud-cpu")
    assert set(cpu) < set(cloud)
    without = {pin.name for pin in cloud} - {pin.name for pin in cpu}
    assert "torch" in without
    assert all(re.match(r"torch$|triton$|nvidia-|cuda-", name) for name in without)
    assert set(lock.read("source")) <= set(cpu) & set(lock.read("edge"))


@pytest.mark.parametrize(
    "name", [f"locks/{name}.txt" for name in LOCKS] + ["sbom/edge.cdx.json", "sbom/cloud.cdx.json"]
)
def test_no_address_or_path_is_in_it(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    assert "://" not in text and "file:/" not in text
    assert "--index" not in text and "--find-links" not in text
    assert len(text) < 300_000


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "numpy==2.4.6", "numpy==2.4.6 \\\n    --hash=sha256:abc"])
def test_what_is_not_pinned_or_hashed_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="numpy.*make locks"):
        lock.parsed(line + "\n")


@pytest.mark.parametrize("extra", lock.EXTRAS)
def test_a_bill_lists_what_the_lock_lists_and_is_fresh(extra: str) -> None:
    text = (BILLS / f"{extra}.cdx.json").read_text()
    parts = json.loads(text)["components"]
    libraries = {(part["name"], part["version"]) for part in parts if part["type"] == "library"}
    assert libraries == {(pin.name, pin.version) for pin in lock.read(extra)}
    assert any(part["type"] == "machine-learning-model" for part in parts)
    assert text == bill(extra), "run make sbom"


@pytest.mark.parametrize("extra", lock.EXTRAS)
def test_every_distribution_has_its_licence_on_the_page(extra: str) -> None:
    listed = LICENCES["licences"](table(extra))
    assert set(listed) == {(pin.name, pin.version) for pin in lock.read(extra)}, "run make licences"
    for (name, version), licence in listed.items():
        assert f"| {name} | {version} | {licence} | {LICENCES['mark'](licence)} |" in table(extra)


def test_the_page_says_what_installed_distributions_say() -> None:
    listed = LICENCES["licences"](PAGE)
    seen = 0
    for distribution in importlib.metadata.distributions():
        name, version = lock.normalised(distribution.name), distribution.version.partition("+")[0]
        if (name, version) in listed:
            assert LICENCES["licence_of"](distribution.metadata.json) == listed[name, version], "run make licences"
            seen += 1
    assert seen > 10


def test_every_network_and_vendored_file_is_on_the_page() -> None:
    ours = [*ROOT.glob("cloud_node/**/*.safetensors"), *ROOT.glob("edge_node/**/*.onnx")]
    assert len(ours) >= 3
    for file in ours:
        assert f"| `{file.relative_to(ROOT)}` | {PROJECT['license']} |" in PAGE
    rapidocr = importlib.util.find_spec("rapidocr")
    assert rapidocr and rapidocr.origin
    for file in Path(rapidocr.origin).parent.rglob("*.onnx"):
        assert f"| `{file.name}` | Apache-2.0 |" in PAGE
    [banner] = re.findall(r"uPlot \(v([\d.]+)\)", (ROOT / "common/web/uplot/uPlot.iife.min.js").read_text()[:200])
    assert f"| `common/web/uplot/` | {banner} | MIT |" in PAGE


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("MIT", ""),
        ("MPL-2.0 AND MIT", "**copyleft**"),
        ("LGPL-3.0-or-later", "**copyleft**"),
        ("EPL-2.0 OR BSD-3-Clause", ""),
        ("GPL-2.0 OR AGPL-3.0", "**copyleft**"),
        ("LicenseRef-NVIDIA-Proprietary", "**proprietary**"),
        ("CC-BY-NC-4.0", "**non-commercial**"),
        ("NOASSERTION", "**not stated**"),
    ],
)
def test_what_asks_for_more_is_marked(licence: str, said: str) -> None:
    assert LICENCES["mark"](licence) == said


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"license_expression": "MIT AND PSF-2.0", "license": "no"}, "MIT AND PSF-2.0"),
        ({"license": "Apache Software License"}, "Apache-2.0"),
        (
            {"license": "Copyright (c) 2001 Somebody.\nAll rights", "classifier": ["License :: OSI :: MIT License"]},
            "MIT",
        ),
    ],
)
def test_a_licence_is_told_from_metadata(metadata: dict[str, object], licence: str) -> None:
    assert LICENCES["licence_of"]({"name": "thing", **metadata}) == licence


@pytest.mark.parametrize(
    "metadata", [{}, {"license": "BSD"}, {"classifier": ["License :: OSI Approved :: BSD License"]}]
)
def test_a_licence_that_cannot_be_told_is_an_error(metadata: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"thing: no licence.*UNSAID"):
        LICENCES["licence_of"]({"name": "thing", **metadata})
