"""Writes docs/reference/ from the code: the command line of both nodes, the messages between them, the modules.

    python docs/generate.py

A test fails when what is there is not what this makes.
"""

import ast
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
COLUMNS = "100"
CLOUD = ("", "enroll", "enhance", "archive", "alive")
EDGE = ("", "check", "search", "export", "listen", "spool", "trace", "enhance", "load")
PACKAGES = ("common", "cloud_node", "edge_node")
FILES = ("enhancement", "frame", "image", "result")


def commands() -> Iterator[tuple[str, Callable[[Sequence[str]], object]]]:
    """How each is called, and what it runs."""
    from cloud_node import cli as cloud
    from cloud_node.evaluation import cli as evaluation
    from cloud_node.training import cli as training
    from edge_node import cli as edge

    for node, main, names in (("edge_node", edge._command, EDGE), ("cloud_node", cloud._command, CLOUD)):
        for name in names:
            yield f"python -m {node} {name}".rstrip(), lambda argv, main=main, name=name: main([*name.split(), *argv])
    yield "python -m cloud_node.training", training.main
    yield "python -m cloud_node.evaluation", evaluation.main


def help_of(run: Callable[[Sequence[str]], object]) -> str:
    """What it says to --help, on a terminal of 100 columns."""
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), COLUMNS
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            run(["--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return said.getvalue()


def command_page() -> str:
    parts = [
        "# Command line\n",
        "Every setting of the two nodes is also an environment variable (`LAMPLIGHT_...`) and a line of the TOML file\n"
        "given with `--config`; the last of file, environment and flags counts. This page is what `--help` says.\n",
    ]
    for name, run in commands():
        parts.append(f"## {name}\n\n```text\n{help_of(run).rstrip()}\n```\n")
    return "\n".join(parts)


FIELD = re.compile(r"^\s+((?:repeated |optional )?[\w.]+) (\w+) = (\d+);(?:\s*// (.*))?$")
VALUE = re.compile(r"^\s+(\w+) = (\d+);(?:\s*// (.*))?$")


def wire_page() -> str:
    parts = [
        "# Messages\n",
        "What the two sides say to each other, in Protocol Buffers, from the files in `proto/lamplight/v1/`. Frames\n"
        "go up by gRPC (`Enhancement.Stream`), results come down by NATS ([results](../results.md)).\n",
    ]
    for name in FILES:
        parts.append(_proto(ROOT / "proto" / "lamplight" / "v1" / f"{name}.proto"))
    return "\n".join(parts)


def _proto(file: Path) -> str:
    out, comment, rows, kind = [f"## {file.name}\n"], [], [], ""
    for line in file.read_text().splitlines():
        stripped = line.strip()
        if match := re.match(r"^(message|enum) (\w+) \{(\})?", line):
            kind, rows = match[1], []
            about = " ".join(comment)
            out.append(f"### {match[2]}\n" + (f"\n{about}\n" if about else ""))
            comment = []
            if match[3]:
                out.append("It has no fields.\n")
        elif stripped.startswith("//"):
            comment.append(stripped.removeprefix("//").strip())
        elif kind == "message" and (match := FIELD.match(line)):
            rows.append((match[3], match[2], match[1], match[4] or " ".join(comment)))
            comment = []
        elif kind == "enum" and (match := VALUE.match(line)):
            rows.append((match[2], match[1], "", match[3] or " ".join(comment)))
            comment = []
        elif line == "}" and rows:
            head = ("number", "field", "type", "") if kind == "message" else ("number", "value", "")
            out.append(_table(head, rows if kind == "message" else [(row[0], row[1], row[3]) for row in rows]))
            kind, rows = "", []
        elif not stripped:
            comment = []
    return "\n".join(out)


def modules_page() -> str:
    """What each module says it is, folder by folder."""
    parts = [
        "# Modules\n",
        "Every file of the code and the first sentence in it; how they hang together is in\n"
        "[architecture](../architecture.md).\n",
    ]
    for folder in sorted({file.parent for top in PACKAGES for file in (ROOT / top).rglob("*.py")}):
        files = sorted(folder.glob("*.py"))
        rows = [(f"`{file.name}`", said) for file in files if (said := _first_sentence(file))]
        if rows:
            parts.append(f"## {folder.relative_to(ROOT)}/\n\n" + _table(("file", "what it is"), rows))
    return "\n".join(parts)


def _first_sentence(file: Path) -> str:
    said = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0]
    return re.split(r"(?<=[.?])\s", " ".join(said.split()))[0]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([row[0], *(f"`{cell}`" for cell in row[1:-1]), row[-1]] for row in rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def pages() -> dict[str, str]:
    """File name -> text."""
    return {"commands.md": command_page(), "messages.md": wire_page(), "modules.md": modules_page()}


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "proto")]
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
