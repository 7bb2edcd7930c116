"""Signed state (R21): what the device's key has not signed, for this agent, series, detector and versions, is not unpickled."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from river import anomaly as bare

from headwater_edge.detection import signed
from headwater_edge.detection.key import FileSeal, key_path
from headwater_edge.detection.models import Models
from headwater_edge.detection.river import River
from headwater_edge.detection.river_names import BEFORE, DETECTORS, IN_PICKLES, PARTS
from headwater_edge.detection.signed import Seal
from headwater_edge.detection.unpickle import NotAdmitted, unpickled
from headwater_shared.errors import SettingsError
from tests.edge.judging import EACH, again, ensemble, models_of, tails, walk

SAD = EACH["StandardAbsoluteDeviation"]
OURS, FOREIGN = Seal(b"k" * 32, "pi"), Seal(b"f" * 32, "pi")


class _Touches:
    """Its pickle calls `Path.touch`: what a stranger would have it do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def _learnt(name: str = "StandardAbsoluteDeviation") -> tuple[Any, list[Any]]:
    one, windows = ensemble(EACH[name]), list(walk(60, 3))
    for some in windows[:40]:
        one.judge(some)
    return one, windows[40:]


def _lost(one: Any) -> dict[str, int]:
    (detector,) = one.detectors
    assert isinstance(detector, River)
    return detector.lost


def test_r21_signed_models_come_back() -> None:
    """Written and read with the same key: nothing is lost, and it goes on to the last bit."""
    one, rest = _learnt()
    back = again(one, SAD, seal=OURS)
    assert _lost(back) == {}
    assert [tails(back.judge(some)) for some in rest] == [tails(one.judge(some)) for some in rest]


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (FOREIGN, "it is not signed with the key of this device"),
        (Seal(b"k" * 32, "another agent"), "it is not signed with the key of this device"),
        (Seal(), "there is no key here"),
    ],
    ids=["a foreign key", "another agent", "no key"],
)
def test_r21_a_foreign_or_missing_key_means_relearn(reader: Seal, why: str) -> None:
    """All models are blank, the reason is said with their number, and the detector learns anew."""
    one, rest = _learnt()
    back = again(one, SAD, seal=OURS, reader=reader)
    assert _lost(back) == {why: 3}
    detector = back.detectors[0]
    assert isinstance(detector, River)
    assert detector.learnt.tolist() == [0, 0, 0]
    assert detector._models == [None] * 3
    for some in rest:
        assert not back.judge(some).stopped
    assert detector.learnt.all()


def test_r21_without_a_key_nothing_is_written() -> None:
    """And at the next start that is said."""
    one, _ = _learnt()
    assert Seal().read(Seal().write(models_of(one))).pickles == {}
    assert _lost(again(one, SAD, seal=Seal(), reader=OURS)) == {"it was written without a key": 3}


@pytest.mark.parametrize("library", ["river", "numpy", "python"])
def test_r21_another_version_means_relearn_and_says_so(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The versions of what pickled are signed along; others may not know what was in it."""
    one, _ = _learnt()
    here = signed.versions_here()
    data = OURS.write(models_of(one))
    monkeypatch.setattr(signed, "versions_here", lambda: here | {library: "99.9"})
    assert OURS.read(data).lost == {f"{library} was {here[library]} and is 99.9": 3}


def _tampered(what: str) -> bytes:
    """What `OURS` has written of three series, changed by someone without the key."""
    one, _ = _learnt()
    written = msgspec.msgpack.decode(OURS.write(models_of(one)), type=signed._Written)
    first, second = written.rows[:2]
    if what == "bytes":
        first.pickle = first.pickle[:-2] + b"\x00" + first.pickle[-1:]
    elif what == "signature":
        first.signature = bytes(len(first.signature))
    elif what == "series":
        first.name, second.name = second.name, first.name
    elif what == "spec":
        written.spec = "river.anomaly.GaussianScorer"
    elif what == "versions":
        written.versions |= {"river": "0.1"}
    return msgspec.msgpack.encode(written)


@pytest.mark.parametrize(
    ("what", "lost"), [("bytes", 1), ("signature", 1), ("series", 2), ("spec", 3), ("versions", 3)]
)
def test_r21_what_was_tampered_with_is_not_unpickled(what: str, lost: int) -> None:
    """Each part that the signature covers: that model is left out, the others are taken."""
    read = OURS.read(_tampered(what))
    assert read.lost == {"it is not signed with the key of this device": lost}
    assert len(read.pickles) == 3 - lost


def test_r21_a_signed_model_cannot_be_put_into_another_row() -> None:
    """Row numbers are not signed, names are: what is not of the row's series is learnt anew."""
    one, _ = _learnt()
    models = models_of(one)
    models.names = {0: models.names[1], 1: models.names[0], 2: models.names[2]}
    columns = one.dump() | {"0.models": OURS.read(OURS.write(models))}
    back = ensemble(SAD)
    back.load(columns)
    assert _lost(back) == {"it is of another series": 2}
    assert [model is None for model in back.detectors[0]._models] == [True, True, False]  # type: ignore[attr-defined]


def test_r21_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    """Even with the right signature: it names what is not on the list, so nothing of it runs, and the series is learnt anew."""
    mark = tmp_path / "ran"
    one, _ = _learnt()
    models = models_of(one)
    models.pickles[1] = pickle.dumps(_Touches(mark))
    columns = one.dump() | {"0.models": OURS.read(OURS.write(models))}
    back = ensemble(SAD)
    back.load(columns)
    assert not mark.exists()
    ((why, count),) = _lost(back).items()
    assert count == 1
    assert "which is not on the list" in why
    pickle.loads(models.pickles[1])  # noqa: S301 - it would have
    assert mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"\x80\x04\x8c\x17river.anomaly.gaussian\x8c\x0a__import__\x93.",
        b"\x80\x04\x8c\x11river.anomaly.sad\x8c\x28StandardAbsoluteDeviation.__init__.__globals__\x93.",
        b"criver.stats.mean\ncopy\n.",
        b"criver.datasets.base\nRemoteDataset\n.",
        b"P1\n.",
        b"\x80\x05",
        b"\x80\x05not a pickle",
        b"",
    ],
)  # fmt: skip
def test_r21_the_unpickler_knows_listed_names_only(data: bytes) -> None:
    """Functions of the system, ways to others (getattr, dotted names), modules inside River's, damaged bytes: all refused alike."""
    with pytest.raises(pickle.UnpicklingError):
        unpickled(data)


