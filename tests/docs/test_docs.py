"""The pages: fresh, whole as a site, and every command on them, between words too, is one that the code understands.

That those in blocks run, `test_commands.py` tests.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import page_commands
import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="--help looks otherwise in other versions of Python")
def test_the_reference_is_fresh() -> None:
    for name, text in GENERATE["pages"]().items():
        assert (ROOT / "docs" / "reference" / name).read_text() == text, f"run python docs/generate.py: {name}"


def test_every_message_is_on_the_page() -> None:
    text = GENERATE["wire_page"]()
    for file in (ROOT / "proto").rglob("*.proto"):
        for kind in re.findall(r"^(?:message|enum) (\w+)", file.read_text(), flags=re.MULTILINE):
            assert f"### {kind}\n" in text
        for name in re.findall(r"^ +[\w. ]+ (\w+) = \d+;", file.read_text(), flags=re.MULTILINE):
            assert f"`{name}`" in text


def test_the_site_is_whole(tmp_path: Path) -> None:
    """All pages are in its menu, and no link or anchor is dead: `strict` makes errors of both."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ROOT / "mkdocs.yml", "-d", tmp_path]
    built = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "index.html").is_file()


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_what_the_architecture_names_is_there() -> None:
    """Files and folders by their paths, or by their names in the folder that heads their table; names "`of` a file"."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    below = [ROOT, *(ROOT / name for name in ("cloud_node", "edge_node", "proto/lamplight/v1"))]
    path = r"`([\w./-]+(?:\.(?:py|proto|md|yml)|/))`"
    folder, named = None, 0
    for line in page.splitlines():
        if head := re.match(r"\| files in `([^`]+)` \|", line):
            folder = ROOT / head[1]
            assert folder.is_dir(), folder
            continue
        if not line.startswith("|"):
            folder = None
        for name in re.findall(path, line.split("|")[1] if folder else line):
            assert any((each / name).exists() for each in ([folder] if folder else below)), f"{name} in: {line}"
            named += 1
    assert named > 150
    for name, file in re.findall(rf"`(\w+)` of {path}", page):
        [found] = [each / file for each in below if (each / file).is_file()][:1]
        assert re.search(rf"\b{name}\b", found.read_text()), f"{name} is not in {file}"


def typed() -> Iterator[tuple[str, str]]:
    """(page, command) of what calls Python or make: in blocks, and between backticks."""
    for page in page_commands.PAGES:
        text = page.read_text()
        inline = re.findall(r"`((?:python3?|make) [^`\n]+)`", page_commands.FENCED.sub("", text))
        for command in [*(command.text for command in page_commands.of_page(text)), *inline]:
            bare = re.sub(r"^(?:[A-Z_]+=(?:\$\([^)]*\)|\S+) +)*(?:\.venv/bin/)?", "", command)
            if re.match(r"(?:python3?|make)\b", bare):
                yield page.name, bare


@cache
def help_texts() -> dict[str, str]:
    return {name: GENERATE["help_of"](run) for name, run in GENERATE["commands"]()}


COMMANDS = sorted(set(typed()))


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 40


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command[:60]}" for page, command in COMMANDS])
def test_a_command_is_understood(page: str, command: str) -> None:
    words = shlex.split(command.rstrip("& "), comments=True)
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in words[1:]:
            assert "=" in target or re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
        return
    assert len(words) > 1, command
    if words[1] == "-m":
        known = [name for name in help_texts() if command.startswith(name) and command[len(name) :][:1] in ("", " ")]
        if not known:
            assert words[2] in ("venv", "pytest", "http.server", "mkdocs"), command
            return
        name = max(known, key=len)
        rest = words[len(name.split()) :]
        commands_of = GENERATE["EDGE"] if "edge_node" in name else GENERATE["CLOUD"]
        if name.split()[-1] in ("edge_node", "cloud_node") and rest:
            assert rest[0].startswith("-"), f"{rest[0]} is none of {', '.join(filter(None, commands_of))}"
        text = help_texts()[name]
    elif words[1].endswith(".py"):
        file = ROOT / words[1]
        assert file.is_file(), f"{words[1]} is not there"
        text = file.read_text() + "".join(other.read_text() for other in file.parent.glob("*.py"))
    else:
        assert words[1] in ("-c",), command
        return
    for flag in flags - {"--help", "--config"}:
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", text), f"{flag} is unknown there"
