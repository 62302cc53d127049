"""Export a trained body for ONNX Runtime, for devices without torch: `python -m cloud_node.training export`.

The graph takes planar frames, H and W multiples of `GeneratorConfig.multiple`:
    low (1, 3, H, W) uint8, the dark frame; pre (1, 3, H, W) float32 in [0, 1], the frame after the curve;
    strength (1, 1, H, W) float32 in [0, 1], how much of the body's residual counts
    -> lit (1, 3, H, W) uint8.
The curve stays outside: on 256 levels it is a table (edge_node/solved_curve.py).
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from cloud_node.laegan import LAEGAN, PRESETS, WeightsError, load, weights_version

LARGEST = 1 << 16  # pixels along a side


class ExportError(RuntimeError):
    """Nothing can be exported here; the message says what to install."""


class Deployed(nn.Module):
    """What the graph computes: bytes in, bytes out, the body between."""

    def __init__(self, model: LAEGAN):
        super().__init__()
        self.body = model.body

    def forward(self, low: Tensor, pre: Tensor, strength: Tensor) -> Tensor:
        assert self.body is not None
        lit = pre + strength * self.body(pre, low.float() / 255)
        return (lit * 255).round().clamp(0, 255).to(torch.uint8)


def export(model: LAEGAN, path: Path, version: str) -> None:
    """Write the graph of a network with a solved curve, with its version in the file's metadata.

    An interruption leaves an earlier file whole. Raises ValueError for a network whose curve is predicted, or that has
    no body, and ExportError where onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401  torch needs it, and says so only in the middle
    except ImportError as error:
        raise ExportError(f"export needs onnx and onnxscript ({error}): pip install 'lamplight[train]'") from error
    if not model.cfg.exposure or model.body is None:
        raise ValueError("only networks with a solved curve and a body can be exported")
    fresh = path.with_name(f"{path.name}.new")
    try:
        _write(model, fresh, version)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _write(model: LAEGAN, path: Path, version: str) -> None:
    import onnx

    cfg = model.cfg
    side = 8 * cfg.multiple
    low = torch.zeros(1, 3, side, side + cfg.multiple, dtype=torch.uint8)
    height, width = (torch.export.Dim(name, min=4, max=LARGEST // cfg.multiple) for name in ("h", "w"))
    shape = {2: cfg.multiple * height, 3: cfg.multiple * width}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        torch.onnx.export(
            Deployed(model).eval(),
            (low, low.float() / 255, torch.ones(1, 1, *low.shape[2:])),
            path,
            input_names=["low", "pre", "strength"],
            output_names=["lit"],
            dynamic_shapes={"low": shape, "pre": shape, "strength": shape},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    graph = onnx.load(path)
    onnx.helper.set_model_props(
        graph, {"version": version, "exposure": str(cfg.exposure), "multiple": str(cfg.multiple)}
    )
    for node in graph.graph.node:  # the exporter notes source lines and paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        del value.metadata_props[:]
    onnx.save(graph, path)


def main(arguments: list[str]) -> int:
    p = argparse.ArgumentParser(
        prog="python -m cloud_node.training export",
        description="Export a trained network for ONNX Runtime on the edge.",
        epilog="example: python -m cloud_node.training export --weights runs/edge/edge.safetensors --out edge.onnx",
    )
    p.add_argument("--preset", choices=list(PRESETS), default="edge")
    p.add_argument("--weights", type=Path, metavar="FILE", help="trained weights (default: the committed ones)")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the .onnx file goes")
    given = p.parse_args(arguments)
    try:
        export(load(given.preset, given.weights), given.out, weights_version(given.preset, given.weights))
    except (ExportError, WeightsError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{given.out}: {given.out.stat().st_size / 1024:.0f} KiB")
    return 0