def test_r21_what_is_listed_is_there_and_does_nothing_but_calculate() -> None:
    """Each name is a class (one is the distance that a neighbour search has), and no name of a module is among them."""
    for module, names in IN_PICKLES.items():
        for name in names.split():
            found = getattr(__import__(module, fromlist=[name]), name)
            assert isinstance(found, type) or name == "euclidean_distance_tuple"
            assert found.__module__.startswith(("river", "builtins", "collections", "functools", "random"))
    assert "getattr" not in IN_PICKLES["builtins"]


@pytest.mark.parametrize("name", EACH)
def test_r21_all_that_settings_can_name_is_on_the_list(name: str) -> None:
    """A model of each kind, having learnt, is unpickled by the restricted unpickler."""
    one, _ = _learnt(name)
    assert _lost(again(one, EACH[name], seal=OURS)) == {}


def test_r21_the_list_and_the_names_in_settings_go_together() -> None:
    """Whatever is named is listed; so a new name in the one is not forgotten in the other."""
    listed = {
        name for module, names in IN_PICKLES.items() if module.startswith("river") for name in names.split()
    }
    named = set(DETECTORS).union(*BEFORE.values(), *PARTS.values())
    assert named <= listed
    assert set(DETECTORS) == set(bare.__all__)


def test_r21_the_key_lies_outside_of_the_data_folder(tmp_path: Path) -> None:
    """Beside it by default, never in it: a copy of the folder must not have the key."""
    data = tmp_path / "headwater-data"
    assert key_path(data) == tmp_path / "headwater-data-key" / "state.key"
    assert key_path(data, str(tmp_path / "keys" / "k")) == tmp_path / "keys" / "k"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    for inside in (data / "state.key", data / "deep" / "k", tmp_path / "link" / "k"):
        with pytest.raises(SettingsError, match=r"edge\.state_key: .* is in the data folder"):
            key_path(data, str(inside))


def test_r21_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    """0600, 32 bytes of the system's randomness, the same at the next start; nothing half made stays behind."""
    path = tmp_path / "headwater-data-key" / "state.key"
    models, first = Models("spec", {0: "a"}, {0: b"x"}), FileSeal(path, "pi")
    first.read(first.write(Models("spec", {}, {})))
    assert not path.parent.exists()  # there was nothing to sign
    written = first.write(models)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["state.key"]
    assert path.stat().st_size == 32
    assert FileSeal(path, "pi").read(written).pickles == {0: b"x"}
    assert FileSeal(path, "another").read(written).pickles == {}
    path.unlink()
    assert FileSeal(path, "pi").read(written).lost == {
        f"the key {path} cannot be had: No such file or directory": 1
    }
    assert not path.exists()


def test_r21_where_no_key_can_be_made_nothing_is_written(tmp_path: Path) -> None:
    """A folder that cannot be had: no key, no models in the snapshot, and the agent goes on."""
    (tmp_path / "file").touch()
    seal = FileSeal(tmp_path / "file" / "state.key", "pi")
    assert seal.read(seal.write(Models("spec", {0: "a"}, {0: b"x"}))).pickles == {}
    assert "cannot be had: Not a directory" in seal.missing


@pytest.mark.parametrize(("mode", "size", "why"), [(0o640, 32, "others may read"), (0o600, 31, "is damaged")])
def test_r21_a_key_that_others_may_read_or_that_is_damaged_is_none(
    tmp_path: Path, mode: int, size: int, why: str
) -> None:
    """Who may have read it may have signed with it; it is not used, and stays as it is."""
    path = tmp_path / "state.key"
    path.write_bytes(os.urandom(size))
    path.chmod(mode)
    seal = FileSeal(path, "pi")
    assert seal.write(Models("spec", {0: "a"}, {0: b"x"})) == seal.write(Models("spec", {}, {}))
    assert why in seal.missing
    assert str(path) in seal.missing
    assert path.stat().st_size == size


def test_not_admitted_is_an_unpickling_error() -> None:
    """Whoever takes models up catches one kind of error."""
    assert issubclass(NotAdmitted, pickle.UnpicklingError)
