"""Models in the settings and in the journal: which file is meant, what is kept of it, what is so when it changes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from headwater_edge import snapshot
from headwater_edge.detect_settings import DetectSettings, with_files
from headwater_edge.detection import onnx_kept
from headwater_edge.detection.gone import Gone
from headwater_edge.detection.onnx_detector import OnnxDetector
from headwater_edge.detection.onnx_kept import MODELS, Models
from headwater_edge.detection.specs import Spec
from headwater_edge.settings import StepSettings
from headwater_shared.errors import PartMissing, SettingsError
from tests.edge import onnx_files as files
from tests.edge.feed import DAY, Message, S
from tests.edge.onnx_files import BEFORE, TOGETHER, placed
from tests.edge.run import Run
from tests.edge.test_detection_in_step import configured, found, said, settings_of
from tests.support import ROOT

USE = (DetectSettings("worn", "*", ("onnx:together.onnx",)),)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model of another test is loaded."""
    monkeypatch.setattr(onnx_kept, "MODELS", Models())
    monkeypatch.setattr("tests.edge.test_detection_onnx_kept.MODELS", onnx_kept.MODELS)


def named(folder: Path, detect: tuple[DetectSettings, ...] = USE) -> StepSettings:
    return settings_of(with_files(detect, folder))


def seen(run: Run) -> set[int]:
    """Of how many windows its model's scaling is, by device and metric."""
    detector = run.state.detection.judges[0].whole[0][1].ensemble.detectors[0]
    assert isinstance(detector, OnnxDetector)
    return set(detector.seen.reshape(-1).tolist())


def restarted(beside: Path | None) -> None:
    """As in a new process: nothing is loaded."""
    MODELS._loaded.clear()
    if beside is not None:
        MODELS.look_beside(beside, keep=True)


def windows(seed: int, number: int, broken: int = -1, devices: int = 3) -> list[Message]:
    """Flow, power and vibration of some devices that go by one load each; one window where vibration does not."""
    chance = random.Random(seed)
    messages = []
    for window in range(number):
        for device in range(devices):
            load = chance.gauss(0, 1)
            name = f"s1/d{device}"
            at = 10 * window + 2
            extra = 3.0 if window == broken and device == 1 else 0.0
            messages += [
                said(at, 100 + 10 * load, f"{name}/flow"), said(at, 5 + load, f"{name}/power"),
                said(at + 1, round(2 + load / 10 + extra, 3), f"{name}/vibration"),
            ]  # fmt: skip
    return messages


def test_r12_a_model_finds_what_is_wrong_with_a_device_and_a_kill_changes_no_bit(tmp_path: Path) -> None:
    """Through the step: blamed is the metric, in words; run again from the journal and from snapshots it is the same."""
    placed(tmp_path / "together.onnx", files.together(), TOGETHER)
    run = Run(named(tmp_path))
    run.start()
    messages = windows(1, 150, broken=120)
    for number in range(0, len(messages), 9):
        run.tick(*messages[number : number + 9])
        if number in (396, 999):
            run.picture()
            run.crash(run.pictures[-1])
    anomalies = [one for one in found(run) if one.phase == "begin"]
    assert [(one.series, one.begin_us) for one in anomalies] == [("s1/d1/vibration", DAY + 1200 * S)]
    assert anomalies[0].text.startswith("vibration is ")
    assert "times further than usual from what flow and power suggest" in anomalies[0].text
    run.crash()
    run.crash(run.pictures[0])


def test_r12_a_journal_is_run_again_with_the_model_that_it_was_made_with(tmp_path: Path) -> None:
    """The file was replaced since: the copy beside the agent's file has the same bits as then."""
    file = placed(tmp_path / "together.onnx", files.together(), TOGETHER)
    MODELS.look_beside(tmp_path / "edge.db", keep=True)
    run = Run(named(tmp_path))
    run.start()
    configured(run, named(tmp_path))
    messages = windows(2, 60, broken=50)
    for number in range(0, len(messages), 5):
        run.tick(*messages[number : number + 5])
    assert len(list((tmp_path / "models").iterdir())) == 2
    placed(file, files.linear([[0.0] * 3] * 3, 0.5), TOGETHER)
    restarted(tmp_path / "edge.db")
    assert snapshot.fingerprint(run.restored()) == snapshot.fingerprint(run.state)


