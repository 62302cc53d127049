import pytest

from cloud_node.backends.reasons import reason_of

OPENVINO = "Exception from src/inference/src/cpp/core.cpp:104:\nCheck failed\n\nstd::bad_alloc\n"
CUDA = "CUDA out of memory. Tried to allocate 2 GiB.\nSee the documentation\n"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(OPENVINO), "std::bad_alloc"),
        (RuntimeError(CUDA), "CUDA out of memory. Tried to allocate 2 GiB."),
        (MemoryError(), "MemoryError()"),
    ],
)
def test_one_line_says_why(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
