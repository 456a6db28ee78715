"""The shape of a prior over token grids, and in which orders it knows tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vidgen.bounds import Choice, Depth, Expansion, Length, NoOrCount, NoOrWidth, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.errors import VidgenError
from vidgen.models.dit.config import BlockConfig, check_heads
from vidgen.models.priors.token_values import Books

ORDERS = ("causal", "random", "masked", "frames")
ATTENTION = ("full", "axial", "strided")
FrameSide = Annotated[int, Range(1, 4096)]
CodebookSize = Annotated[int, Range(2, 2**24)]


@dataclass(frozen=True, kw_only=True)
class TokenPriorConfig(ConfigMapping):
    """Shape of a `TokenPrior`; `codebook_sizes` has one size for each code of a cell (several: residual or digits).

    channels: in place of codebooks, those of a cell whose token is a vector: a latent. Its law is that of a diffusion
        head (Li et al. 2024, MAR) of `head_width` and `head_depth` blocks.
    order:
        "causal": each token after those before it, (t, h, w) and then the codes of a cell: an exact likelihood.
        "random": the same after any other order of tokens too (Yu et al. 2024, RAR; Pannatier et al. 2024, sigma-GPT).
        "masked": all tokens see each other, and those that are masked are predicted (MaskGIT, masked diffusion).
        "frames": frame after frame, masked within a frame (block-causal).
    attention: "full"; "axial": cells of the same row, the same column or the same place in time; "strided": blocks
        alternate between the last `stride` tokens and every `stride`-th one (Child et al. 2019, Sparse Transformers,
        section 4.3).
    window: frames that are seen at once, the token's own included; 0 is all. Positions count from the first one seen,
        so a clip may be longer than any of training. `sinks`: of these the first of the clip, which stay.
    learned_positions: rows and columns of a frame of training, whose places are then learned vectors, row and column
        added (Yan et al. 2021, VideoGPT); () for those of rotary features, which take frames of any size.
    words: places for the bytes of a caption that come before the clip as its first frames, and are tokens as its own
        are: known, drawn, masked or predicted; 0 for none.
    text_width, classes, actions: 0 for none, else the width of text tokens, the number of classes, and the channels of
        an action a frame.
    tokenizer_hash: of the tokenizer whose indices the tokens are, see `tokenizer_hash` of token files; "" in folders of
        earlier versions.
    """

    codebook_sizes: Annotated[tuple[CodebookSize, ...], Length(0, 64)] = ()
    channels: NoOrWidth = 0
    head_width: Width = 256
    head_depth: Depth = 3
    order: Annotated[str, Choice(ORDERS)] = "causal"
    attention: Annotated[str, Choice(ATTENTION)] = "full"
    stride: Width = 8
    window: NoOrCount = 0
    sinks: NoOrCount = 0
    learned_positions: Annotated[tuple[FrameSide, ...], Length(0, 2)] = ()
    words: NoOrCount = 0
    width: Width = 256
    depth: Depth = 8
    head_dim: Width = 64
    mlp_ratio: Expansion = 4
    text_width: NoOrWidth = 0
    classes: NoOrCount = 0
    actions: NoOrWidth = 0
    tokenizer_hash: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.channels > 0) == (len(self.codebook_sizes) > 0):
            raise VidgenError(
                f"tokens are codes of codebook_sizes, or vectors of channels, one of the two; here they are "
                f"{self.codebook_sizes} and {self.channels}"
            )
        check_heads(self.width, self.head_dim)
        if len(self.learned_positions) == 1:
            raise VidgenError(
                f"learned_positions={self.learned_positions}: give rows and columns of a frame, or nothing"
            )
        if self.sinks and self.sinks >= self.window:
            raise VidgenError(f"a window of {self.window} frames has no room for {self.sinks} sinks; give it more")
        if self.attention != "full" and self.order not in ("causal", "masked"):
            raise VidgenError(f"attention {self.attention} is for order causal or masked, not {self.order}")
        if self.window and self.order not in ("causal", "frames"):
            raise VidgenError(f"a window of frames is for order causal or frames, not {self.order}")
        if self.words:
            self.check_words()

    def check_words(self) -> None:
        """Raise VidgenError for what does not go with words among the tokens."""
        parts = {
            "channels": self.channels,
            "window": self.window,
            "actions": self.actions,
            "text_width": self.text_width,
        }
        others = [name for name, value in parts.items() if value] + ["order frames"] * (self.order == "frames")
        if others:
            raise VidgenError(
                f"words={self.words} do not go with {others[0]}: they are tokens of whole clips of codes, and stand "
                "for the text; leave one of the two out"
            )
        if self.words % self.codes:
            raise VidgenError(f"words={self.words} fill no whole cells, of {self.codes} tokens each; give a multiple")

    @property
    def books(self) -> Books:
        """Which codebook each place has."""
        return Books(self.codebook_sizes, self.words)

    @property
    def codes(self) -> int:
        """Tokens of a cell."""
        return len(self.codebook_sizes) or 1

    @property
    def vocabulary(self) -> int:
        """Values of a token: those of the largest codebook. Of a smaller one the others have no probability."""
        return max(self.books.sizes, default=0)

    @property
    def block(self) -> BlockConfig:
        """The shape of every block."""
        return BlockConfig(
            width=self.width, head_dim=self.head_dim, mlp_ratio=self.mlp_ratio, text_width=self.text_width
        )
