"""LAE-GAN, the network that lights up dark frames. Needs torch, kornia and safetensors, and nothing of ours."""

from cloud_node.laegan.network import LAEGAN, create
from cloud_node.laegan.presets import PRESETS, GeneratorConfig
from cloud_node.laegan.weights_files import WeightsError, load, save, weights_version

__all__ = ["LAEGAN", "PRESETS", "GeneratorConfig", "WeightsError", "create", "load", "save", "weights_version"]
