"""Frame selection: the encoder's selector learns which frames tell as much as the whole clip; no labels are needed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.frame_selector import places_of_frames
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.train.config.self_supervised import SelectionTermConfig, SSLRecipe
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.objectives.selection import draw_subset, policy_gradient, subset_log_prob
from vidgen.train.tasks.ssl.term import ClipBatch, Term


class SelectionTerm(Term):
    """Frames are drawn by the selector's scores, and the reward is the cosine of the mean token of these alone to that
    of the whole clip (after Lin et al. 2022, OCSampler, section 3.3, whose reward is a classifier's confidence).

    The selector alone has a gradient; the encoder is what `init_from` and other terms make it. Raises VidgenError for
    an encoder without selector, for one that chooses all frames of a clip, and where nothing trained the encoder.
    """

    def __init__(self, config: SelectionTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        if not isinstance(encoder, VideoViT):
            raise VidgenError("frames are selected for a VideoViT; leave adapt and encoder.kind out")
        self.config, shape = config, encoder.config
        frames = shape.clip[0] // shape.patch[0]
        if not 0 < shape.selector_frames < frames:
            raise VidgenError(
                f"encoder.selector_frames={shape.selector_frames} of {frames} leaves nothing to select; give from 1 to "
                f"{frames - 1}"
            )
        if shape.learner_tokens:
            raise VidgenError("frames are selected for an encoder without learned tokens; leave learner_tokens out")
        if not recipe.init_from and len(recipe.terms) == 1:
            raise VidgenError(
                "a selector alone trains no encoder; give init_from=FOLDER of a trained one, or more terms"
            )

    @torch.no_grad()
    def similarity(
        self, encoder: VideoViT, video: Tensor, frames: Int[Tensor, "b k"], whole: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        """Return the cosine of the mean token of these frames to that of the clip."""
        places = places_of_frames(frames.sort(dim=1).values, encoder.grid_of(video))
        return F.cosine_similarity(encoder(video, places).float().mean(1), whole)

    def loss(self, encoder: VideoViT, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch. Parts: "reward" of the draws, and beside it "even", that of frames at even
        distances."""
        video, count = batch.video, encoder.config.selector_frames
        grid = encoder.grid_of(video)
        everything = torch.arange(grid[0], device=video.device).expand(len(video), -1)
        with torch.no_grad():
            whole = encoder(video, places_of_frames(everything, grid)).float().mean(1)
        scores = encoder.selector(video).float()
        draws = [draw_subset(scores, count, generator) for _ in range(self.config.draws)]
        rewards = torch.stack([self.similarity(encoder, video, frames, whole) for frames in draws])
        log_probs = torch.stack([subset_log_prob(scores, frames) for frames in draws])
        loss, parts = policy_gradient(log_probs, rewards)
        even = everything[:, (2 * torch.arange(count) + 1) * grid[0] // (2 * count)]
        return loss, parts | {"even": self.similarity(encoder, video, even, whole).mean()}
