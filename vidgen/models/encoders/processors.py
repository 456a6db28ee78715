"""Processors of transformers: what their models need done to frames, as plain settings and back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen.errors import VidgenError

if TYPE_CHECKING:
    from transformers.image_processing_base import ImageProcessingMixin


def read_processor(folder: Path, is_video: bool) -> dict[str, Any]:
    """Return the settings of the processor in a folder, and its class as "class". Raises VidgenError for none."""
    from transformers import AutoImageProcessor, AutoVideoProcessor

    reasons = []
    for auto in (AutoVideoProcessor, AutoImageProcessor) if is_video else (AutoImageProcessor,):
        try:
            with quiet():
                processor = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, ImportError, AttributeError, TypeError) as error:
            reasons.append((str(error) or type(error).__name__).splitlines()[0][:160])
            continue
        values = {name: value for name, value in processor.to_dict().items() if not name.endswith("processor_type")}
        if values.get("offset") is False:  # transformers' video processor of ViViT would shift pixels all the same
            raise VidgenError(f"{folder}: a processor with offset false is not read; scale pixels to [-1, 1]")
        return {"class": type(processor).__name__, **values}
    raise VidgenError(f"{folder} holds no processor for its model: {reasons[-1]}")


def make_processor(values: dict[str, Any]) -> ImageProcessingMixin:
    """Return a processor of transformers from its settings, see `read_processor`."""
    import transformers

    return getattr(transformers, values["class"])(**{name: value for name, value in values.items() if name != "class"})


def input_size(processor: ImageProcessingMixin) -> tuple[int, int]:
    """Return the height and width that a processor brings square frames to, before it crops them."""
    size = processor.size or processor.crop_size
    edge = size.get("shortest_edge")
    return (edge, edge) if edge else (size["height"], size["width"])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' loading bars and reports off the terminal: what is wrong is raised."""
    from transformers.utils import logging as theirs

    level = theirs.get_verbosity()
    bars = theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
