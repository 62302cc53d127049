from pathlib import Path

import pytest

from cloud_node.settings import CloudSettings
from common.errors import SettingsError
from common.settings import load


def given(*arguments: str) -> CloudSettings:
    return load(CloudSettings, arguments, {})


def test_presets_and_their_weights() -> None:
    assert given().presets == {"fast": None}
    assert given("--preset", "fast,edge").presets == {"fast": None, "edge": None}
    assert given("--weights", "a.safetensors").presets == {"fast": Path("a.safetensors")}
    both = given("--preset", "edge,fast", "--weights", "fast=f.safetensors,e.safetensors")
    assert both.presets == {"edge": Path("e.safetensors"), "fast": Path("f.safetensors")}
    with pytest.raises(SettingsError, match="preset 'paper' is not served: add it to --preset"):
        given("--weights", "paper=p.safetensors")


def test_http_addresses() -> None:
    assert given().http_address is None
    assert given("--http", "8080").http_address == ("127.0.0.1", 8080)
    assert given("--http", ":8080").http_address == ("127.0.0.1", 8080)
    assert given("--http", "0.0.0.0:80").http_address == ("0.0.0.0", 80)
    assert given("--http", "[::1]:80").http_address == ("::1", 80)
    for wrong in ("localhost", "host:port", "70000"):
        with pytest.raises(SettingsError, match="--http"):
            given("--http", wrong)


@pytest.mark.parametrize(
    "arguments", [("--threads", "-1"), ("--window-ms", "-1"), ("--spool-mib", "0"), ("--tile-pixels", "-5")]
)
def test_what_is_out_of_range_is_named(arguments: tuple[str, str]) -> None:
    with pytest.raises(SettingsError, match=arguments[0]):
        given(*arguments)
