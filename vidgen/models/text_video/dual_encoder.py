"""DualEncoder: a tower for clips and one for texts, whose tokens meet in one space."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.interfaces import TextEncoder
from vidgen.models.encoders.clip_encoder import TrainedClips
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.models.placement import PlacedModule
from vidgen.models.text.encoders import ByteTextEncoder
from vidgen.models.text.loading import load_text_encoder
from vidgen.models.text_video.embedding import Embedding
from vidgen.models.text_video.heads import JointHeads

HEADS, TEXT = "heads", "text"  # folders of the parts, within that of the encoder of clips


class DualEncoder(TrainedClips, PlacedModule):
    """Clips and texts in one space (Radford et al. 2021, CLIP; of clips Bain et al. 2021, Frozen in Time).

    A folder of it is a folder of its encoder of clips, which opens as one, with the other parts in "heads" and "text".
    A text encoder that the heads' config names stays as it is, and is in no folder of ours and no state of the model.
    Raises VidgenError for parts that do not fit.
    """

    def __init__(self, *, video: VideoViT, text: TextEncoder, heads: JointHeads) -> None:
        super().__init__()
        widths = (video.config.width, text.width)
        if widths != (own := (heads.config.video_width, heads.config.text_width)):
            raise VidgenError(f"heads for tokens of {own[0]} and {own[1]} channels do not fit towers of {widths}")
        video.check_dense()
        self.video, self.heads = video, heads
        self.config = video.config
        self.frozen: dict[str, TextEncoder] = {}  # no parts of the model: they are loaded by their name
        if heads.config.text_encoder:
            self.frozen[TEXT] = text
        else:
            self.text = text if isinstance(text, nn.Module) else None

    @property
    def text_encoder(self) -> TextEncoder:
        """The tower of texts."""
        return self.frozen.get(TEXT) or self.text

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """What scores are multiplied by before a softmax over them."""
        return self.heads.logit_scale

    def embed_videos(self, video: Float[Tensor, "b 3 T H W"], keep: Int[Tensor, "b k"] | None = None) -> Embedding:
        """Return clips in the shared space, one token a tube in time; of the tokens at the places `keep` alone, as Li
        et al. 2023 (FLIP) train. Raises VidgenError for clips that patches do not fill."""
        t, h, w = self.video.grid_of(video)
        return self.heads.embed_video(self.video(video, keep), t, h * w, keep)

    def embed_texts(self, texts: Sequence[str]) -> Embedding:
        """Return texts in the shared space. Raises VidgenError for one that is too long."""
        return self.heads.embed_text(self.text_encoder(texts))

    def score(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return how well each text goes with each clip, about -1 to 1."""
        return self.heads.score(texts, videos)

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Write all parts to `folder`, or nothing."""
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as target:
            self.video.save_pretrained(target, dtype=dtype)
            self.heads.save_pretrained(target / HEADS, dtype=dtype)
            if not self.frozen:
                self.text.save_pretrained(target / TEXT, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike, *, dtype: torch.dtype | None = torch.float32, device: str = "cpu"
    ) -> DualEncoder:
        """Return the model in `folder`, in evaluation mode. Raises VidgenError where an encoder there has no heads."""
        folder = Path(folder)
        if not is_dual_encoder(folder):
            raise VidgenError(f"{folder} has no heads for texts; train a dual encoder by `vidgen train align`")
        settings = {"dtype": dtype, "device": device}
        heads = JointHeads.from_pretrained(folder / HEADS, **settings)
        if name := heads.config.text_encoder:
            text = load_text_encoder(name, **settings)
        else:
            text = ByteTextEncoder.from_pretrained(folder / TEXT, **settings)
        return cls(video=VideoViT.from_pretrained(folder, **settings), text=text, heads=heads).eval()


def is_dual_encoder(folder: str | os.PathLike) -> bool:
    """Return whether a folder holds heads for texts beside an encoder of clips."""
    return (Path(folder) / HEADS).is_dir()
