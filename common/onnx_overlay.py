"""Other weights for layers of an ONNX file, kept as differences from it: small, where the file is another's wheel.

A file of NumPy (.npz) with float16 arrays by the names of the weights, and the SHA-256 of the file they belong to.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import numpy as np

from common.errors import WeightsError
from common.files import write_whole
from common.onnx_file import Network, Weights

BASE: Final = "base sha256"  # name of the digest among the arrays
LARGEST: Final = 64 << 20  # bytes of all arrays; those of rapidocr's recogniser take 6 MB
Differences = Mapping[str, np.ndarray[Any, np.dtype[np.float16]]]


class OtherBaseError(WeightsError):
    """The weights are differences from another file."""


@dataclass(frozen=True)
class Overlay:
    path: Path
    base: str
    differences: Differences

    def over(self, model: bytes) -> bytes:
        """The ONNX file with these weights.

        Raises:
            OtherBaseError: the file is not that which they were trained from.
        """
        found = hashlib.sha256(model).hexdigest()
        if found != self.base:
            raise OtherBaseError(
                f"{self.path.name} changes a network with the digest {self.base[:12]}, this one has {found[:12]}: "
                "another version of it"
            )
        network = Network(model)
        for name, difference in self.differences.items():
            weights = network.weights(name.encode())
            if weights is None or weights.shape != difference.shape:
                raise WeightsError(f"{self.path}: {name} is no weight of the network, or has another shape")
            network.set_weights(name.encode(), weights + difference.astype(np.float32))
        return network.written()


def read_overlay(path: Path) -> Overlay:
    """Raises WeightsError: the file is missing, broken, or none of this kind."""
    try:
        with path.open("rb") as content:
            large = sum(member.file_size for member in ZipFile(content).infolist())
            if large > LARGEST:
                raise ValueError(f"it holds {large} bytes, {LARGEST} may be")
            content.seek(0)
            with np.load(content, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
    except Exception as error:  # of zipfile, zlib and NumPy
        raise WeightsError(f"{path} cannot be read as weights over a network: {error}") from None
    base = arrays.pop(BASE, None)
    if not (isinstance(base, np.ndarray) and base.ndim == 0 and arrays and all(map(_is_difference, arrays.values()))):
        raise WeightsError(f"{path} holds no weights over a network: {BASE!r} and finite float16 arrays are needed")
    return Overlay(path, str(base), arrays)


def _is_difference(array: Any) -> bool:
    """NumPy gives the bytes of what is no array."""
    return isinstance(array, np.ndarray) and array.dtype == np.float16 and bool(np.isfinite(array).all())


def write_overlay(path: Path, model: bytes, weights: Mapping[str, Weights]) -> None:
    """What differs between these weights, by name, and those of an ONNX file; whole or not at all.

    Raises:
        ValueError: for a weight that the file does not hold plainly, or that differs by more than float16 can say.
        OSError: it cannot be written.
    """
    network, made = Network(model), dict[str, Any]()
    for name, values in weights.items():
        before = network.weights(name.encode())
        if before is None or before.shape != values.shape:
            raise ValueError(f"{name} is no weight of the network, or has another shape")
        with np.errstate(over="ignore"):
            made[name] = (values - before).astype(np.float16)
        if not np.isfinite(made[name]).all():
            raise ValueError(f"{name} differs by more than float16 can say")
    made[BASE] = np.array(hashlib.sha256(model).hexdigest())
    content = BytesIO()
    np.savez_compressed(content, **made)
    write_whole(path, content.getvalue())
