"""What is learned beside the blocks of a frozen `VideoViT`: nothing yet, or low-rank changes of their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.lora.training import TrainedLoRA
from vidgen.models.adaptation.config import LoRAConfig
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.models.feature_layers import FeatureInfo
from vidgen.models.transformer_block import TransformerBlock


class TokenAdaptation(nn.Module):
    """What is learned beside a `VideoViT`, and how its blocks run with it. The encoder itself belongs to the caller.

    `class_tokens` learned ones come after those of the clip in the stream, and are the result where there are some.
    """

    class_tokens = 0

    def __init__(self, encoder: VideoViT, config: Any) -> None:
        super().__init__()
        self.config = config

    def iter_tokens(
        self, encoder: VideoViT, video: Tensor, keep: Int[Tensor, "b k"] | None
    ) -> Iterator[Float[Tensor, "b k+c d"]]:
        """Yield the stream's tokens before the first block and after each."""
        raise NotImplementedError

    def tokens(
        self, encoder: VideoViT, video: Tensor, keep: Int[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b k d"]:
        """Return the normed tokens of the last block; the class tokens, where there are some."""
        *_, x = self.iter_tokens(encoder, video, keep)
        return encoder.norm_out(x[:, -self.class_tokens :])  # -0 is all

    def feature_info(self, encoder: VideoViT) -> list[FeatureInfo]:
        """Return the blocks; and what class tokens have at each, "class.<i>", one cell a clip."""
        infos = []
        for i, info in enumerate(encoder.feature_info):
            infos.append(info)
            if self.class_tokens:
                kind = {"reduction": encoder.config.clip, "module": "encoder", "causal": False}
                infos.append(FeatureInfo(name=f"class.{i}", num_chs=info.num_chs, **kind))
        return infos

    def iter_features(self, encoder: VideoViT, video: Tensor) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every layer."""
        t, h, w = encoder.grid_of(video)
        for i, x in enumerate(self.iter_tokens(encoder, video, None)):
            if i:
                yield f"blocks.{i - 1}", rearrange(x[:, : t * h * w], "b (t h w) c -> b c t h w", t=t, h=h)
                if self.class_tokens:
                    yield f"class.{i - 1}", x[:, t * h * w :].mean(1)[:, :, None, None, None]

    def clip_shape(self, encoder: VideoViT) -> tuple[int, Grid]:
        """Return channels of a token, and the frames, height and width in pixels that it stands for."""
        return encoder.config.width, encoder.config.patch

    def check_partial(self, encoder: VideoViT) -> None:
        """Raise VidgenError where tokens of the clip may not be left out."""
        encoder.check_partial()
        self.check_dense(encoder)

    def check_dense(self, encoder: VideoViT) -> None:
        """Raise VidgenError where tokens stand for no patches."""
        if self.class_tokens:
            raise VidgenError(
                "class tokens stand for no patches of clips: leave adapt.masked out, or take another term"
            )


class LoRAAdaptation(TokenAdaptation):
    """W + alpha / r up down on every linear layer of the blocks (Hu et al. 2022, LoRA, section 4.1), of any mixer.

    The factors stand in the encoder as parametrizations from then on. Raises VidgenError for a rank that a layer does
    not have.
    """

    def __init__(self, encoder: VideoViT, config: LoRAConfig) -> None:
        super().__init__(encoder, config)
        self.lora = TrainedLoRA(encoder, config.rank, config.alpha or float(config.rank))

    def iter_tokens(
        self, encoder: VideoViT, video: Tensor, keep: Int[Tensor, "b k"] | None
    ) -> Iterator[Float[Tensor, "b k d"]]:
        """Yield the stream before the first block and after each."""
        for stream in encoder.iter_tokens(video, keep):
            yield stream.x


def attention_blocks(encoder: VideoViT, kind: str, mixers: tuple[str, ...]) -> list[TransformerBlock]:
    """Return the blocks. Raises VidgenError, naming the `kind` of adaptation, for another mixer than those it takes."""
    if encoder.config.mixer not in mixers:
        raise VidgenError(
            f"kind {kind} needs an encoder whose mixer is {' or '.join(mixers)}, and this one's is "
            f"{encoder.config.mixer}; choose kind lora"
        )
    return list(encoder.blocks)
