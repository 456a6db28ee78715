"""Sizes of VideoDiT by name, and the parameters and operations of a forward pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from vidgen.errors import VidgenError
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import TextTokens
from vidgen.profiling.flops import count_gflops

# Widths, depths and heads of DiT (Peebles & Xie 2023, table 1). Behind each: parameters, and operations of a forward
# pass over latents of 5x32x32 with 64 tokens of text, as counted by `count_work`. What they reach is not measured.
PRESETS = {
    "S": VideoDiTConfig(width=384, depth=12, head_dim=64),  # 28 M, 96 GFLOP
    "B": VideoDiTConfig(width=768, depth=12, head_dim=64),  # 109 M, 318 GFLOP
    "L": VideoDiTConfig(width=1024, depth=24, head_dim=64),  # 372 M, 1,073 GFLOP
    "XL": VideoDiTConfig(width=1152, depth=28, head_dim=72),  # 546 M, 1,556 GFLOP
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """The cost of a network: its `parameters`, and the `gflops` of a forward pass, a multiply-add being two operations.

    Of these `text_gflops` are the text's, which `prepare_text` does once a prompt.
    """

    parameters: int
    gflops: float
    text_gflops: float


def find_preset(name: str) -> VideoDiTConfig:
    """Return the config of that name. Raises VidgenError for a name that is not in `PRESETS`."""
    if name not in PRESETS:
        raise VidgenError(f"VideoDiT preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def count_work(config: VideoDiTConfig, latents: tuple[int, int, int], *, text_tokens: int = 64, batch: int = 1) -> Work:
    """Return the work of one forward pass over `batch` clips of latents (t, h, w), each with `text_tokens` of text.

    Nothing is computed and no memory is taken: a network on `meta` is counted. Labels, a vector a clip, do not count.
    """
    _, p, q = config.patch
    with torch.device("meta"), torch.no_grad():
        model = VideoDiT(config)
        parameters = sum(value.numel() for value in model.parameters())
        if config.labels:
            model = VideoDiT(replace(config, classes=0, tasks=0, frame_rate=False, frame_size=False))
        model.set_attention("plain")  # of which every product is counted
        x = torch.empty(batch, config.latent_channels, *latents)
        t = torch.empty(batch)
        text = None
        features = None
        text_gflops = 0.0
        if config.text_width:
            tokens = torch.empty(batch, text_tokens, config.text_width)
            text = TextEncoding(tokens=tokens, mask=torch.empty(batch, text_tokens, dtype=torch.bool))
            text_gflops = count_gflops(lambda: model.read_text(TextTokens(tokens, None)))
        if config.feature_channels:
            features = torch.empty(batch, config.feature_channels, latents[0], latents[1] // p, latents[2] // q)
        gflops = count_gflops(lambda: model(x, t, text, features))
    return Work(parameters=parameters, gflops=gflops, text_gflops=text_gflops)
