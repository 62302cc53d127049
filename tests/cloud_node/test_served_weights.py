from pathlib import Path

import pytest

from cloud_node.served_weights import ServedWeights
from common.errors import WeightsError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"good")
    return file


async def test_what_was_taken_outlives_the_users_file(file: Path) -> None:
    served = ServedWeights({"fast": file, "edge": None})
    await served.keep()
    file.write_bytes(b"bad")  # noqa: ASYNC240
    with pytest.raises(WeightsError, match=f"{file} does not fit"):
        async with served.trying("fast", file) as copy:
            raise WeightsError(f"{copy} does not fit")
    kept = served.files["fast"]
    assert kept is not None and kept.read_bytes() == b"good" and served.files["edge"] is None
    for better in (b"better", b"best"):
        before = served.files["fast"]
        file.write_bytes(better)  # noqa: ASYNC240
        async with served.trying("fast", file):
            pass
        assert served.files["fast"] is not None and served.files["fast"].read_bytes() == better
    assert set(kept.parent.iterdir()) == {before, served.files["fast"]}, "an engine may be about to read the one before"
    served.close()
    assert not kept.parent.exists()


async def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    served = ServedWeights({"fast": None})
    with pytest.raises(WeightsError, match="gone.safetensors cannot be copied"):
        async with served.trying("fast", tmp_path / "gone.safetensors"):
            pass
    assert served.files == {"fast": None}
    served.close()
