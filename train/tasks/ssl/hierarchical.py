"""Joint embedding at several layers of an encoder: what each of them says of views of one clip agrees."""

from __future__ import annotations

from operator import itemgetter

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.clip_encoder import ClipEncoder
from vidgen.representations.denoiser_encoder import up_to_last
from vidgen.train.config.correspondence import HierarchicalTermConfig
from vidgen.train.config.self_supervised import SSLRecipe
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.tasks.ssl.joint import JointTerm, Rows, mean_over
from vidgen.train.tasks.ssl.term import ClipBatch, Term


class HierarchicalTerm(Term):
    """The mean over layers of a joint term of each, with heads and a queue of its own; views are drawn and encoded once
    (Yang et al. 2020, VTHCL: the same at several levels of features).

    Of a layer its map is read, normed place by place as the encoder norms its last one, and its mean taken. Raises
    VidgenError for layers that the encoder does not have, an adapted encoder, and what a joint term cannot have.
    """

    def __init__(self, config: HierarchicalTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        if not isinstance(encoder, ClipEncoder):
            raise VidgenError("layers are of an encoder that is trained as a whole; leave adapt out")
        channels = {info.name: info.num_chs for info in encoder.feature_info}
        if unknown := [name for name in config.layers if name not in channels]:
            raise VidgenError(f"layer {unknown[0]!r} is not one of the encoder's: {', '.join(channels)}")
        self.layers = config.layers
        self.levels = nn.ModuleList(
            [JointTerm(config, encoder, recipe, features=channels[name]) for name in config.layers]
        )

    def loss(self, encoder: ClipEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch. In training the queues take the targets in."""
        views, others = (
            [self.read(encoder, view) for view in part] for part in self.levels[0].draw_views(batch.video, generator)
        )
        losses = [level.compare(itemgetter(i), views, others, generator) for i, level in enumerate(self.levels)]
        return mean_over(losses)

    def read(self, encoder: ClipEncoder, view: Float[Tensor, "b c T H W"]) -> list[Rows]:
        """Return the mean of each layer's normed map; what comes after the last one is not computed."""
        maps = dict(up_to_last(encoder.iter_features(view), self.layers))
        rows = [rearrange(maps[name], "b c t h w -> b (t h w) c") for name in self.layers]
        return [F.layer_norm(x, x.shape[-1:]).mean(1) for x in rows]

    def state_dict_of_term(self) -> dict[str, Tensor]:
        """Return what each level keeps, by "layer:name"."""
        levels = zip(self.layers, self.levels, strict=True)
        return {f"{name}:{key}": x for name, level in levels for key, x in level.state_dict_of_term().items()}

    def load_state_dict_of_term(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict_of_term`."""
        for name, level in zip(self.layers, self.levels, strict=True):
            own = {key: state[f"{name}:{key}"] for key in level.state_dict_of_term()}
            level.load_state_dict_of_term(own)