def test_r12_without_the_file_and_its_copy_a_journal_is_not_run_with_another_model(tmp_path: Path) -> None:
    """A copy that is damaged counts as none: the detector is gone, and says why; put back, the journal is run again as it was."""
    file = placed(tmp_path / "together.onnx", files.together(), TOGETHER)
    MODELS.look_beside(tmp_path / "edge.db", keep=True)
    run = Run(named(tmp_path))
    run.start()
    run.tick(*windows(2, 30))
    (copy,) = (tmp_path / "models").glob("*.onnx")
    body = copy.read_bytes()
    copy.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    placed(file, files.linear([[0.0] * 3] * 3, 0.5), TOGETHER)
    restarted(tmp_path / "edge.db")
    (gone,) = run.restored().detection.judges[0].alone.ensemble.detectors
    assert isinstance(gone, Gone)
    assert "is another one than the journal was made with" in gone.why
    assert "put model and manifest back there as they were then" in gone.why
    copy.write_bytes(body)
    assert snapshot.fingerprint(run.restored()) == snapshot.fingerprint(run.state)


def test_a_model_that_was_changed_is_another_detector_and_learns_anew(tmp_path: Path) -> None:
    """With the same settings text: at the next start, or reload, what it had learnt is gone; of an unchanged one it stays."""
    file = placed(tmp_path / "together.onnx", files.together(), TOGETHER)
    run = Run(named(tmp_path))
    run.start()
    run.tick(*windows(3, 40))
    assert seen(run) == {20}
    assert configured(run, named(tmp_path), start=True).warnings == []
    assert seen(run) == {20}
    placed(file, files.together(), TOGETHER.replace("windows = 20", "windows = 21"))
    (warning,) = configured(run, named(tmp_path), start=True).warnings
    assert warning.startswith("[[edge.detect]] 'worn' learns anew: ")
    assert seen(run) == {0}


def test_a_copy_is_made_once_and_mended(tmp_path: Path) -> None:
    """Commands that only look at settings keep none; an agent's copy that lost bytes is written again."""
    file = placed(tmp_path / "m.onnx", files.foretells(), BEFORE)
    use = f"onnx:{file}"
    sha256 = MODELS.content_of(use)
    MODELS.look_beside(tmp_path / "edge.db")
    assert MODELS.content_of(use) == sha256
    assert not (tmp_path / "models").exists()
    MODELS.look_beside(tmp_path / "edge.db", keep=True)
    MODELS.content_of(use)
    copy = tmp_path / "models" / f"{sha256}.onnx"
    before = copy.stat().st_mtime_ns, copy.stat().st_ino
    MODELS.content_of(use)
    assert (copy.stat().st_mtime_ns, copy.stat().st_ino) == before
    copy.write_bytes(b"")
    MODELS.content_of(use)
    assert copy.read_bytes() == file.read_bytes()
    assert copy.with_suffix(".toml").read_text() == BEFORE
    file.unlink()
    restarted(None)
    assert MODELS.of(use, sha256).sha256 == sha256


def test_rules_that_name_a_model_wrongly_are_refused(tmp_path: Path) -> None:
    """Windows of another length, parameters of its own, a bad file: the rule is named, and what to do."""
    placed(tmp_path / "together.onnx", files.together(), TOGETHER)
    placed(tmp_path / "bad.onnx", files.together()[:-1], TOGETHER)
    for detect, said_so in (
        (DetectSettings("worn", "*", ("onnx:together.onnx",), level="1m"), "onnx:together.onnx was made for windows of 10 s, not of 1m"),
        (DetectSettings("worn", "*", (Spec("onnx:together.onnx", metrics=("a",)),)), "has no parameters"),
        (DetectSettings("worn", "*", ("onnx:bad.onnx",)), "only a part of one"),
        (DetectSettings("worn", "*", ("onnx:none.onnx",)), "there is no model"),
    ):  # fmt: skip
        with pytest.raises(SettingsError) as refused:
            named(tmp_path, (detect,))
        assert refused.value.message.startswith("[[edge.detect]] 'worn': ")
        assert said_so in refused.value.message
        assert refused.value.hint


def test_without_onnxruntime_the_pip_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Pi where the extra was left out."""
    placed(tmp_path / "together.onnx", files.together(), TOGETHER)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PartMissing) as missing:
        named(tmp_path)
    assert missing.value.hint == "pip install 'headwater[onnx]'"


def test_onnxruntime_is_imported_only_where_a_model_is_named() -> None:
    """An agent with the default detectors has neither it nor our reading of its files in memory."""
    code = (
        "import sys; from headwater_edge import process; from tests.edge.test_detection_in_step import run_of; run_of(); "
        "print([name for name in sys.modules if name.startswith('onnxruntime') or '.onnx_m' in name or '.onnx_f' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stdout == "[]\n"
