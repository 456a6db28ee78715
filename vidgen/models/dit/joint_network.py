"""A clip and its side stream as one clip of twice the frames: what makes solvers and losses work on both at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.side_stream import SideStream, join_streams, split_streams
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText


@dataclass(frozen=True, kw_only=True)
class JointNetwork:
    """A VideoDiT with a side stream as a network of both streams together, see `join_streams`.

    absent: which of the 2t frames, clip first, no token sees, of all clips or of each. Where that is the whole side
    stream of all, the network is the VideoDiT without one.
    """

    transformer: VideoDiT
    absent: Bool[Tensor, " two_t"] | Bool[Tensor, "b two_t"]

    def __post_init__(self) -> None:
        if not self.transformer.config.side_channels:
            raise VidgenError("this model has no side stream; task side_stream trains one")

    @property
    def config(self) -> VideoDiTConfig:
        """The transformer's config."""
        return self.transformer.config

    def prepare_text(self, text: TextEncoding) -> PreparedText:
        """Return all of the text that no noise level changes."""
        return self.transformer.prepare_text(text)

    def __call__(
        self,
        both: Float[Tensor, "b c two_t h w"],
        t: Float[Tensor, b * f],
        text: TextEncoding | PreparedText | None = None,
    ) -> Float[Tensor, "b c two_t h w"]:
        """Return the prediction of both streams at levels (b,), or (b, 2t) of frames."""
        x, values = split_streams(both, self.config.side_channels)
        levels = (t if t.ndim == 2 else t[:, None]).expand(-1, both.shape[2])
        video_levels, side_levels = levels.chunk(2, dim=1)
        absent = self.absent.expand(len(both), -1)
        if bool(absent[:, x.shape[2] :].all()):
            return join_streams(self.transformer(x, video_levels, text), values)
        seen = absent.unflatten(1, (2, -1)) if bool(absent.any()) else None
        side = SideStream(values=values, t=side_levels, absent=seen)
        features = self.transformer.iter_features(x, video_levels, text, side=side)
        layers = {name: value for name, value in features if name in ("side", "out")}
        return join_streams(layers["out"], layers["side"])


def with_side_stream(transformer: VideoDiT, channels: int) -> VideoDiT:
    """Return a model with a side stream of `channels` numbers a latent frame, and the weights of this one, whose clips
    without one it makes as before: the model itself, where it has such a stream.

    Raises VidgenError for a model that has another one.
    """
    config = transformer.config
    if config.side_channels == channels:
        return transformer
    if config.side_channels:
        raise VidgenError(f"the model has a side stream of {config.side_channels} numbers a frame, not {channels}")
    wider = VideoDiT(replace(config, side_channels=channels)).to(transformer.patch_in.weight)
    wider.load_state_dict(transformer.state_dict() | {k: v for k, v in wider.state_dict().items() if k[:5] == "side."})
    return wider.train(transformer.training).requires_grad_(transformer.patch_in.weight.requires_grad)
