"""What a generator is made of, and the networks that there are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GeneratorConfig:
    width: int = 0  # channels at level 0; level i has width * 2**i; 0 = the Zero-DCE stage alone
    levels: int = 4  # resolutions of AGM-Net ("four layers" in the paper)
    block: str = "srb"  # 'srb': selective residual block of M-Net+; 'plain': two 3x3 convolutions
    body: str = "agm"  # what follows the curve: 'agm', or 'unet' (EnlightenGAN's, the paper's ablation), 'student'
    stem: int = 1  # PixelUnshuffle factor before level 0; 2 makes level 0 four times cheaper
    attention: bool = True  # multiply features and residual by A = 1 - L; False is the paper's ablation
    level_hints: bool = False  # tell AGM-Net how much each pixel was lifted: its noise grew by that
    exposure: float = 0.0  # mean luma for which the curve is solved, one for the frame; 0 = DCE-Net predicts curves
    curve_side: int = 0  # DCE-Net sees the frame reduced to this shorter side, in pixels; 0 = all of it
    curve_maps: int = 8  # curve maps predicted: 8 = one for each iteration, 1 = one map used by all

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of this, in pixels."""
        return self.stem * 2 ** (self.levels - 1) if self.width else 1


PRESETS: dict[str, GeneratorConfig] = {
    "reference": GeneratorConfig(width=32, exposure=0.45),
    "fast": GeneratorConfig(width=24, block="plain", stem=2, level_hints=True, exposure=0.45),
    "edge": GeneratorConfig(width=32, levels=1, body="student", stem=4, level_hints=True, exposure=0.45),
    "paper": GeneratorConfig(width=32),  # the paper to the letter, to compare with
    "unet": GeneratorConfig(width=32, levels=5, body="unet", exposure=0.45),
    "zero-dce": GeneratorConfig(),
    "zero-dce-low": GeneratorConfig(curve_side=32, curve_maps=1),
}


def config_of(preset: str) -> GeneratorConfig:
    """The preset's configuration. ValueError for an unknown one."""
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[preset]
