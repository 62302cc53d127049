"""The error tree."""

import re
from collections.abc import Iterator

from common import errors


def drawn(error: type[errors.LamplightError]) -> Iterator[str]:
    yield error.__name__
    for below in error.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from drawn(below)


def test_the_tree_in_the_docstring_has_every_error() -> None:
    assert errors.__doc__ is not None
    named = re.findall(r"^(?:│ +)?(?:[├└]── )?([A-Z]\w+Error|[A-Z]\w+)(?: {2,}|$)", errors.__doc__, re.MULTILINE)
    assert sorted(named) == sorted(drawn(errors.LamplightError))
