"""What a causal model needs to sample chunk by chunk: a cache of the frames that are done, for each text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.bounds import Count, NoOrCount, Range, check_fields
from vidgen.diffusion.noise import draw_like, sample_generator
from vidgen.diffusion.paths import ProbabilityPath, add_noise
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.models.causal_attention import Chunks, KVCache, iter_chunks, seen_frames
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText
from vidgen.pipelines.call_arguments import draw_noise
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.inpainting import sample_conditioned
from vidgen.samplers.solvers.stepping import Callback, Clip


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """What a causal model sees of frames that are done.

    `window`: latent frames seen at once, new ones included (None: those of a clip that it was trained on). `sinks`: of
    these the first ones of the clip, which stay. `context_noise`: the noise level that done frames are shown at; a
    little hides the small errors of frames that were themselves sampled (Chen et al. 2024, diffusion forcing).
    """

    window: Count | None = None
    sinks: NoOrCount = 1
    context_noise: Annotated[float, Range(0.0, 1.0, below=True)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def window_of(self, latent_frames: int, chunk: int) -> int:
        """Return the window of a model that was trained on so many latent frames and makes `chunk` of them at once.

        Raises VidgenError where a chunk has no room beside the sinks.
        """
        window = latent_frames if self.window is None else self.window
        if window < chunk + self.sinks:
            raise VidgenError(
                f"a window of {window} latent frames has no room for {self.sinks} sinks and a chunk of {chunk}; give "
                f"{chunk + self.sinks} or more"
            )
        return window


class CachedText(NamedTuple):
    """A text of `rows` clips, and the keys and values that done frames have under it."""

    text: PreparedText
    cache: KVCache
    rows: int


class CausalNetwork:
    """A causal network for the next chunk of clips, to which it adds the frames that are done, from a cache a text.

    It takes the place of the network in a denoiser. A text that is new, as after a switch of prompts, gets its cache by
    encoding again the frames that are still seen: nothing is left of the text before.
    """

    def __init__(
        self, network: nn.Module, path: ProbabilityPath, *, window: int, sinks: int = 0, context_noise: float = 0.0
    ) -> None:
        self.network, self.path = network, path
        self.window, self.sinks, self.context_noise = window, sinks, context_noise
        self.noise = sample_generator(0, "context")
        self.texts: list[CachedText] = []
        self.frames: Clip | None = None  # those that are still seen, as the network is shown them
        self.chunk_of: list[int] = []  # the number of each one's chunk
        self.chunks = 0

    @property
    def config(self) -> Any:
        """The network's config."""
        return self.network.config

    @property
    def blocks(self) -> nn.ModuleList:
        """The network's blocks."""
        return self.network.blocks

    def prepare_text(self, text: TextEncoding) -> CachedText:
        """Return the text with a cache of the frames that are done."""
        cached = CachedText(self.network.prepare_text(text), KVCache(self.window, self.sinks), len(text.mask))
        for _, numbers in groupby(range(len(self.chunk_of)), key=self.chunk_of.__getitem__):
            self.record(cached, self.frames[:, :, list(numbers)])
        self.texts.append(cached)
        return cached

    def __call__(self, x: Clip, t: Tensor, text: CachedText) -> Clip:
        """Return the prediction for a chunk."""
        return self.network(x, t, text.text, layout=text.cache.layout(x.shape[2]))

    def extend(self, latents: Clip) -> None:
        """Take a chunk as done."""
        level = torch.tensor(self.context_noise)
        if self.context_noise > 0:
            latents = add_noise(latents, draw_like(latents, self.noise), level, self.path)
        chunk = self.path.input_scale(level) * latents
        for text in self.texts:
            self.record(text, chunk)
        frames = chunk if self.frames is None else torch.cat([self.frames, chunk], dim=2)
        chunk_of = [*self.chunk_of, *[self.chunks] * chunk.shape[2]]
        seen = list(seen_frames(len(chunk_of), self.window, self.sinks))
        self.frames, self.chunk_of = frames[:, :, seen], [chunk_of[i] for i in seen]
        self.chunks += 1

    @torch.no_grad()
    def record(self, text: CachedText, chunk: Clip) -> None:
        """Add a chunk to a text's cache. Several texts in one pass are rows of the same clips."""
        rows = chunk.repeat(text.rows // len(chunk), 1, 1, 1, 1)
        level = torch.full((len(rows), chunk.shape[2]), self.context_noise, device=chunk.device)
        self.network(rows, level, text.text, layout=text.cache.layout(chunk.shape[2], extend=True))


@dataclass(frozen=True, kw_only=True)
class ChunkSampler:
    """Samples the chunks of b clips one after another.

    Args:
        network: What the denoisers are made of.
        solver: One of SAMPLERS.
        times: The noise levels of each chunk's run.
        shape: Of the clips' latents (c, t, h, w); t does not matter.
        generators: One a clip; each chunk takes its noise from there in turn.
        conditioning: What is known of the clips.
        callback: Called by the solver after each step of each chunk.
        latents: The first noise, if it is not to be drawn.
    """

    network: CausalNetwork
    solver: Callable[..., Clip]
    times: Float[Tensor, " n_plus_1"]
    shape: tuple[int, int, int, int]
    generators: Sequence[torch.Generator]
    conditioning: FrameConditioning | None = None
    callback: Callback | None = None
    latents: Clip | None = None

    @property
    def chunks(self) -> Chunks:
        """Latent frames of the first chunk, and of each after it."""
        return self.network.config.causal_chunks

    def iter_latents(self, denoise: Denoiser, total: int) -> Iterator[Clip]:
        """Yield all chunks of clips of `total` latent frames."""
        for start, stop in iter_chunks(self.chunks, total):
            yield self.sample(denoise, start, stop, goes_on=stop < total)

    def sample(self, denoise: Denoiser, start: int, stop: int, *, goes_on: bool = True) -> Clip:
        """Return latent frames `start` to `stop`, and take them as done where the clip `goes_on`."""
        c, _, h, w = self.shape
        first = None if self.latents is None else self.latents[:, :, start:stop]
        noise = draw_noise((len(self.generators), c, stop - start, h, w), self.generators, first)
        known = None if self.conditioning is None else self.conditioning.part(start, stop)
        streams = {"generator": self.generators, "callback": self.callback}
        noise = noise.to(self.times.device)
        chunk = sample_conditioned(self.solver, denoise, noise, self.times, self.network.path, known, **streams)
        if goes_on:
            self.network.extend(chunk)
        return chunk


def is_causal(network: Any) -> bool:
    """Return whether a network's frames see none of later chunks, so that it generates chunk by chunk."""
    return any(getattr(network.config, "causal_chunks", (0, 0)))


def make_chunk_sampler(pipe: Any, context: ContextConfig, **settings: Any) -> ChunkSampler:
    """Return the sampler of a causal pipeline's chunks; `settings` are the fields of `ChunkSampler`.

    Raises VidgenError for a context without room, and as `FrameConditioning.part`.
    """
    chunk = max(pipe.transformer.config.causal_chunks)
    window = context.window_of(pipe.latent_frames(pipe.scheduler.window_frames or pipe.scheduler.num_frames), chunk)
    past = {"window": window, "sinks": context.sinks, "context_noise": context.context_noise}
    return ChunkSampler(network=CausalNetwork(pipe.transformer, pipe.path, **past), **settings)
