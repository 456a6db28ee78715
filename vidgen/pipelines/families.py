"""Which classes of diffusers' pipelines are read: one entry a class, made by its family's module."""

from __future__ import annotations

from vidgen.pipelines.cogvideox import COGVIDEOX
from vidgen.pipelines.ltx import LTX
from vidgen.pipelines.pipeline_kind import PipelineKind
from vidgen.pipelines.wan.pipelines import WAN, WAN_IMAGE_TO_VIDEO

PIPELINES: dict[str, PipelineKind] = {
    "WanPipeline": WAN,
    "WanImageToVideoPipeline": WAN_IMAGE_TO_VIDEO,
    "CogVideoXPipeline": COGVIDEOX,
    "LTXPipeline": LTX,
}
