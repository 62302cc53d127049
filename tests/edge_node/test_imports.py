"""The edge runs where torch is not installed: no module of its own or of `common` brings it in."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import importlib, pkgutil, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "kornia", "cloud_node"):
            raise ImportError(f"{name} is not installed on an edge")
sys.meta_path.insert(0, Absent())
names = []
for package in ("common", "edge_node"):
    names += [item.name for item in pkgutil.walk_packages([package], package + ".") if "__main__" not in item.name]
for name in names:
    importlib.import_module(name)
print(len(names), "torch" in sys.modules)
"""


def test_every_module_of_an_edge_imports_without_torch() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    count, torch = done.stdout.split()
    assert int(count) > 60 and torch == "False"


def test_a_node_starts_without_what_it_may_not_need() -> None:
    """What is slow to import waits until it is used: the detector loads beside the first frames."""
    program = "import sys, edge_node.cli, edge_node.node, edge_node.care; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"cv2", "rapidocr", "onnxruntime", "matplotlib", "shapely", "starlette", "uvicorn"} & set(
        loaded.stdout.split()
    )
    assert not heavy


def test_a_detector_runs_on_the_weights_of_rapidocr_and_on_none_of_its_code() -> None:
    program = """
import sys, numpy
from common.text_detection import create_detector
create_detector("dbnet", limit_side=32, threads=1).detect(numpy.zeros((32, 32, 3), numpy.uint8))
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"rapidocr", "omegaconf", "shapely", "pyclipper", "requests"} & set(loaded.stdout.split())
