"""Contrastive losses: what an image prompt encoder makes of a picture is matched with what words say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.text.encoders import TextEncoding


class ImageTextContrastiveLoss(nn.Module):
    """The cross-entropy of which of a batch's different texts a picture shows, by the cosine of the picture's mean
    token and the text's, both projected (Radford et al. 2021, CLIP, section 2.3; here from picture to text alone)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_picture = nn.Linear(width, width)
        self.of_text = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, tokens: Float[Tensor, "b n d"], text: TextEncoding, words: Sequence[str]) -> Float[Tensor, ""]:
        """Return the loss of pictures' tokens; `text` encodes `words`, one text a picture, and equal ones are one."""
        classes = list(dict.fromkeys(words))
        rows = [words.index(name) for name in classes]
        pictures = F.normalize(self.of_picture(tokens.mean(1)).float(), dim=-1)
        texts = F.normalize(self.of_text(text.pooled()[rows]).float(), dim=-1)
        labels = torch.tensor([classes.index(word) for word in words], device=tokens.device)
        return F.cross_entropy(self.log_scale.exp() * pictures @ texts.T, labels)
