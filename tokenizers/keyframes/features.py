"""Features of a key frame tokenizer, layer by layer: it is an `Encoder`, for banks, probes and search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.tokenizers.encoded import check_video

if TYPE_CHECKING:
    from vidgen.tokenizers.keyframes.model import KeyframeTokenizer

LATENTS = "latents"  # of key frames; the name that every tokenizer's latents have


class KeyframeFeatures(FeatureMixin):
    """Layers of a `KeyframeTokenizer`, each with one feature frame a frame of the clip.

    Those of the key frames' tokenizer are "key.NAME", its latents "latents": every frame has its key frame's. "motion"
    are the motion's latents and "motion.hidden" what goes into its bottleneck, both 0 at key frames, which have none.
    """

    @property
    def feature_info(self: KeyframeTokenizer) -> list[FeatureInfo]:
        """Every layer in the order that `iter_features` has them."""
        key = [
            replace(info, name=key_layer(info.name), reduction=(1, *info.reduction[1:]), causal=True)
            for info in self.key.feature_info
        ]
        motion = {"reduction": (1, self.config.block, self.config.block), "causal": True}
        hidden = FeatureInfo(name="motion.hidden", num_chs=self.bottleneck.channels_in, module="encoder", **motion)
        latents = FeatureInfo(name="motion", num_chs=self.config.motion_channels, module="latent", **motion)
        return [*key, hidden, latents]

    def iter_features(
        self: KeyframeTokenizer, video: Float[Tensor, "b 3 T H W"]
    ) -> Iterator[tuple[str, Float[Tensor, "b c T h w"]]]:
        """Yield every layer's features, lazily: stop iterating and the rest is not run."""
        check_video(video)
        b, _, t, _, _ = video.shape
        gop = self.config.gop
        keys = rearrange(video[:, :, ::gop], "b c n h w -> (b n) c 1 h w")
        for name, x in self.key.iter_features(keys):
            x = rearrange(x[:, :, -1], "(b n) c h w -> b c n h w", b=b)
            yield key_layer(name), repeat(x, "b c n h w -> b c (n g) h w", g=gop)[:, :, :t]
        hidden = self.encode_motion(self.measure_motion(video))
        yield "motion.hidden", self.fill_key_frames(hidden, t)
        out = self._quantize(hidden, sample=False, generator=None)
        yield "motion", self.fill_key_frames(self.normalize(out.latents), t)

    def fill_key_frames(
        self: KeyframeTokenizer, motion: Float[Tensor, "b d m i j"], num_frames: int
    ) -> Float[Tensor, "b d T i j"]:
        """Return values of the frames between key frames at the frames' own places, with 0 at key frames."""
        moving = torch.arange(num_frames, device=motion.device) % self.config.gop != 0
        whole = motion.new_zeros(*motion.shape[:2], num_frames, *motion.shape[3:])
        whole[:, :, moving] = motion
        return whole


def key_layer(name: str) -> str:
    """Return what a layer of the key frames' tokenizer is called here."""
    return name if name == LATENTS else f"key.{name}"
