import numpy as np
import pytest
import zstandard

from common.zstd_frames import Compressor, Parameter, ZstdError, decompress, header_of

CONTENT = np.random.default_rng(0).integers(0, 8, 70_000, dtype=np.uint8).tobytes()


def test_what_is_compressed_comes_back() -> None:
    compressor = Compressor({Parameter.compression_level: 1, Parameter.checksum_flag: 1})
    for size in (0, 1, 255, 256, 65_791, 65_792, len(CONTENT)):
        frame = compressor.compress(memoryview(CONTENT[:size]))
        assert decompress(frame, size) == CONTENT[:size]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_791, 65_792, 70_000])
@pytest.mark.parametrize("level", [1, 19, 22])
@pytest.mark.parametrize("sized", [True, False])
def test_a_header_says_what_another_decoder_reads_in_it(size: int, level: int, sized: bool) -> None:
    maker = zstandard.ZstdCompressor(level=level, write_content_size=sized, write_checksum=level != 19)
    frame = maker.compress(CONTENT[:size])
    header, expected = header_of(frame), zstandard.get_frame_parameters(frame)
    assert (header.content_size is None) == (expected.content_size == zstandard.CONTENTSIZE_UNKNOWN)
    assert header.content_size in (None, expected.content_size)
    assert (header.window_size, header.has_checksum) == (expected.window_size, expected.has_checksum)


def test_a_window_is_read_whatever_its_byte() -> None:
    for window in range(17 << 3):
        frame = b"\x28\xb5\x2f\xfd" + bytes([0b10_0_0_0_1_00, window]) + bytes([7, 0, 0, 0])
        assert header_of(frame).window_size == zstandard.get_frame_parameters(frame).window_size
        assert header_of(frame).content_size == 7


def test_what_is_cut_short_follows_or_is_too_long() -> None:
    frame = Compressor({Parameter.checksum_flag: 1}).compress(memoryview(CONTENT))
    for length in (4, 5, 6):
        with pytest.raises(ValueError, match="cut short"):
            header_of(frame[:length])
    for broken in (frame[:-1], frame[:-9], frame + b"x", frame + frame):
        with pytest.raises(ValueError):
            decompress(broken, len(CONTENT))
    with pytest.raises(ValueError, match="more"):
        decompress(frame, len(CONTENT) - 1)
    with pytest.raises(ZstdError):
        decompress(frame[:-1] + bytes([frame[-1] ^ 1]), len(CONTENT))
