"""The log file that `headwater up` writes for all: whole lines, none lost or torn, whatever is rotated, cut off or full."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from headwater_appliance.log_file import Lines, LogFile
from headwater_shared.logs import configure, get_logger


def _all(path: Path) -> list[bytes]:
    """Every line there is, the oldest file first."""
    numbered = sorted(path.parent.glob(f"{path.name}.*"), key=lambda one: -int(one.suffix[1:]))
    return b"".join(one.read_bytes() for one in [*numbered, path]).splitlines()


@given(
    st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b".")), max_size=60),
    st.integers(1, 200),
    st.integers(1, 30),
)
def test_no_rotation_loses_or_tears_a_line(lines: list[bytes], size: int, cut: int) -> None:
    """Whatever sizes lines and files have, and wherever the pipe cuts: all files together are what was written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.log"
        file = LogFile(path, size, 1000)
        feed = Lines(file)
        text = b"".join(line + b"\n" for line in lines)
        for begin in range(0, len(text), cut):
            feed.feed(text[begin : begin + cut])
        file.close()
        assert b"\n".join(_all(path)) == b"\n".join(text.splitlines())
        for one in path.parent.iterdir():
            body = one.read_bytes()
            assert body.endswith(b"\n") or not body
            assert len(body) <= size or body.count(b"\n") == 1


def test_so_many_files_are_kept(tmp_path: Path) -> None:
    """The oldest goes; the newest lines are in the file of the name."""
    path = tmp_path / "a.log"
    file = LogFile(path, 20, 3)
    for number in range(30):
        file.write(b"line %03d\n" % number)
    file.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert _all(path) == [b"line %03d" % number for number in range(24, 30)]


def test_one_file_alone_begins_anew(tmp_path: Path) -> None:
    """With log_files = 1 what is full goes."""
    file = LogFile(tmp_path / "a.log", 20, 1)
    for number in range(5):
        file.write(b"line %03d\n" % number)
    file.close()
    assert (tmp_path / "a.log").read_bytes() == b"line 004\n"


def test_it_goes_on_after_a_power_cut_and_a_dead_part(tmp_path: Path) -> None:
    """What was left of a line stays, and is none with the next one; what a dead part had begun is a line."""
    path = tmp_path / "a.log"
    path.write_bytes(b"whole\nhal")
    file = LogFile(path, 1000, 2)
    one, other = Lines(file), Lines(file)
    one.feed(b"next\nbeg")
    other.feed(b"from another\n")
    one.end()
    file.close()
    assert path.read_bytes() == b"whole\nhal\nnext\nfrom another\nbeg\n"


def test_a_full_disk_stops_nobody_and_is_said(tmp_path: Path) -> None:
    """Lines that found no room are counted; the file goes on with how many bytes it lacks."""
    path = tmp_path / "a.log"
    path.symlink_to("/dev/full")
    file = LogFile(path, 1000, 2)
    file.write(b"lost one\n")
    file.write(b"lost too\n")
    path.unlink()
    file.write(b"there\n")
    file.close()
    said, there = path.read_text().splitlines()
    assert '"bytes":' in said
    assert there == "there"


def test_the_own_log_goes_there_too(tmp_path: Path) -> None:
    """What `up` says itself is lines of the same file."""
    path = tmp_path / "a.log"
    file = LogFile(path, 1000, 2)
    configure("auto", "info", part="up", stream=file.stream())
    try:
        get_logger().info("hello", name="ä")
    finally:
        configure()
    file.close()
    (line,) = path.read_text().splitlines()
    assert '"event":"hello"' in line
    assert '"part":"up"' in line
