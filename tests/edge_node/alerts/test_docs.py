"""The examples of the documentation work as they stand there."""

import json
import os
import re
from pathlib import Path

import pytest
from http_receiver import Receiver
from sights import make_sight

from edge_node.alerts.alert import Alert, message_of
from edge_node.alerts.command import Command
from edge_node.alerts.patterns import matching, pattern
from edge_node.sinks.outlet import Message
from edge_node.sinks.sight_json import sight_to_json
from edge_node.sinks.webhook import Webhook, read_secret

DOCS = Path(__file__).resolve().parents[3] / "docs"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


async def test_the_lines_that_verify_a_webhook_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    names: dict = {}
    exec(blocks("sinks.md", "python")[0], names)
    with Receiver() as receiver:
        webhook = Webhook(receiver.url, read_secret(None, {"LAMPLIGHT_WEBHOOK_SECRET": SECRET}))
        await webhook.open()
        await webhook.send(Message("a", b'{"schema": 1}'))
        await webhook.close()
    [post] = receiver.posts
    assert names["verify"](post.headers, post.body, SECRET)
    assert not names["verify"](post.headers, post.body + b" ", SECRET)
    assert not names["verify"](post.headers, post.body, SECRET[:-2] + "AA")


async def test_the_command_that_notes_what_was_read_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [script] = [block for block in blocks("alerts.md", "sh") if block.startswith("#!")]
    note = tmp_path / "note.sh"
    note.write_text(script)
    note.chmod(0o755)
    text = "$(touch pwned) EXIT; 'x' \"y\""
    await Command("./note.sh", 60.0).send(message_of(Alert("exit", make_sight(text=text), 1).to_json()))
    assert (tmp_path / "seen.txt").read_text() == text + "\n"
    assert sorted(os.listdir(tmp_path)) == ["note.sh", "seen.txt"]


def test_the_messages_have_the_fields_that_are_shown() -> None:
    [shown] = blocks("sinks.md", "json")
    assert list(json.loads(shown)["sight"]) == list(sight_to_json(make_sight()))
    [alert] = blocks("alerts.md", "json")
    assert list(json.loads(alert)) == list(Alert("exit", make_sight(), 1).to_json())


def test_what_is_said_to_match_does() -> None:
    for word, text, found in [
        ("no parking", "NOPARKING", True),
        ("no parking", "NO PAR-KING", True),
        ("fall", "FAIL", False),
        ("12345", "12346", False),
        ("exit", "exits", False),
    ]:
        assert bool(matching([pattern(word)], text)[0]) is found
