"""Tokens to bits and back: a range coder under the law of a causal prior, token by token.

The law of every token is the prior's own after those before it, so that n tokens take -log2 p of all of them (Shannon
1948), and up to a word of 32 bits for the end. Probabilities are whole multiples of 2^-24 (range coding, Martin 1979,
of the library constriction, Bamler 2022), and each value keeps one such step: a codebook is therefore coded in digits
of 256, the most significant first, each under its law after those before it, for 2.2e-5 bits a digit at most.

A decoder has to see the encoder's probabilities to the last bit. Both run the same passes (one clip, one token a pass,
one thread), and what must be equal beside them on both machines is what `describe_arithmetic` lists, the weights, and
the kind of processor, whose libraries choose kernels by its model. Nothing here finds out whether it was: a checksum of
the tokens does.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.text.encoders import TextEncoding

BRANCHES = 256  # values of a digit
WORD_BITS = 32  # of a stream, which is a whole number of them
DTYPES = (torch.float32, torch.float64)
# Codes a digit under probabilities: the one that it is given, and returns it; without one, the next of a stream.
CodeDigit = Callable[[Float[np.ndarray, " k"], int | None], int]


def check_coding(prior: TokenPrior, name: str) -> None:
    """Raise VidgenError for a prior that codes nothing, and where the library is missing; `name` is what it is called
    there."""
    config = prior.config
    if config.channels:
        raise VidgenError(f"{name}: a prior over latents has no law of indices; name one over a discrete tokenizer's")
    if config.order != "causal" or config.attention != "full":
        raise VidgenError(
            f"{name}: a prior of order {config.order} with {config.attention} attention codes no tokens one after the "
            "other; name one of order causal with full attention"
        )
    if config.classes or config.actions or config.words:
        raise VidgenError(
            f"{name}: a prior that is told classes or actions, or has words among its tokens, codes no clip; name one "
            "without them"
        )
    if prior.embed.weight.dtype not in DTYPES:
        raise VidgenError(f"{name}: a prior codes in float32 or float64, not in {prior.embed.weight.dtype}")
    load_constriction()


def load_constriction() -> Any:
    """Return the module. Raises VidgenError where it is not installed."""
    try:
        import constriction
    except ImportError:
        raise VidgenError(
            "tokens are coded by constriction, which is not installed; add it with `pip install constriction` (the "
            "extra vidgen[coding])"
        ) from None
    return constriction


def describe_arithmetic(prior: TokenPrior) -> dict[str, str]:
    """Return what the probabilities depend on beside the weights and the order of passes."""
    weight = prior.embed.weight
    is_gpu = weight.device.type == "cuda"
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "torch": torch.__version__,
        "constriction": version("constriction"),
        "processor": torch.cuda.get_device_name(weight.device) if is_gpu else cpu,
        "dtype": str(weight.dtype).removeprefix("torch."),
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block on one thread: sums are cut differently among several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def code_token(code: CodeDigit, logits: Float[Tensor, " k"], token: int | None = None) -> int:
    """Code a token of k values by its digits, and return it; None is one that a stream holds."""
    levels = [logits.double()]
    while len(levels[-1]) > BRANCHES:  # the logits of all values with the same digits so far
        values = levels[-1]
        padded = torch.nn.functional.pad(values, (0, -len(values) % BRANCHES), value=float("-inf"))
        levels.append(padded.reshape(-1, BRANCHES).logsumexp(dim=1))
    value = 0
    for depth in reversed(range(len(levels))):
        block = levels[depth][value * BRANCHES : (value + 1) * BRANCHES]
        digit = None if token is None else token // BRANCHES**depth % BRANCHES
        value = value * BRANCHES + (code(block.softmax(dim=0).numpy(), digit) if len(block) > 1 else 0)
    return value


class PriorLaw:
    """The logits of one token after the other of a clip, of which those so far are told.

    Args:
        prior: Of order "causal", see `check_coding`.
        size: Cells (h, w) of a frame.
        piece: Latent frames after which the prior starts anew, as at the beginning of a clip; 0 for never, of a prior
            with a window of frames.
        text: What the prior reads, of one text; None of a prior without.
    """

    def __init__(
        self, prior: TokenPrior, size: tuple[int, int], *, piece: int = 0, text: TextEncoding | None = None
    ) -> None:
        self.prior, self.size, self.text = prior, size, text
        self.frame_tokens = size[0] * size[1] * prior.config.codes
        self.span = piece * self.frame_tokens  # tokens of a piece
        self.count = 0  # tokens so far
        self.cached: CachedPrior | None = None
        self.last = 0

    def next_logits(self) -> Float[Tensor, " k"]:
        """Return the logits of the next token, of the values that its codebook has."""
        if self.cached is None or (self.span and self.count % self.span == 0):
            self.cached = CachedPrior(self.prior, self.size, 1, self.text)
            logits = self.cached.start()[0]
        else:
            token = torch.tensor([[self.last]], device=self.prior.embed.weight.device)
            logits = self.cached.extend(token)[0, 0]
        sizes = self.prior.config.codebook_sizes
        return logits[: sizes[self.count % len(sizes)]].cpu()

    def tell(self, token: int) -> None:
        """Take the next token as known."""
        self.last = token
        self.count += 1


class TokenEncoder:
    """Takes the tokens of one clip in order, some at a time, and gives the stream of all of them; see `PriorLaw`."""

    def __init__(self, law: PriorLaw) -> None:
        self.law = law
        self._coder = load_constriction().stream.queue.RangeEncoder()

    @torch.inference_mode()
    def add(self, tokens: Int[Tensor, " n"]) -> None:
        """Code the next tokens."""
        with one_thread():
            for token in tokens.tolist():
                code_token(self._code, self.law.next_logits(), token)
                self.law.tell(token)

    def finish(self) -> bytes:
        """Return the stream: 32-bit words, little-endian."""
        return self._coder.get_compressed().astype("<u4").tobytes()

    def _code(self, probabilities: Float[np.ndarray, " k"], digit: int | None) -> int:
        self._coder.encode(digit, categorical(probabilities))
        return digit


class TokenDecoder:
    """Gives the tokens of a stream in order, some at a time; see `PriorLaw`. Of a stream that is not of this law what
    comes is no less tokens: it takes a checksum to tell."""

    def __init__(self, law: PriorLaw, data: bytes) -> None:
        self.law = law
        self._coder = load_constriction().stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    @torch.inference_mode()
    def read(self, count: int) -> Int[Tensor, " n"]:
        """Return the next `count` tokens."""
        tokens = []
        with one_thread():
            for _ in range(count):
                tokens.append(code_token(self._code, self.law.next_logits()))
                self.law.tell(tokens[-1])
        return torch.tensor(tokens, dtype=torch.int64)

    def _code(self, probabilities: Float[np.ndarray, " k"], digit: int | None) -> int:
        return int(self._coder.decode(categorical(probabilities)))


def categorical(probabilities: Float[np.ndarray, " k"]) -> object:
    """Return the law in the coder's own integers. Raises VidgenError for a prior whose logits are not finite."""
    try:
        return load_constriction().stream.model.Categorical(probabilities, perfect=False)
    except ValueError:
        raise VidgenError("the prior's logits are not finite numbers: it codes nothing; train it again") from None
