"""The shell commands on the pages, as whoever reads them would type them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^\n|\A)((?:^ {4}[^\n]*\n)+)", re.MULTILINE)
SHELLS = ("sh", "bash", "shell", "console")
TYPED = re.compile(r"^(?:\$ .*|(?:python3?|make) .*)$", re.MULTILINE)
COMMENT = re.compile(r"(?:^|\s+)#(?= |!).*$")


@dataclass(frozen=True, order=True)
class Command:
    """A line, or a whole script that begins with `#!`, and what its block exported before it."""

    text: str
    exports: tuple[str, ...] = ()

    @property
    def shell(self) -> str:
        """What a shell is to run."""
        return "\n".join([*(f"export {each}" for each in self.exports), self.text])


def commands() -> dict[Command, str]:
    """Each command once, and the first page that has it."""
    found: dict[Command, str] = {}
    for page in PAGES:
        for command in of_page(page.read_text()):
            found.setdefault(command, page.name)
    return found


def of_page(text: str) -> Iterator[Command]:
    """Commands of a page in their order.

    >>> page = "```sh\\nexport A=1\\nmake x &  # why\\n```\\n\\n    make \\\\\\n    y\\n\\n```\\n$ make z\\n```\\n"
    >>> [(command.text, command.exports) for command in of_page(page)]
    [('make x', ('A=1',)), ('make z', ()), ('make y', ())]
    """
    for language, block in FENCED.findall(text):
        if language in SHELLS:
            yield from of_block(block)
        elif not language:  # also what a terminal showed
            yield from of_block("".join(f"{line.removeprefix('$ ')}\n" for line in TYPED.findall(block)))
    for block in INDENTED.findall(FENCED.sub("", text)):
        yield from of_block(block)


def of_block(block: str) -> Iterator[Command]:
    if block.startswith("#!"):
        yield Command(block.rstrip())
        return
    exports: list[str] = []
    for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
        bare = COMMENT.sub("", line).strip().rstrip("&").strip()
        if bare.startswith("export "):
            exports.append(bare.removeprefix("export "))
        elif bare:
            yield Command(bare, tuple(exports))
