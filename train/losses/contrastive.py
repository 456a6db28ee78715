"""Pictures and texts told apart by each other: what an image prompt encoder sees is made to be what words say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.text.encoders import TextEncoding


class PictureMatching(nn.Module):
    """The cross-entropy of which of a batch's different texts a picture shows, by the cosine of the picture's tokens'
    mean and the text's, both projected (Radford et al. 2021, CLIP, section 2.3; here from picture to text alone)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_picture, self.of_text = nn.Linear(width, width), nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, tokens: Float[Tensor, "b n d"], text: TextEncoding, words: Sequence[str]) -> Tensor:
        """`text` is the encoding of `words`, a text a picture; equal ones are one."""
        different = list(dict.fromkeys(words))
        rows = [words.index(each) for each in different]
        pictures = F.normalize(self.of_picture(tokens.mean(1)).float(), dim=-1)
        texts = F.normalize(self.of_text(text.pooled()[rows]).float(), dim=-1)
        right = torch.tensor([different.index(each) for each in words], device=tokens.device)
        return F.cross_entropy(self.log_scale.exp() * pictures @ texts.T, right)
