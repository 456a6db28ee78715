"""Video in and out, data sets of clips, and the synthetic world in `vidgen.data.shapes`."""

import warnings
from importlib import import_module

_HOME = {
    "DroppedClip": "datasets",
    "VideoDataset": "datasets",
    "ClipRecord": "manifests",
    "find_clips": "manifests",
    "to_tensor": "frames",
    "to_uint8": "frames",
    "validate_source": "validation",
    "VideoClip": "reading",
    "iter_frames": "reading",
    "probe_video": "reading",
    "read_video": "reading",
    "VideoInfo": "sources",
    "contact_sheet": "writing",
    "write_video": "writing",
}
_RENAMED = {"Dropped": "DroppedClip", "inspect_source": "validate_source"}  # old name -> name
__all__ = sorted(_HOME)


def __getattr__(name: str):
    """Import on first use: the synthetic world must not wait for FFmpeg's bindings."""
    if name in _RENAMED:
        warnings.warn(f"vidgen.data.{name} is now called {_RENAMED[name]}", FutureWarning, stacklevel=2)
        name = _RENAMED[name]
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
