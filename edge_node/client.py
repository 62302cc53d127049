"""One picture at a time: for a phone's gateway, a script or a notebook.

with Client("localhost:50051") as client:
    lit = client.enhance("dark.jpg")
    lit.save("lit.jpg")
"""

import io
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc
import numpy as np
from PIL import Image, UnidentifiedImageError

from common import packing, wire
from common.channel import client_credentials, client_options, explained, with_port
from common.errors import CloudUnavailable, ImageError, SourceError, StreamRefused, TransportError
from common.frame import Priority
from common.identity import Identity
from common.packing import EncodedImage, ImageFormat, PackedImage
from common.pixels import Bytes, RawImage
from edge_node.exposure import check_cloud
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, image_pb2

FORMATS = {"JPEG": ImageFormat.JPEG, "WEBP": ImageFormat.WEBP, "PNG": ImageFormat.PNG}


@dataclass(frozen=True, slots=True)
class Lit:
    """An enhanced picture: (H, W, 3) uint8 RGB, the model that made it, and sharpness (0..1) before and after."""

    rgb: Bytes
    model: str
    sharpness_before: float
    sharpness_after: float

    def save(self, path: str | Path, quality: int = 95) -> None:
        """Write an image file. Raises SourceError when it cannot be written."""
        try:
            Image.fromarray(self.rgb).save(path, quality=quality)
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot write {path}: {error}") from None


class Client:
    """Asks a cloud node to enhance single pictures, over the unary call. Safe to share between threads."""

    def __init__(
        self,
        address: str = "",
        timeout_s: float = 60.0,
        *,
        identity: str | Path | None = None,
        insecure: bool = False,
    ) -> None:
        """address: HOST[:PORT]; without it the first of the identity, else this machine. identity: an edge's bundle.
        insecure: send to another machine without one, in the clear.

        Raises SettingsError for a bundle that cannot be used, or without one for another machine, unless `insecure`.
        """
        self._identity = None if identity is None else Identity(Path(identity))
        known = self._identity.bundle.cloud if self._identity else ()
        self.address, self.timeout_s = with_port(address or next(iter(known), "localhost")), timeout_s
        if self._identity is None:
            check_cloud(self.address, None, insecure)
            self._channel = grpc.insecure_channel(self.address, options=client_options())
        else:
            credentials = client_credentials(self._identity)
            self._channel = grpc.secure_channel(self.address, credentials, options=client_options())
        self._stub = enhancement_pb2_grpc.EnhancementStub(self._channel)

    def enhance(
        self,
        picture: str | Path | bytes | Bytes,
        *,
        priority: Priority = Priority.STANDARD,
        result_format: ImageFormat = ImageFormat.LOSSLESS,
        quality: int = 0,
        deadline_ms: int = 0,
        preset: str = "",
    ) -> Lit:
        """Enhance a JPEG, WebP or PNG file (path or bytes), another image file, or an (H, W, 3) uint8 array.

        preset: one of those that the node serves; empty = its first.

        Raises:
            ImageError: the picture is none, or too large for the node.
            CloudUnavailable: no node answers.
            StreamRefused, TransportError: the node refused or failed; its reason is the message.
        """
        request = pb.Image(
            priority=int(priority),
            deadline_ms=deadline_ms,
            encoding=image_pb2.ResultEncoding(format=int(result_format), quality=quality),
            preset=preset,
        )
        image = packing.pack(RawImage.from_rgb(picture)) if isinstance(picture, np.ndarray) else _load(picture)
        if isinstance(image, PackedImage):
            request.packed.CopyFrom(wire.packed_to_proto(image))
        else:
            request.encoded.CopyFrom(wire.encoded_to_proto(image))
        try:
            answer = self._stub.Enhance(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise self._translate(error) from None
        result = wire.result_from_proto(answer)
        if result.image is None:
            raise TransportError(f"{self.address} sent a result without an image")
        return Lit(packing.decode(result.image), result.model, result.sharpness_before, result.sharpness_after)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _translate(self, error: grpc.RpcError) -> Exception:
        detail = f"{self.address}: {explained(error, self._identity)}"
        match error.code():
            case grpc.StatusCode.UNAVAILABLE:
                return CloudUnavailable(f"{detail}. Start a node with `python -m cloud_node`, or name another")
            case grpc.StatusCode.INVALID_ARGUMENT:
                return ImageError(detail)
            case grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.PERMISSION_DENIED:
                return StreamRefused(detail)
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return TransportError(f"{self.address}: no answer within {self.timeout_s:g} s")
        return TransportError(detail)


def _load(picture: str | Path | bytes) -> EncodedImage | PackedImage:
    """The file as it is, when the node reads its format; else its pixels, packed."""
    name = "the picture" if isinstance(picture, bytes) else str(picture)
    try:
        data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        with Image.open(io.BytesIO(data)) as opened:
            packing.check_pixels(opened.width, opened.height)
            known = FORMATS.get(opened.format or "")
            if known is not None:
                return EncodedImage(known, opened.width, opened.height, data)
            return packing.pack(RawImage.from_rgb(packing.rgb_of(opened)))
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image") from None
    except (ImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: {error}") from None
    except Exception as error:  # a broken file brings out errors of many kinds in Pillow's parsers
        raise ImageError(f"{name} is broken: {error}") from None
