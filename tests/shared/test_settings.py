"""Settings: what a person writes is taken strictly, and what is wrong is said so that the person can mend it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared import settings
from headwater_shared.errors import SettingsError
from headwater_shared.settings import Common, Duration, Secret, Section, Size
from headwater_shared.settings_faults import line_of


class Limit(Section, frozen=True, forbid_unknown_fields=True):
    """A limit."""

    high: Annotated[float, msgspec.Meta(description="Above it is an anomaly.")]
    hold: Duration = "10s"


class Spike(Section, frozen=True, forbid_unknown_fields=True, tag="spike", tag_field="kind"):
    """A spike."""

    height: float


class Drift(Section, frozen=True, forbid_unknown_fields=True, tag="drift", tag_field="kind"):
    """A drift."""

    slope: float = 0.5


class User(Section, frozen=True, forbid_unknown_fields=True):
    """A user."""

    password: Secret


class Listener(Section, frozen=True, forbid_unknown_fields=True):
    """Where devices connect."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535, description="TCP port.")] = 1883
    users: dict[str, User] = msgspec.field(default_factory=dict)


class Edge(Section, frozen=True, forbid_unknown_fields=True):
    """The agent."""

    site: str = "site"
    every: Duration = "250ms"
    quota: Size = "64MB"
    mode: Literal["live", "backlog"] = "live"
    listener: Listener = Listener()
    limits: tuple[Limit, ...] = ()
    faults: tuple[Spike | Drift, ...] = ()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the settings file of the test stands."""
    return tmp_path / "headwater.toml"


def _wrong(path: Path, text: str) -> SettingsError:
    path.write_text(text)
    with pytest.raises(SettingsError) as wrong:
        settings.load(path, "edge", Edge)
    return wrong.value


def test_a_table_becomes_its_struct(path: Path) -> None:
    """Values, tables in tables and lists of tables arrive; what is not written has its default."""
    path.write_text(
        '[edge]\nsite = "north"\n[edge.listener]\nport = 0\n[[edge.limits]]\nhigh = 9\n[[edge.limits]]\nhigh = 1.5\n'
        '[edge.listener.users.ann]\npassword = "env:ANN"\n'
    )
    assert settings.load(path, "edge", Edge) == Edge(
        site="north",
        listener=Listener(port=0, users={"ann": User(password="env:ANN")}),
        limits=(Limit(high=9.0), Limit(high=1.5)),
    )


def test_a_missing_table_gives_the_defaults(path: Path) -> None:
    """A process whose table is not written runs with its defaults."""
    path.write_text('[common]\ndata = "x"\n')
    assert settings.load(path, "edge", Edge) == Edge()
    assert settings.load_all(path, {"common": Common, "edge": Edge}) == {
        "common": Common(data="x"),
        "edge": Edge(),
    }


def test_other_known_tables_are_not_decoded(path: Path) -> None:
    """The agent does not judge the cloud's table, which may need libraries that it lacks."""
    path.write_text("[cloud]\nanything = 1\n[edge]\n")
    assert settings.load(path, "edge", Edge) == Edge()


@pytest.mark.parametrize(
    ("text", "line", "key", "near"),
    [
        ("[edge]\nsit = 'x'\n", 2, "sit", "site"),
        ("\n# port = 1\n\n[edge.listener]\n\nprot = 1\nhost = 'x'\n", 6, "prot", "port"),
        ("[[edge.limits]]\nhigh = 1\n[[edge.limits]]\n# c\nhigh = 1\nhodl = '1s'\n", 6, "hodl", "hold"),
        ("[edge]\nlimits = [\n  {high = 1},\n  {high = 1, hodl = '1s'},\n]\n", 4, "hodl", "hold"),
        ("[edge]\nlistener = {host = 'x', prot = 3}\n", 2, "prot", "port"),
        ("[edge]\nsite = '''\nprot = 1\n'''\n[edge.listenr]\nport = 1\n", 5, "listenr", "listener"),
        ("[edge.listener.users.ann]\npasword = 'env:A'\npassword='env:A'\n", 2, "pasword", "password"),
        ("[[edge.faults]]\nkind = 'drift'\nslop = 1\n", 3, "slop", "slope"),
        ("edge.listener.prot = 1\n", 1, "prot", "port"),
    ],
)
def test_an_unknown_key_names_file_line_and_nearest_key(
    path: Path, text: str, line: int, key: str, near: str
) -> None:
    """At any depth: the line it stands on, and the known key that was probably meant."""
    wrong = _wrong(path, text)
    assert wrong.message.startswith(f"{path}:{line}: unknown key {key!r} in [")
    assert wrong.hint.startswith(f"did you mean {near!r}? keys known here: ")


