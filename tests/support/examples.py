"""How often properties are tried."""

import os

THOROUGH = "THOROUGH" in os.environ


def examples(thorough: int) -> int:
    """So many by `make thorough`; a third of them, and others each time, by `make test`."""
    return thorough if THOROUGH else max(5, thorough // 3)
