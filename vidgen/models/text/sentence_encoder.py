"""A text encoder with what makes one vector of a text: pooling, dense layers, unit length, fewer dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.interfaces import LayeredTextEncoder, TextEncoder
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.pooling import Pooling, cut_dimensions
from vidgen.models.text.transformers_encoder import TransformersTextEncoder

ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
}


class DenseLayer(nn.Module):
    """A linear layer and an activation of ACTIVATIONS, on vectors of texts."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, activation: str = "Tanh") -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Return the layer's output."""
        return self.activation(self.linear(x))


class SentenceEncoder(nn.Module):
    """A text encoder with pooling: `encoder(prompts)` are token states, `encoder.embed(sentences)` one vector each.

    The vector is that of `pooling`, after the `dense` layers; its first `dim` channels where there is a `dim`; of unit
    length where `normalize` says so (Reimers & Gurevych 2019, Sentence-BERT, section 3). `prompt` is put before every
    sentence that is embedded, as "query: " of E5. Raises VidgenError for layers that the encoder does not have.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        pooling: Pooling | None = None,
        *,
        dense: Sequence[DenseLayer] = (),
        normalize: bool = False,
        dim: int | None = None,
        prompt: str = "",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = Pooling() if pooling is None else pooling
        self.dense = nn.ModuleList(dense)
        self.normalize = normalize
        self.prompt = prompt
        self.width = encoder.width
        pooled = self.width * len(self.pooling.modes)
        full = dense[-1].linear.out_features if dense else pooled
        if dense and dense[0].linear.in_features != pooled:
            raise VidgenError(f"a dense layer of {dense[0].linear.in_features} channels after vectors of {pooled}")
        if dim is not None and not 1 <= dim <= full:
            raise VidgenError(f"dimension {dim} of vectors of {full}; give one from 1 to {full}")
        if not self.pooling.takes_last_alone and not isinstance(encoder, LayeredTextEncoder):
            raise VidgenError(f"{type(encoder).__name__} has one layer, and layers {self.pooling.layers} are asked for")
        self.dim = full if dim is None else dim
        self.is_cut = self.dim < full

    @property
    def tokenizer(self) -> object:
        """The encoder's tokenizer, None where it has none: part of the hash of encoded prompts."""
        return vars(self.encoder).get("tokenizer")

    def forward(self, prompts: Sequence[str]) -> TextEncoding:
        """Return the text tokens that are pooled: the mean of the layers. Raises what the encoder raises."""
        if self.pooling.takes_last_alone:
            return self.encoder(prompts)
        return self.pooling.choose(self.encoder.encode_layers(prompts))

    def embed(self, sentences: Sequence[str], *, batch_size: int = 64) -> Float[Tensor, "b d"]:
        """Return the vectors of sentences, `batch_size` at a time, those of like length together.

        Raises what the encoder raises.
        """
        texts = [self.prompt + sentence for sentence in sentences]
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        parts = [self.pool(self([texts[i] for i in rows])) for rows in batches]
        if not parts:
            return torch.empty(0, self.dim)
        return torch.cat(parts)[torch.tensor(order).argsort()]

    def pool(self, text: TextEncoding) -> Float[Tensor, "b d"]:
        """Return the vectors of text tokens, as `forward` gives them."""
        x = self.pooling.pool(text)
        for layer in self.dense:
            x = layer(x)
        return cut_dimensions(x, self.dim, normalize=self.normalize)

    def with_changes(
        self, *, pooling: Pooling | None = None, dim: int | None = None, depth: int | None = None
    ) -> SentenceEncoder:
        """Return the encoder with another pooling, fewer dimensions, or its first `depth` blocks alone; weights are
        shared. Raises VidgenError for what it does not have."""
        encoder = self.encoder
        if depth is not None and not isinstance(encoder, TransformersTextEncoder):
            raise VidgenError(f"{type(encoder).__name__} has no blocks that can be left out; take depth={depth} away")
        changed = SentenceEncoder(
            encoder if depth is None else encoder.truncate(depth),
            self.pooling if pooling is None else pooling,
            dense=list(self.dense),
            normalize=self.normalize,
            dim=self.dim if dim is None and self.is_cut else dim,
            prompt=self.prompt,
        )
        return changed.train(self.training)