def test_a_tag_decides_which_keys_are_known(path: Path) -> None:
    """Of several kinds of table only the keys of the one that was written are named."""
    assert _wrong(path, "[[edge.faults]]\nkind = 'drift'\nslop = 1\n").hint.endswith(
        "keys known here: kind, slope"
    )


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (
            "[edge]\n[edge.listener]\nport = '1883'\n",
            3,
            "edge.listener.port: expected a whole number, found text",
        ),
        (
            "[edge.listener]\nport = true\n",
            2,
            "edge.listener.port: expected a whole number, found true or false",
        ),
        ("[edge.listener]\nport = 70000\n", 2, "expected a whole number <= 65535, found 70000"),
        ("[edge]\nlimits = 3\n", 2, "edge.limits: expected a list"),
        (
            "[[edge.limits]]\nhigh = 1\n[[edge.limits]]\nhigh = 'a'\n",
            4,
            "edge.limits[1].high: expected a number",
        ),
        (
            "[[edge.limits]]\nhigh = 1\n[[edge.limits]]\nhold = '1s'\n",
            3,
            "[[edge.limits]] lacks the key 'high'",
        ),
        ("[edge]\nevery = '10'\n", 2, 'expected a length of time such as "250ms"'),
        ("[edge]\nquota = '64'\n", 2, 'expected a size such as "64MB"'),
        ("[edge]\nmode = 'life'\n", 2, "edge.mode: 'life' is not among its values"),
        ("[[edge.faults]]\nkind = 'drft'\n", 2, "edge.faults[0].kind: 'drft' is not among its values"),
    ],
)
def test_a_wrong_value_names_line_key_and_what_is_expected(
    path: Path, text: str, line: int, says: str
) -> None:
    """In words that need no knowledge of Python."""
    wrong = _wrong(path, text)
    assert wrong.message.startswith(f"{path}:{line}: ")
    assert says in wrong.message


def test_a_wrong_value_brings_the_keys_description(path: Path) -> None:
    """The hint is the comment that the default file has above the key."""
    assert _wrong(path, "[edge.listener]\nport = 'x'\n").hint == "TCP port."
    assert _wrong(path, "[[edge.limits]]\n").hint == "Above it is an anomaly."


def test_the_entry_of_a_dict_is_found(path: Path) -> None:
    """Of several named tables the wrong one is named, and its line."""
    wrong = _wrong(
        path, '[edge.listener.users.ann]\npassword = "env:A"\n\n[edge.listener.users.bob]\npassword = 3\n'
    )
    assert wrong.message.startswith(f"{path}:5: edge.listener.users.bob.password: expected text")


def test_a_written_secret_is_refused_and_not_repeated(path: Path) -> None:
    """A password in the settings file is an error whose message does not hold it."""
    wrong = _wrong(path, '[edge.listener.users.ann]\npassword = "hunter2"\n')
    assert 'expected "env:NAME" or "file:/path"' in wrong.message
    assert "hunter2" not in str(wrong)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[common]\n[egde]\n", ":2: unknown table [egde]\n  hint: did you mean 'edge'?"),
        ("[common]\n[[edge]]\n", ":2: edge must be a table"),
        ("site = 3\n[edge]\n", ":1: 'site' stands outside every table"),
        ("[edge]\nsite = 'x\nport = 1\n", ":2: this is not TOML: "),
        ("[edge]\nsite = 1\nsite = 2\n", ":3: this is not TOML: "),
        ("[edge]\nlimits = [\n\n", ":2: this is not TOML: "),
    ],
)
def test_what_is_wrong_above_the_tables(path: Path, text: str, says: str) -> None:
    """Unknown tables, keys outside of tables and broken TOML name their line too."""
    assert says in str(_wrong(path, text))


def test_a_file_that_cannot_be_read(path: Path) -> None:
    """No file, a folder and bytes that are no text are errors for the person, not tracebacks."""
    with pytest.raises(SettingsError, match="headwater init"):
        settings.load(path, "edge", Edge)
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.load(path.parent, "edge", Edge)
    path.write_bytes(b"[edge]\nsite = '\xff'\n")
    with pytest.raises(SettingsError, match="not UTF-8"):
        settings.load(path, "edge", Edge)


@given(
    st.lists(
        st.sampled_from(
            ["", "# port = 1", "[edge]", "[edge.listener]", "[[edge.limits]]", "host = 'x'", "high = 1"]
        )
    ),
    st.lists(st.sampled_from(["", "# nope = 1", "[other]", "k = '''\nnope = 3\n'''"])),
)
def test_the_line_of_a_key_is_the_line_it_stands_on(before: list[str], after: list[str]) -> None:
    """Whatever stands around it that is TOML, a key is found on its own line."""
    lines = [*before, "[cloud]", "nope = 1", *after]
    try:
        tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:
        return  # a table twice, a key twice: not a file at all
    assert line_of("\n".join(lines), ("cloud", "nope")) == len(before) + 2


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1us", 1),
        ("250ms", 250_000),
        ("10s", 10**7),
        ("1m", 6 * 10**7),
        ("1h", 36 * 10**8),
        ("7d", 6048 * 10**8),
    ],
)
def test_duration(text: str, us: int) -> None:
    """A length of time is read into microseconds."""
    assert settings.duration(text) == us


