import errno
import logging
import resource
from pathlib import Path

import av
import numpy as np
import pytest

from common.errors import SettingsError
from common.frame import Outcome
from edge_node.sinks import AnnotatedVideo
from edge_node.sinks.drawing import annotate


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_frames_and_rate(tmp_path: Path, make_shown) -> None:
    path = tmp_path / "out" / "annotated.mp4"
    sink = AnnotatedVideo(path, fps=12.5)
    shown = [make_shown(i, size=(361, 241)) for i in range(1, 8)]
    for one in shown:
        sink.write(one)
    sink.close()
    sink.close()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == pytest.approx(12.5)
        assert (stream.width % 2, stream.height % 2) == (0, 0)
    frames = frames_of(path)
    assert len(frames) == 7
    expected = annotate(shown[0])
    assert np.abs(block_means(frames[0]) - block_means(expected)).max() < 12


def block_means(picture: np.ndarray) -> np.ndarray:
    """Means of 16x16 blocks: the noise of single pixels does not survive 4:2:0."""
    height, width = (side // 16 for side in picture.shape[:2])
    return picture[: height * 16, : width * 16].reshape(height, 16, width, 16, 3).mean(axis=(1, 3))


def test_another_size_starts_another_file(tmp_path: Path, make_shown) -> None:
    sink = AnnotatedVideo(tmp_path / "a.mp4")
    for sequence, size in enumerate([(400, 300), (400, 300), (500, 300), (400, 300)]):
        sink.write(make_shown(sequence, size=size))
    sink.close()
    assert [p.name for p in sink.paths] == ["a.mp4", "a-2.mp4", "a-3.mp4"]
    assert [len(frames_of(p)) for p in sink.paths] == [2, 1, 1]


def test_a_run_destroys_no_earlier_ones_video(tmp_path: Path, make_shown) -> None:
    kept = {}
    for number, frames in enumerate([2, 1, 3]):
        sink = AnnotatedVideo(tmp_path / "annotated.mp4")
        for sequence in range(frames):
            sink.write(make_shown(sequence, size=(400, 300)))
        sink.close()
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path not in sink.paths} == kept
        kept[sink.paths[0].name] = sink.paths[0].read_bytes()
        assert len(frames_of(sink.paths[0])) == frames and len(kept) == number + 1
    assert sorted(kept) == ["annotated-2.mp4", "annotated-3.mp4", "annotated.mp4"]


def test_frames_that_were_not_enhanced_are_shown_too(tmp_path: Path, make_shown) -> None:
    sink = AnnotatedVideo(tmp_path / "a.mp4")
    sink.write(make_shown(1, size=(400, 300)))
    sink.write(make_shown(2, size=(400, 300), outcome=Outcome.EXPIRED))
    sink.close()
    assert [len(frames_of(p)) for p in sink.paths] == [2]


def test_what_is_written_is_playable_before_the_end(tmp_path: Path, make_shown) -> None:
    sink = AnnotatedVideo(tmp_path / "a.mp4", fps=2)
    for sequence in range(80):
        sink.write(make_shown(sequence))
    assert len(frames_of(tmp_path / "a.mp4")) >= 4
    sink.close()
    assert len(frames_of(tmp_path / "a.mp4")) == 80


def test_no_frames_make_no_file(tmp_path: Path) -> None:
    AnnotatedVideo(tmp_path / "a.mp4").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_rates_that_are_none(tmp_path: Path, fps: float) -> None:
    with pytest.raises(SettingsError, match="frame rate"):
        AnnotatedVideo(tmp_path / "a.mp4", fps=fps)


def test_paths_that_are_no_video(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ends in .mp4"):
        AnnotatedVideo(tmp_path / "a.avi")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot write in"):
        AnnotatedVideo(tmp_path / "file" / "a.mp4")


def test_a_folder_that_vanishes_is_logged(tmp_path: Path, make_shown, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "video"
    sink = AnnotatedVideo(folder / "a.mp4")
    folder.rmdir()
    with caplog.at_level(logging.WARNING):
        sink.write(make_shown(1))
        folder.mkdir()
        sink.write(make_shown(2))
        sink.close()
    assert sink.failures.count == 1
    assert "cannot write" in caplog.text
    assert [len(frames_of(p)) for p in sink.paths] == [1]


def test_a_video_that_cannot_be_begun_leaves_nothing_behind(tmp_path: Path, make_shown) -> None:
    (tmp_path / "a.mp4").write_bytes(b"of another run")
    sink, limits = AnnotatedVideo(tmp_path / "a.mp4"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # files can be made, not filled
    try:
        for sequence in range(3):
            sink.write(make_shown(sequence))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sink.failures.count == 3 and [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    sink.write(make_shown(3))
    sink.close()
    assert [path.name for path in sink.paths] == ["a-2.mp4"] and len(frames_of(sink.paths[0])) == 1


def test_what_the_encoder_cannot_take_is_counted_and_the_next_frame_is_written(tmp_path: Path, make_shown) -> None:
    sink = AnnotatedVideo(tmp_path / "a.mp4")
    sink.write(make_shown(0, size=(400, 17000)))  # taller than H.264 goes
    sink.write(make_shown(1))
    sink.close()
    assert sink.failures.count == 1 and [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert len(frames_of(tmp_path / "a.mp4")) == 1


def test_an_encoder_that_fails_is_replaced(tmp_path: Path, make_shown, caplog: pytest.LogCaptureFixture) -> None:
    sink = AnnotatedVideo(tmp_path / "a.mp4")
    sink.write(make_shown(0))
    sink._stream.encode(None)  # after that FFmpeg's takes no frame
    sink.write(make_shown(1))
    for sequence in (2, 3):
        sink.write(make_shown(sequence))
    sink.close()
    assert sink.failures.count == 1 and caplog.text.count("cannot write") == 1 and "is written again" in caplog.text
    assert [path.name for path in sink.paths] == ["a.mp4", "a-2.mp4"] and len(frames_of(sink.paths[1])) == 2


def test_a_full_disk_at_the_start_is_a_reason_to_start_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(SettingsError, match="No space left") as caught:
        AnnotatedVideo(tmp_path / "a.mp4")
    assert caught.value.exit_code == 75
