"""What the parts of vidgen rely on in each other: Protocols, which import nothing heavy and run nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from vidgen.diffusion.noise import Generators, TimeDistribution
    from vidgen.diffusion.paths import ProbabilityPath
    from vidgen.models.feature_layers import FeatureInfo
    from vidgen.models.text.encoders import TextEncoding
    from vidgen.models.text_video.embedding import Embedding
    from vidgen.tokenizers.model import Encoded, StreamState

MASK = -1  # a token that is not known: never an id of a vocabulary, so that none can collide with it


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns a clip into named feature maps: a tokenizer, a denoiser at a noise level, an image or video
    model of transformers or timm.

    `feature_info` lists the layers in the order that they run. `iter_features(video)` yields (name, features) of each,
    lazily: stop iterating, and the rest is not run. Features are (b, c, t, h, w), a denoiser's (b, t, h, w, c), see
    `channels_last`. `forward_intermediates` is timm's method of that name.
    """

    @property
    def feature_info(self) -> list[FeatureInfo]: ...

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Tensor]]: ...

    def forward_intermediates(
        self,
        *inputs: Any,
        indices: int | Sequence[int] | None = None,
        output_fmt: str = "BTHWC",
        intermediates_only: bool = False,
    ) -> tuple[Tensor, list[Tensor]] | list[Tensor]: ...


class TokenShape(Protocol):
    """Channels of a token, the frames, height and width in pixels that it stands for, and those of a clip."""

    width: int
    patch: tuple[int, int, int]
    clip: tuple[int, int, int]


class TokenEncoder(Protocol):
    """An encoder that terms of a loss are of: a module that turns clips into tokens (b, n, d), (t, h, w) in order.

    `check_partial` raises VidgenError where it cannot read the tokens at the places `keep` alone, `check_dense` where
    tokens do not stand for the patches of the clip that `grid_of` says.
    """

    config: TokenShape

    def __call__(self, video: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Float[Tensor, "b n d"]: ...

    def grid_of(self, video: Tensor) -> tuple[int, int, int]: ...

    def check_partial(self) -> None: ...

    def check_dense(self) -> None: ...


@runtime_checkable
class ClipFormat(Protocol):
    """The clips that a model was trained at; None is any number of frames, or any rate."""

    num_frames: int | None
    height: int
    width: int
    fps: float | None


@runtime_checkable
class Tokenizer(Encoder, Protocol):
    """Clips (b, 3, T, H, W) in [-1, 1] to latents (b, c, t, h, w) and back to the frames that went in.

    `streams`: whether `encode_chunk` and `decode_chunk` take a clip in pieces, exactly; one that does not needs all
    latents of a clip at once. `latent_frames(T)` is the frame rule, t = 1 + ceil((T - 1) / f_t).
    """

    config: Any
    streams: bool

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def latent_frames(self, num_frames: int) -> int: ...

    def encode(self, video: Float[Tensor, "b 3 T H W"]) -> Encoded: ...

    def decode(self, encoded: Encoded, *, chunk_latents: int | None = None) -> Float[Tensor, "b 3 T H W"]: ...

    def encode_chunk(
        self, video: Float[Tensor, "b 3 k H W"], state: StreamState | None = None, last: bool = False
    ) -> tuple[Float[Tensor, "b c t h w"], StreamState]: ...

    def decode_chunk(
        self, latents: Float[Tensor, "b c k h w"], state: StreamState | None = None
    ) -> tuple[Float[Tensor, "b 3 F H W"], StreamState]: ...


class TextEncoder(Protocol):
    """Prompts to text tokens. "" is a prompt like any other: its encoding is the null condition of guidance."""

    width: int

    def __call__(self, prompts: Sequence[str]) -> TextEncoding: ...


@runtime_checkable
class LayeredTextEncoder(TextEncoder, Protocol):
    """A text encoder of `depth` blocks, whose layers are read: after the embeddings, and after every block."""

    @property
    def depth(self) -> int: ...

    def encode_layers(self, prompts: Sequence[str]) -> list[TextEncoding]: ...


@runtime_checkable
class TextVideoEncoder(ClipFormat, Protocol):
    """Texts and clips in one space: a dual encoder of ours, or CLIP, SigLIP and X-CLIP of transformers.

    `embed_videos` takes clips of its `ClipFormat` in [-1, 1], `embed_texts` any texts. `score(texts, videos)` is how
    well each text goes with each clip: the cosine of their vectors, or what another interaction makes of their tokens.
    `logit_scale` is what scores are multiplied by before a softmax over them, as in training.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def logit_scale(self) -> Float[Tensor, ""]: ...

    def embed_videos(self, video: Float[Tensor, "b 3 T H W"]) -> Embedding: ...

    def embed_texts(self, texts: Sequence[str]) -> Embedding: ...

    def score(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]: ...


class Denoiser(Protocol):
    """The estimate of x0 given x_t at noise level t, (b,) or one per frame (b, t), with all conditions closed over."""

    def __call__(self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, b * f]) -> Float[Tensor, "b c t h w"]: ...


class SequenceModel(Protocol):
    """A causal model of sequences of tokens that keeps what it has read, in a cache of whatever kind.

    `length` tokens are read. `start()` gives the logits of the first token, `extend(tokens)` reads k more and gives
    those of the token after each of them, `rewind(length)` forgets the tokens from `length` on.
    """

    length: int

    def start(self) -> Float[Tensor, "b v"]: ...

    def extend(self, tokens: Int[Tensor, "b k"]) -> Float[Tensor, "b k v"]: ...

    def rewind(self, length: int) -> None: ...


class MaskedLogits(Protocol):
    """The logits of every token given those that are known; the others are MASK, which a network maps to an embedding
    of its own. Logits at tokens that are known are nobody's business. Of continuous tokens, vectors of which those that
    are unknown are NaN, what a head makes their law of takes the place of logits."""

    def __call__(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]: ...


class TokenDraws(Protocol):
    """How tokens are drawn from what a model says of them: ids from logits, or vectors by a head's diffusion.

    `draw_noise` gives the random numbers of `count` tokens a sample, one stream a sample, (b, count, ...); `draw` turns
    rows of a model's outputs and their noise into tokens, and their log-probabilities in the model's own law, None
    where it has none. `tokens` are the sequences so far, and `owner` says of which of them each row is.
    """

    def draw_noise(
        self, batch: int, count: int, generators: Generators, active: Bool[Tensor, " b"] | None = None
    ) -> Tensor: ...

    def draw(
        self, outputs: Float[Tensor, "m v"], noise: Tensor, tokens: Tensor, owner: Int[Tensor, " m"]
    ) -> tuple[Tensor, Tensor | None]: ...


class NoiseSchedule(Protocol):
    """How a denoiser was trained and is sampled: path, prediction type, time distribution, defaults of a call."""

    prediction_type: str
    time_distribution: TimeDistribution
    sampler: Any
    num_inference_steps: int
    guidance_scale: float
    num_frames: int
    height: int
    width: int
    fps: float

    def make_path(self) -> ProbabilityPath: ...


@runtime_checkable
class Pipeline(Protocol):
    """Prompts to clips. Called with a prompt or several it returns `frames`, `latents` and `fps`."""

    vae: Tokenizer
    transformer: Any
    text_encoder: TextEncoder
    scheduler: NoiseSchedule
    path: ProbabilityPath

    def __call__(self, prompt: str | Sequence[str], **settings: Any) -> Any: ...

    def unguided(self, prompts: Sequence[str]) -> Denoiser: ...
