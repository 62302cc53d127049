"""What of a sight is told, and how it looks."""

import json

import pytest
from sights import make_sight

from common.printable import printable
from edge_node.sinks.addresses import MQTT, WEB, check_nats, parse_address
from edge_node.sinks.news import News
from edge_node.sinks.sight_json import LONGEST_TEXT, encode, sight_to_json


def test_a_sight_is_new_then_changed_then_ended_and_frames_alone_are_no_news() -> None:
    now = [0.0]
    news = News(still_s=10.0, clock=lambda: now[0])
    told = [news.of(make_sight(text=text)) for text in ("EX", "EX", "EXIT", "EXIT")]
    assert told == [("new", 1), None, ("changed", 2), None]
    now[0] = 10.0
    assert news.of(make_sight(frames=400)) == ("changed", 3) and news.of(make_sight()) is None
    assert news.of(make_sight(2)) == ("new", 1)
    assert news.of(make_sight(ended=True)) == ("ended", 4)
    assert not {"5f0c-1"} & set(news._told)


def test_sights_that_never_end_are_forgotten_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.sinks.news.REMEMBERED", 2)
    news = News()
    for number in range(5):
        assert news.of(make_sight(number)) == ("new", 1)
    assert len(news._told) == 2


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "\x1b[2J\n\r\0", "\u202egnp.exe", "\ud800", '"}\n{"'])
def test_whatever_was_read_is_data_on_one_line_of_ascii(text: str) -> None:
    line = encode(sight_to_json(make_sight(text=text, score=float("nan"))))
    assert json.loads(line)["text"] == text and json.loads(line)["score"] is None
    assert b"\n" not in line and all(32 <= byte < 127 for byte in line)
    assert printable(text).isprintable()


def test_a_text_is_bounded() -> None:
    assert len(json.loads(encode(sight_to_json(make_sight(text="x" * 10**6))))["text"]) == LONGEST_TEXT


@pytest.mark.parametrize(
    "url", ["", "hub", "http://hub", "mqtt://", "mqtt://h:port/x", "mqtt://h:70000", "mqtt://[::1"]
)
def test_what_is_no_address_is_said_with_its_flag_and_without_it(url: str) -> None:
    with pytest.raises(ValueError, match="--mqtt: ") as error:
        parse_address(url, "--mqtt", MQTT)
    assert len(url) < 8 or url not in str(error.value)


def test_an_address_shows_no_secret() -> None:
    address = parse_address("https://me:p%40ss@[::1]:8443/services/T0/secret?token=1", "--webhook", WEB)
    assert (address.user, address.password, address.shown) == ("me", "p@ss", "https://[::1]:8443")
    assert "p@ss" not in repr(address) and "secret" not in repr(address)


def test_several_nats_servers_are_checked_each() -> None:
    check_nats("nats://a:4222, tls://user:secret@b,c:4223", "--readings-nats")
    with pytest.raises(ValueError, match="--readings-nats"):
        check_nats("nats://a,http://b", "--readings-nats")
