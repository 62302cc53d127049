"""A link laboratory for each test, where this machine allows one."""

from collections.abc import Iterator

import pytest
from laboratory import Laboratory, NotPossible


@pytest.fixture
def laboratory() -> Iterator[Laboratory]:
    try:
        with Laboratory() as made:
            yield made
    except NotPossible as error:
        pytest.skip(f"no link laboratory on this machine: {error}")
