"""Cuts between scenes, counted by PySceneDetect where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from vidgen.errors import VidgenError

SHORTEST_SCENE = 0.6  # seconds, PySceneDetect's own at 25 frames a second


def load_scenedetect() -> Any:
    """Return the module. Raises VidgenError where it, or OpenCV, which it needs, is not installed."""
    try:
        import scenedetect
    except ImportError:
        raise VidgenError(
            "PySceneDetect is not installed; add it with `pip install scenedetect opencv-python-headless` "
            "(the extra vidgen[scenedetect]), or leave out --single-scene"
        ) from None
    return scenedetect


def has_scenedetect() -> bool:
    """Return whether cuts can be counted here."""
    try:
        load_scenedetect()
    except VidgenError:
        return False
    return True


class CutCounter:
    """PySceneDetect's ContentDetector on the frames of one clip; `count` is of the cuts so far.

    fps: the rate of the frames that it is shown.
    """

    def __init__(self, fps: float) -> None:
        self._module = load_scenedetect()
        self._fps = fps
        self._detector = self._module.ContentDetector(min_scene_len=max(1, round(SHORTEST_SCENE * fps)))
        self._number = 0
        self.count = 0

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Show it the next frame, red first."""
        time = self._module.FrameTimecode(self._number, self._fps)
        bgr = np.ascontiguousarray(frame[..., ::-1])
        self.count += len(self._detector.process_frame(time, bgr))
        self._number += 1
