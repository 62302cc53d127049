"""Each attack in docs/attacks.md is tried by tests that are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [
    row
    for row in (TESTS.parent / "docs" / "attacks.md").read_text().splitlines()
    if row.startswith("|") and not row.startswith(("|---", "| attack or bad input |"))
]


@cache
def names_in(file: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_the_tests_of_a_row_are_there(row: str) -> None:
    _, attack, outcome, tried, _ = row.split("|")
    assert attack.strip() and outcome.strip()
    named = re.findall(r"`([^`]+)::(test_\w+)`", tried)
    assert named and tried.count("`") == 2 * len(named)
    for file, test in named:
        assert test in names_in(TESTS / file), f"{file} has no {test}"


def test_there_are_many() -> None:
    assert len({row.split("|")[1] for row in ROWS}) >= 40
