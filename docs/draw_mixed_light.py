"""Draw a dark wall with a lit window, with one curve and with local ones, docs/images/mixed-light.jpg:

    python docs/draw_mixed_light.py

The frame is one of the demo's clip.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "deploy" / "demo")]

from clip import decode, load_truth  # noqa: E402

from cloud_node.laegan import load  # noqa: E402
from cloud_node.laegan.curve import solve_curve  # noqa: E402

OUT = ROOT / "docs" / "images" / "mixed-light.jpg"
SCENE = "bakery"


class OneCurve(nn.Module):
    """In `SolvedCurve`'s place: the frame's curve everywhere."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, low: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> alpha (B, 1, H, W)."""
        return solve_curve(low, self.level).expand(-1, -1, *low.shape[-2:])


def main() -> None:
    frame = next(frame for frame, truth in zip(decode(), load_truth(), strict=True) if truth.scene == SCENE)
    dark = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
    local, one = load("fast"), load("fast")
    one.curve = OneCurve(one.curve.level)
    with torch.inference_mode():
        shown = torch.cat([dark, one(dark), local(dark)], dim=3)
    pixels = (shown[0].permute(1, 2, 0).clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    Image.fromarray(pixels).save(OUT, quality=88)
    print(OUT)


if __name__ == "__main__":
    main()
