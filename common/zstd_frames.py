"""zstd in one piece, with the library that is Python's own from 3.14 on, and what a frame says of itself.

References:
    RFC 8878, section 3.1.1 (frame header).
"""

import struct
import sys
from dataclasses import dataclass
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Options = dict[int, int]
Parameter: Final = zstd.CompressionParameter
FAST: Final = int(zstd.Strategy.fast)
ZstdError: Final = zstd.ZstdError
MAGIC: Final = b"\x28\xb5\x2f\xfd"
WINDOW_LOG_LEAST: Final = 10


@dataclass(frozen=True, slots=True)
class Header:
    """What a frame claims."""

    content_size: int | None  # bytes; None where it does not say
    window_size: int  # bytes that a decoder has to keep
    has_checksum: bool


class Compressor:
    """One frame for each piece; not to be shared between threads."""

    def __init__(self, options: Options) -> None:
        self._compressor = zstd.ZstdCompressor(options=options)

    def compress(self, content: memoryview) -> bytes:
        """One frame, which says its content's size."""
        return self._compressor.compress(content, self._compressor.FLUSH_FRAME)


def header_of(frame: bytes) -> Header:
    """The header of a frame that begins with MAGIC. Raises ValueError where it is cut short."""
    try:
        descriptor = frame[4]
        single, size_code, dictionary_code = descriptor >> 5 & 1, descriptor >> 6, descriptor & 3
        at = 5
        window = 0
        if not single:
            base = 1 << (WINDOW_LOG_LEAST + (frame[at] >> 3))
            window, at = base + base // 8 * (frame[at] & 7), at + 1
        at += (0, 1, 2, 4)[dictionary_code]
        size: int | None = None
        if single or size_code:
            kind = ("<B", "<H", "<I", "<Q")[size_code]
            (size,) = struct.unpack_from(kind, frame, at)
            size += 256 * (size_code == 1)
    except (IndexError, struct.error):
        raise ValueError("its header is cut short") from None
    return Header(size, size or 0 if single else window, bool(descriptor >> 2 & 1))


def decompress(frame: bytes, most: int) -> bytes:
    """The content of exactly one frame, without taking memory for more than `most` bytes of it.

    Raises:
        ZstdError: the frame is broken. ValueError: it ends too early, holds more, or something follows it.
    """
    decompressor = zstd.ZstdDecompressor()
    content = decompressor.decompress(frame, most)
    if not decompressor.eof and len(content) == most and decompressor.decompress(b"", 1):  # else its checksum was left
        raise ValueError("it holds more than it says")
    if not decompressor.eof:
        raise ValueError("it ends too early")
    if decompressor.unused_data:
        raise ValueError("something follows it")
    return content
