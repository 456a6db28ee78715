"""CLIP, SigLIP and X-CLIP of transformers as encoders of texts and clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.drafts import draft_kind
from vidgen.checkpoints.other_libraries import read_network_config
from vidgen.errors import VidgenError
from vidgen.models.encoders.loading import check_safe
from vidgen.models.encoders.processors import input_size, make_processor, process_clips, read_processor
from vidgen.models.placement import PlacedModule
from vidgen.models.text.prompt_rule import PromptRule
from vidgen.models.text.tokenizers import read_text_tokenizer
from vidgen.models.text.transformers_encoder import TransformersTextEncoder
from vidgen.models.text_video.embedding import Embedding

if TYPE_CHECKING:
    from transformers.image_processing_base import ImageProcessingMixin

POSITIONS = (r"position_ids$",)  # of checkpoints of earlier versions: counted, not learned


@dataclass(frozen=True)
class TextVideoModel:
    """A class of transformers; whether its prompts are filled up to their full length, and whether it is of clips, not
    of single frames."""

    network: str
    filled: bool = False
    of_clips: bool = False


TEXT_VIDEO_MODELS = {
    "clip": TextVideoModel("CLIPModel"),
    "siglip": TextVideoModel("SiglipModel", filled=True),
    "xclip": TextVideoModel("XCLIPModel", of_clips=True),
}


class TransformersTextVideoEncoder(PlacedModule):
    """A model of `TEXT_VIDEO_MODELS` as a `TextVideoEncoder`.

    An image model sees frame by frame: the vector of a clip is the mean of its frames' unit vectors (Luo et al. 2022,
    CLIP4Clip, section 3.3), which are its tokens. X-CLIP sees a clip of its own number of frames at once, and its texts
    look at the clip that they are scored with (Ni et al. 2022, eq. 8): the tokens of a clip are then the patches that
    they look at, and the one token of a text is its vector before that, neither of unit length.
    """

    fps: ClassVar[float | None] = None

    def __init__(
        self, network: nn.Module, row: TextVideoModel, processor: ImageProcessingMixin, words: TransformersTextEncoder
    ) -> None:
        super().__init__()
        self.network, self.row, self.processor = network, row, processor
        self.words = [words]  # of the network's own modules, which a list keeps from being counted twice
        self.num_frames: int | None = network.config.vision_config.num_frames if row.of_clips else None
        self.height, self.width = input_size(processor)

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """What scores are multiplied by before a softmax over them; SigLIP's before a sigmoid, with a bias."""
        return self.network.logit_scale.exp().squeeze()

    def embed_videos(self, video: Float[Tensor, "b 3 T H W"]) -> Embedding:
        """Return clips in the shared space. Raises VidgenError for a number of frames that X-CLIP does not take."""
        if self.num_frames not in (None, video.shape[2]):
            raise VidgenError(f"{self.row.network} takes clips of {self.num_frames} frames, not {video.shape[2]}")
        pixels = process_clips(self.processor, video, torch.empty(0, device=self.device, dtype=self.dtype))
        if self.row.of_clips:
            return self.embed_whole_clips(pixels)
        frames = self.network.get_image_features(pixels.flatten(0, 1)).pooler_output.float()
        tokens = F.normalize(frames, dim=-1).unflatten(0, pixels.shape[:2])
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Embedding(vectors=F.normalize(tokens.mean(1), dim=-1), tokens=tokens, mask=mask)

    def embed_whole_clips(self, pixels: Float[Tensor, "b T 3 h w"]) -> Embedding:
        """Return clips as X-CLIP sees them, and the mean over frames of their patches, as its prompts look at them."""
        network = self.network
        seen = network.vision_model(pixels.flatten(0, 1))
        frames = network.visual_projection(seen.pooler_output).unflatten(0, pixels.shape[:2])
        vectors = F.normalize(network.mit(frames).pooler_output.float(), dim=-1)
        patches = network.prompts_visual_layernorm(seen.last_hidden_state[:, 1:]) @ network.prompts_visual_projection
        tokens = patches.unflatten(0, pixels.shape[:2]).mean(1)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Embedding(vectors=vectors, tokens=tokens, mask=mask)

    def embed_texts(self, texts: Sequence[str]) -> Embedding:
        """Return texts in the shared space. Raises VidgenError for one that is too long."""
        (words,) = self.words
        prompts = texts if words.rule is None else [words.rule.apply(text) for text in texts]
        ids, mask = (x.to(self.device) for x in words.to_ids(prompts))
        visible = None if self.row.filled else mask  # a model whose prompts are filled saw padding in training
        out = self.network.get_text_features(ids, attention_mask=visible)
        rows = out.pooler_output
        vectors = F.normalize(rows.float(), dim=-1)
        if not self.row.of_clips:
            return Embedding(vectors=vectors)
        mask = torch.ones(len(rows), 1, dtype=torch.bool, device=rows.device)
        return Embedding(vectors=vectors, tokens=rows[:, None], mask=mask)

    def score(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return cosines; of X-CLIP those of texts that have looked at the clip."""
        if not self.row.of_clips:
            return texts.vectors @ videos.vectors.T
        scores = []
        for vector, patches in zip(videos.vectors, videos.tokens, strict=True):
            rows = texts.tokens[None, :, 0]
            rows = rows + self.network.prompts_generator(rows, patches[None])
            scores.append(F.normalize(rows[0].float(), dim=-1) @ vector)
        return torch.stack(scores, dim=1)


def load_transformers_text_video(
    folder: Path, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> TransformersTextVideoEncoder:
    """Return the model in a folder of transformers' layout, in evaluation mode, without gradients.

    Raises VidgenError for a type that is not in `TEXT_VIDEO_MODELS`, and for weights that do not fit it.
    """
    import transformers

    row, settings = read_network_config(folder, TEXT_VIDEO_MODELS)
    check_safe(folder)
    dtype = dtype or torch.float32
    draft = draft_kind(getattr(transformers, row.network), settings, folder, dtype, left_out=POSITIONS)
    draft.checkpoint.check_memory(dtype, device)
    processor = make_processor(read_processor(folder, is_video=row.of_clips))
    tokenizer = read_text_tokenizer(folder)
    network = draft.fill(dtype=dtype, device=device)
    length = network.config.text_config.max_position_embeddings
    rule = PromptRule(length=length) if row.filled else None
    words = TransformersTextEncoder(network.text_model, tokenizer, length if rule is None else None, rule=rule)
    return TransformersTextVideoEncoder(network, row, processor, words).eval().requires_grad_(False)
