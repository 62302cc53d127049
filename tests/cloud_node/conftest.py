"""What holds for tests with networks."""

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each test sets the filters of warnings anew, perhaps while a thread of the last one still traces."""
    item.add_marker(pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"))
