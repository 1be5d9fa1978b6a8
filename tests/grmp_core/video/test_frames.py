"""Frames at a stated rate out of good, broken and strange video files."""

from __future__ import annotations

import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from grmp_core.errors import ImageError
from grmp_core.video import frames as video_frames
from grmp_core.video.frames import Video
from tests.grmp_core.video.clips import grey_frames, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s at 10 frames a second."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.avi", grey_frames(40))


@pytest.mark.parametrize(("fps", "step"), [(1, 10), (2, 5), (5, 2), (10, 1), (60, 1)])
def test_frames_are_taken_at_the_rate(clip: Path, fps: float, step: int):
    video = Video(clip, fps)
    taken = list(video.frames())
    np.testing.assert_allclose([frame.time_s for frame in taken], np.arange(0, 40, step) / 10, atol=1e-6)
    for number, frame in zip(range(0, 40, step), taken, strict=True):
        assert frame.pixels_HW3.shape == (48, 64, 3)
        assert frame.pixels_HW3.mean() == pytest.approx(4 * number, abs=3)
    facts = video.facts
    assert (facts.frames, facts.taken, facts.height_px, facts.width_px) == (40, len(taken), 48, 64)
    assert facts.duration_s == pytest.approx(4)
    assert facts.notes == []


def test_colours_are_red_green_blue(tmp_path: Path):
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 200
    [frame] = Video(write_clip(tmp_path / "red.avi", [red]), 1).frames()
    assert frame.pixels_HW3.mean(axis=(0, 1)) == pytest.approx([200, 0, 0], abs=6)


def test_a_broken_tail_gives_the_frames_before_and_a_note(clip: Path, tmp_path: Path):
    cut = tmp_path / "cut.avi"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    video = Video(cut, 10)
    taken = list(video.frames())
    assert 0 < len(taken) < 40
    assert video.facts.notes == [
        f"breaks off: {len(taken)} of the 40 frames that its header says can be decoded",
    ]


@pytest.mark.parametrize("kind", ["missing", "empty", "noise", "sound", "remote"])
def test_a_file_without_frames_is_one_line(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = tmp_path / "clip.avi"
    if kind == "empty":
        path.touch()
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "sound":
        with wave.open(str(path), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(bytes(16_000))
    reasons = {
        "missing": "no such file",
        "empty": "empty file",
        "noise": "no video that can be decoded",
        "sound": "no video that can be decoded",
        "remote": "copy it to this machine",
    }
    with pytest.raises(ImageError, match=reasons[kind]) as caught:
        list(Video("s3://bucket/clip.avi" if kind == "remote" else path, 1).frames())
    assert "\n" not in str(caught.value)
    assert "WARN" not in capfd.readouterr().err


def test_a_name_that_is_not_utf8_is_one_line(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def ends_the_process(*arguments: object) -> None:
        raise SystemExit("OpenCV was given the name")

    monkeypatch.setattr(video_frames.cv2, "VideoCapture", ends_the_process)
    named = tmp_path / "caf\udce9.avi"
    named.write_bytes(clip.read_bytes())
    with pytest.raises(ImageError, match=r"caf\\xe9\.avi: its name is not UTF-8; rename it"):
        list(Video(named, 1).frames())


class _Capture:
    """Stands for OpenCV's reader of a file with these times, in milliseconds."""

    times_ms: tuple[float, ...] = ()

    def __init__(self, path: str, backend: int) -> None:
        self.number = -1

    def isOpened(self) -> bool:  # noqa: N802  # OpenCV's name
        return True

    def get(self, what: int) -> float:
        known = {cv2.CAP_PROP_FPS: 10.0, cv2.CAP_PROP_FRAME_COUNT: float(len(self.times_ms))}
        return known.get(what) or self.times_ms[self.number]

    def grab(self) -> bool:
        self.number += 1
        return self.number < len(self.times_ms)

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 4, 3), self.number, np.uint8)

    def release(self) -> None:
        pass


def test_a_frame_that_cannot_be_decoded_is_counted_and_the_next_one_taken(monkeypatch, tmp_path: Path):
    class Fake(_Capture):
        times_ms = (0, 1000, 1100, 2000)

        def retrieve(self) -> tuple[bool, np.ndarray | None]:
            return (False, None) if self.number == 1 else super().retrieve()

    path = tmp_path / "clip.mp4"
    path.write_bytes(b"stands for a video")
    monkeypatch.setattr(video_frames.cv2, "VideoCapture", Fake)
    video = Video(path, 1)
    assert [frame.time_s for frame in video.frames()] == pytest.approx([0, 1.1, 2.0])
    assert video.facts.notes == ["1 frames could not be decoded; those behind them were taken"]


@pytest.mark.parametrize(
    ("times_ms", "taken_s", "guessed"),
    [
        ((500, 600, 1400, 1500, 1600, 3900, 4000), (0, 1.0, 3.4), 0),  # a variable rate, from half a second on
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), (0, 1.0), 11),  # no times at all: the nominal rate
        ((0, 400, 300, 1200), (0, 1.2), 1),  # one that goes back
    ],
)
def test_times_of_the_file_decide(times_ms, taken_s, guessed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"stands for a video")
    monkeypatch.setattr(video_frames.cv2, "VideoCapture", type("Fake", (_Capture,), {"times_ms": times_ms}))
    video = Video(path, 1)
    assert [frame.time_s for frame in video.frames()] == pytest.approx(taken_s)
    expected = [f"{guessed} frames without a time of their own: placed by the nominal rate"] if guessed else []
    assert video.facts.notes == expected
