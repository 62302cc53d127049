import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_node.policy import EdgePolicy, Policy
from common.errors import SettingsError
from common.frame import Priority
from common.packing import ImageFormat

ROOT = Path(__file__).resolve().parents[2]


def load(tmp_path: Path, text: str, presets: tuple[str, ...] = ()) -> Policy:
    file = tmp_path / "p.toml"
    file.write_text(text)
    return Policy.load(file, presets)


def test_without_a_file_everything_is_allowed() -> None:
    assert Policy().of("anyone") == EdgePolicy()
    assert EdgePolicy().highest is Priority.ESSENTIAL and EdgePolicy().share == 1.0


def test_tables_inherit_from_the_default_wherever_it_stands(tmp_path: Path) -> None:
    policy = load(
        tmp_path,
        """
        [edges.gate]
        highest = "essential"
        share = 3
        result_format = "webp"
        quality = 90

        [default]
        highest = "standard"
        frames_per_s = 10
        bytes_in_flight = 1_000_000
        max_pixels = 2_073_600
        preset = "fast"
        """,
    )
    default = EdgePolicy(Priority.STANDARD, 1.0, 10.0, 1_000_000, 2_073_600, "fast")
    assert policy.of("other") == policy.default == default
    assert policy.of("gate") == EdgePolicy(
        Priority.ESSENTIAL, 3.0, 10.0, 1_000_000, 2_073_600, "fast", ImageFormat.WEBP, 90
    )


def test_a_name_wins_over_patterns_and_the_first_pattern_over_later_ones(tmp_path: Path) -> None:
    policy = load(
        tmp_path,
        """
        [default]
        share = 9
        [edges."lobby-*"]
        share = 1
        [edges."*"]
        share = 2
        [edges.lobby-1]
        share = 3
        [edges."Lobby-[0-9]"]
        share = 4
        """,
    )
    shares = {name: policy.of(name).share for name in ("lobby-1", "lobby-2", "Lobby-2", "gate")}
    assert shares == {"lobby-1": 3, "lobby-2": 1, "Lobby-2": 2, "gate": 2}


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load(tmp_path, "").of("x") == EdgePolicy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[defaults]\n", r"p\.toml:1: 'defaults' is neither \[default\] nor \[edges\.NAME\]"),
        ("share = 2\n", r"p\.toml:1: 'share' is neither"),
        ("\ndefault = 3\n", r"p\.toml:2: 'default' is neither"),
        ("[[edges]]\nshare = 1\n", r"p\.toml:1: 'edges' is neither"),
        ("[edges]\ngate = 3\n", r"p\.toml:2: write \[edges\.gate\]"),
        (
            "[default]\nshare = 1\n[edges.a]\nshare = 2\nshares = 2\n",
            r"p\.toml:5: 'shares' is not one of highest, share",
        ),
        ("[edges.cam.1]\nshare = 2\n", r"p\.toml:1: '1' is not one of .* \(a name with dots needs quotes\)"),
        ("[default]\nshare = 1\n[edges.a]\nshare = 'much'\n", r"p\.toml:4: share: 'much' is not a number"),
        ("[default]\nshare = true\n", r"p\.toml:2: share: True is not a number"),
        ("[default]\nshare = [1]\n", r"p\.toml:2: share: \[1\] is not a number"),
        ("[default]\nquality = 1.5\n", r"p\.toml:2: quality: 1\.5 is not a whole number"),
        ("[default]\npreset = ['fast']\n", r"p\.toml:2: preset: \['fast'\] is not text"),
        (
            "[default]\nhighest = 'urgent'\n",
            r"p\.toml:2: highest: 'urgent' is not one of essential, standard, secondary",
        ),
        ("[default]\nhighest = 1\n", r"p\.toml:2: highest: 1 is not one of essential"),
        ("[default]\nresult_format = 'gif'\n", r"p\.toml:2: result_format: 'gif' is not one of lossless, jpeg"),
        ("[default]\nresult_format = 'png'\n", r"p\.toml:2: result_format: png is not offered"),
        ("[edges.a]\nshare = 1\n[edges.'b']\n\nshare = 0\n", r"p\.toml:5: share 0\.0: 0\.001\.\.1000"),
        ("[edges]\na.share = 1\nb.share = -1\n", r"p\.toml:3: share -1\.0: 0\.001\.\.1000"),
        ("[edges]\na = {share = 1}\nb = {share = nan}\n", r"p\.toml:3: share nan: 0\.001\.\.1000"),
        ("[default]\nshare = inf\n", r"p\.toml:2: share inf: 0\.001\.\.1000"),
        (f"[default]\nshare = {10**400}\n", r"p\.toml:2: share: 10+ is not a number"),
        ("[default]\nframes_per_s = -0.1\n", r"p\.toml:2: frames_per_s -0\.1: at least 0"),
        ("[default]\nframes_per_s = inf\n", r"p\.toml:2: frames_per_s inf: at least 0"),
        ("[default]\nbytes_in_flight = -1\n", r"p\.toml:2: bytes_in_flight -1: at least 0"),
        ("[default]\nmax_pixels = -1\n", r"p\.toml:2: max_pixels -1: at least 0"),
        ("[default]\nquality = 101\n", r"p\.toml:2: quality 101: 0\.\.100"),
        ("[edges.a]\npreset = 'slow'\n", r"p\.toml:2: this node serves fast, edge, not preset 'slow'"),
        ("[default]\nshare = \n", r"p\.toml: .*line 2"),
        ("[edges.a]\n[edges.a]\n", r"p\.toml: .*line 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, text, ("fast", "edge"))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: No such file"):
        Policy.load(tmp_path / "nowhere.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"binary\.toml"):
        Policy.load(tmp_path / "binary.toml")


values = st.one_of(
    st.integers(-2, 200),
    st.floats(),
    st.booleans(),
    st.sampled_from(["essential", "jpeg", "png", "fast", ""]),
    st.lists(st.integers(), max_size=2),
    st.just({}),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from([*EdgePolicy.__dataclass_fields__, "other"]), values)
def test_any_value_is_taken_or_named(tmp_path: Path, key: str, value: object) -> None:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value) if value != {} else "{}"
    if isinstance(value, str):
        text = f'"{value}"'
    try:
        policy = load(tmp_path, f"[default]\n\n{key} = {text}\n")
    except SettingsError as error:
        assert re.match(r".*p\.toml:3: .+", str(error))
    else:
        assert isinstance(getattr(policy.default, key), type(getattr(EdgePolicy(), key)) | ImageFormat)


def test_the_example_for_users_is_a_policy(tmp_path: Path) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "policies.md").read_text(), re.DOTALL)
    policy = load(tmp_path, example, ("fast", "edge"))
    assert set(policy.edges) == set(tomllib.loads(example)["edges"])
    assert policy.of("gate-1").highest is Priority.ESSENTIAL and policy.of("nobody").highest is Priority.STANDARD
