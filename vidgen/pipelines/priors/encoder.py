"""A prior over tokens as an encoder: what its blocks know of a clip that they read token by token."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.errors import VidgenError
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.models.placement import PlacedModule, device_of, dtype_of
from vidgen.models.priors.token_values import blank_tokens
from vidgen.pipelines.priors.conditions import refuse_actions
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.words import join_words


class PriorEncoder(FeatureMixin, PlacedModule):
    """The blocks of a pipeline's prior, read over a clip's own tokens (Rajasegaran et al. 2025, Toto, section 3.3); an
    `Encoder` of clips. Its layers are "blocks.<i>".

    A cell's feature is the mean over its codes. Of orders "causal" and "random" a slot predicts its token and has read
    those before it; of the others it has read the whole clip, or its frame and those before. Text is "",
    and words among the tokens are unknown.

    `num_frames`, `height`, `width`, `fps`: of the clips it was trained at. Raises VidgenError for a prior that is told
    actions, and for one of order "causal" with words, which come before the clip.
    """

    def __init__(self, pipe: PriorPipeline) -> None:
        super().__init__()
        refuse_actions(pipe.prior, "extraction")
        if pipe.prior.config.words and pipe.prior.config.order == "causal":
            raise VidgenError("extraction has clips without captions, which this prior reads first; name another one")
        self.pipe = pipe
        self.vae, self.prior = pipe.vae, pipe.prior
        if pipe.text_encoder is not None:
            self.text_encoder = pipe.text_encoder
        schedule = pipe.scheduler
        self.num_frames, self.height, self.width, self.fps = (
            schedule.num_frames,
            schedule.height,
            schedule.width,
            schedule.fps,
        )

    @property
    def config(self) -> ConfigMapping:
        """The prior's own, which names its tokenizer."""
        return self.prior.config

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The blocks, with reductions in frames and pixels."""
        (cell,) = [info.reduction for info in self.vae.feature_info if info.name == "latents"]
        config = self.prior.config
        shared = {"num_chs": config.width, "reduction": cell, "module": "encoder"}
        causal = config.order in ("causal", "random", "frames")
        return [FeatureInfo(name=f"blocks.{i}", causal=causal, **shared) for i in range(config.depth)]

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, features) of every block."""
        encoded = self.vae.encode(video.to(device_of(self.vae), dtype_of(self.vae)))
        source = encoded.latents if self.pipe.is_continuous else encoded.indices
        tokens = self.pipe.tokens_of(source.to(device_of(self.prior)))
        grid = self.pipe.grid_of((encoded.num_frames, *video.shape[3:]))
        tokens, whole = join_words(self.prior.config, [""] * len(video), tokens, grid)
        count, order = self.prior.config.words, None
        if self.prior.config.order == "masked":
            tokens = torch.cat([blank_tokens(tokens, count), tokens[:, count:]], dim=1)
        elif count:  # words come after all of the clip, which reads none of them
            order = torch.arange(tokens.shape[1], device=tokens.device).roll(-count).expand(len(tokens), -1)
        text = None
        if self.pipe.text_encoder is not None:
            with torch.no_grad():
                text = self.pipe.text_encoder([""] * len(video))
        t, h, w = grid
        for i, x in enumerate(self.prior.iter_hidden(tokens, whole, text, order=order)):
            x = x[:, :-count] if order is not None else x[:, count:]
            yield f"blocks.{i}", reduce(x, "b (t h w q) d -> b d t h w", "mean", t=t, h=h, w=w)