@pytest.mark.parametrize(
    ("text", "count"), [("0B", 0), ("7KB", 7000), ("64MB", 64 * 10**6), ("2GB", 2 * 10**9)]
)
def test_size(text: str, count: int) -> None:
    """A size is read into bytes, in units of 1,000."""
    assert settings.size(text) == count


@pytest.mark.parametrize("text", ["", "s", "10", "-1s", "1.5s", "10 s", "10S", "10s\n", "1h30m", "64MB"])
def test_what_is_no_duration(text: str) -> None:
    """Anything else is an error that quotes it and shows how to write one."""
    with pytest.raises(SettingsError, match="250ms") as wrong:
        settings.duration(text)
    assert repr(text) in wrong.value.message


@pytest.mark.parametrize("text", ["", "64", "64mb", "1.5GB", "MB", "64 MB", "10s"])
def test_what_is_no_size(text: str) -> None:
    """Anything else is an error that quotes it and shows how to write one."""
    with pytest.raises(SettingsError, match="64MB") as wrong:
        settings.size(text)
    assert repr(text) in wrong.value.message


def test_secrets_come_from_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both references are resolved; the line end of a file is no part of the secret."""
    monkeypatch.setenv("HW_TEST_SECRET", "s p=ecret")
    (tmp_path / "secret").write_text("from file\n")
    assert settings.secret("env:HW_TEST_SECRET") == "s p=ecret"
    assert settings.secret(f"file:{tmp_path}/secret") == "from file"


def test_secrets_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set, a file that is missing or empty, and a literal are refused; the literal is not repeated."""
    monkeypatch.delenv("HW_TEST_SECRET", raising=False)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingsError, match="HW_TEST_SECRET is not set"):
        settings.secret("env:HW_TEST_SECRET")
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        settings.secret(f"file:{tmp_path}/none")
    with pytest.raises(SettingsError, match="is empty"):
        settings.secret(f"file:{tmp_path}/empty")
    with pytest.raises(SettingsError) as literal:
        settings.secret("hunter2")
    assert "hunter2" not in str(literal.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_users(host: str) -> None:
    """Loopback may be listened on by anyone."""
    assert settings.listen_address(host, 1883, users=False) == (host, 1883)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org"])
def test_any_other_address_needs_users(host: str) -> None:
    """Whatever is not surely loopback is refused without users, and taken with them."""
    with pytest.raises(SettingsError, match="set users"):
        settings.listen_address(host, 1883, users=False)
    assert settings.listen_address(host, 1883, users=True) == (host, 1883)


def test_a_port_must_be_one() -> None:
    """A number that is no port is a settings error."""
    with pytest.raises(SettingsError, match="65536 is no port"):
        settings.listen_address("127.0.0.1", 65_536, users=True)


def test_the_default_file_is_the_defaults(path: Path) -> None:
    """What `describe` writes parses to exactly the defaults of the structs."""
    sections = {"common": Common, "edge": Edge}
    path.write_text(settings.describe(sections))
    assert settings.load_all(path, sections) == {"common": Common(), "edge": Edge()}


def test_the_default_file_is_the_documentation() -> None:
    """It holds every key and every description, also of tables that are not there by default."""
    text = settings.describe({"common": Common, "edge": Edge})
    for line in (
        "# TCP port.\nport = 1883",
        '# [[edge.limits]]\n# Above it is an anomaly.\n# high = 1.0\n# hold = "10s"',
        "# [edge.listener.users.NAME]\n# password = ",
        '# [[edge.faults]]\n# kind = "drift"\n# slope = 0.5',
        'log_level = "info"',
    ):
        assert line in text


class Preset(Section, frozen=True, forbid_unknown_fields=True):
    """Tables that are there by default."""

    edge: Edge = Edge(
        limits=(Limit(high=3.0), Limit(high=-4.5, hold="1m")),
        faults=(Drift(), Spike(height=1e300), Drift(slope=float("inf"))),
        listener=Listener(host='a "quoted"\tüber\\host', users={"a b": User(password="env:A")}),
    )


def test_default_tables_are_written_too(path: Path) -> None:
    """Lists and names of tables that a default holds come back in their order, whatever their text."""
    path.write_text(settings.describe({"edge": Preset}))
    assert settings.load(path, "edge", Preset) == Preset()


def test_what_is_commented_out_loads_too(path: Path) -> None:
    """Taking the # away from keys and tables gives a file that is right."""
    lines = settings.describe({"edge": Edge}).splitlines()
    taken = [line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in lines]
    path.write_text("\n".join(taken))
    assert settings.load(path, "edge", Edge) == Edge(
        limits=(Limit(high=1.0),),
        faults=(Spike(height=1.0), Drift()),
        listener=Listener(users={"NAME": User(password="env:NAME")}),
    )
