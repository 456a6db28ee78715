"""`vidgen bench prior`: tokens from a cache against whole passes and against transformers; long clips; decoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.pipelines.loading import load_generator
from vidgen.pipelines.priors.decoding import list_decoders
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.profiling.peak_memory import compare_lengths, print_peak
from vidgen.profiling.roofline import synchronizer
from vidgen.samplers.autoregressive.categorical import PLAIN
from vidgen.samplers.autoregressive.decode import sample_autoregressive
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.timing import alternate

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CASES = ("cached", "generate", "length", "decoders")
PEERS = ("uncached", "transformers")
SHAPE = TokenPriorConfig(codebook_sizes=(1024,), width=192, depth=8, head_dim=48)
SIDE = 8  # cells of a frame, in height and in width
FRAME = SIDE * SIDE
CONTEXTS = (320, 640, 1280)  # tokens that are done
PROMPT = 64  # tokens that a clip goes on from
LONG, QUICK_LONG = 250, 12  # latent frames, of 1,000 frames and of 48
BASE = 10  # what part of the whole length the memory is held against
WINDOW = 5  # latent frames


def measure(settings: BenchSettings, machine: Machine) -> Iterator[Row]:
    """Yield the rows of the chosen cases, as they are done. Of the shape of `SHAPE` and random weights, but for the
    decoders, which are those of the prior `settings.model` where it is one."""
    cases = CASES if settings.only is None else settings.only
    peers = PEERS if settings.peers is None else settings.peers
    prior = open_prior(settings.device, settings.dtype)
    peak = machine.matmul_gflops[settings.dtype]
    contexts = CONTEXTS[:1] if settings.quick else CONTEXTS
    if "cached" in cases:
        for tokens in contexts:
            yield measure_step(prior, tokens, settings, peak, with_peer="uncached" in peers)
    if "generate" in cases:
        yield measure_generation(prior, contexts[-1], settings, peak, with_peer="transformers" in peers)
    if "length" in cases:
        yield measure_length(settings)
    if "decoders" in cases:
        yield from measure_decoders(settings)


def open_prior(device: str, dtype: str, window: int = 0) -> TokenPrior:
    """Return a prior of random weights that reads no text."""
    torch.manual_seed(0)
    prior = TokenPrior(replace(SHAPE, window=window)).eval().requires_grad_(False)
    return prior.to(device, getattr(torch, dtype))


@torch.inference_mode()
def measure_step(prior: TokenPrior, count: int, settings: BenchSettings, peak: float, *, with_peer: bool) -> Row:
    """Return the time of the token after `count` others, from the cache and, as the peer, by a pass over all."""
    vocabulary = prior.config.vocabulary
    tokens = torch.randint(vocabulary, (1, count), device=settings.device, generator=generator(settings.device))
    cached = CachedPrior(prior, (SIDE, SIDE), 1)
    cached.extend(tokens[:, :-1])

    def from_cache() -> Tensor:
        logits = cached.extend(tokens[:, -1:])[:, -1]
        cached.rewind(count - 1)
        return logits

    def whole() -> Tensor:
        padded = torch.cat([tokens, tokens.new_zeros(1, FRAME)], dim=1)  # the last frame is a whole one
        return prior(padded, (count // FRAME + 1, SIDE, SIDE))[:, count]

    runs: dict[str, Callable[[], Tensor]] = {"cached": from_cache} | ({"uncached": whole} if with_peer else {})
    times = alternate(runs, rounds=settings.rounds, settle=synchronizer(settings.device))
    columns: dict[str, Any] = {"context_tokens": count, "tokens": 1}
    if with_peer:
        columns["max_abs_diff"] = (from_cache() - whole()).abs().max().item()
        columns |= {"against": "uncached", "peer_layout": "all tokens in each pass", "peer_autocast": False}
    timings = {"gflops": None, "peak_gflops": peak, "peer": times.get("uncached")}
    return make_row(f"token after {count} tokens", times["cached"], **timings, **columns)


@torch.inference_mode()
def measure_generation(prior: TokenPrior, count: int, settings: BenchSettings, peak: float, *, with_peer: bool) -> Row:
    """Return the time of a clip of `count` tokens after a prompt of some, and that of transformers' `generate`."""
    device = settings.device
    prompt = torch.randint(prior.config.vocabulary, (1, PROMPT), device=device, generator=generator(device))

    def ours() -> Tensor:
        model = CachedPrior(prior, (SIDE, SIDE), 1)
        return sample_autoregressive(model, count, PLAIN, [sample_generator(0, 0)], prefix=prompt)

    runs: dict[str, Callable[[], Tensor]] = {"ours": ours}
    columns: dict[str, Any] = {"tokens": count - PROMPT}
    if with_peer:
        peer = open_llama(prior.config, count).to(device, getattr(torch, settings.dtype))
        lengths = {"max_new_tokens": count - PROMPT, "min_new_tokens": count - PROMPT}
        rules = {"do_sample": True, "top_k": 0, "temperature": 1.0, "use_cache": True, "pad_token_id": 0}
        runs["transformers"] = lambda: peer.generate(prompt, attention_mask=torch.ones_like(prompt), **lengths, **rules)
        columns |= {"parameters": prior.num_parameters(), "peer_parameters": peer.num_parameters()}
        columns |= {"against": "transformers", "peer_layout": "Llama of the same size", "peer_autocast": False}
    times = alternate(runs, rounds=settings.rounds, settle=synchronizer(device))
    timings = {"gflops": None, "peak_gflops": peak, "peer": times.get("transformers")}
    return make_row(f"clip of {count} tokens after {PROMPT}", times["ours"], **timings, **columns)


def open_llama(config: TokenPriorConfig, count: int) -> LlamaForCausalLM:
    """Return a Llama as wide and deep, whose gated MLP has as many weights, with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=round(2 * config.mlp_ratio * config.width / 3),
        num_hidden_layers=config.depth,
        num_attention_heads=config.width // config.head_dim,
        max_position_embeddings=count,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(shape).eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class LongClip:
    """A clip of so many latent frames by a window that rolls on."""

    device: str
    dtype: str
    frames: int


def prepare_long(**values: Any) -> Callable[[], object]:
    """Make ready a long clip with a prior of its own."""
    work = LongClip(**values)
    prior = open_prior(work.device, work.dtype, window=WINDOW)
    generators = [sample_generator(0, 0)]

    @torch.inference_mode()
    def run() -> Tensor:
        model = CachedPrior(prior, (SIDE, SIDE), 1)
        return sample_autoregressive(model, work.frames * FRAME, PLAIN, generators)

    return run


def measure_length(settings: BenchSettings) -> Row:
    """Return the time of a long clip, and its memory against that of a tenth of it."""
    frames = QUICK_LONG if settings.quick else LONG
    work = LongClip(device=settings.device, dtype=settings.dtype, frames=frames)
    times = alternate({"long": prepare_long(**vars(work))}, rounds=1, warmup=0)
    columns: dict[str, Any] = {"tokens": frames * FRAME}
    if settings.memory:
        base = replace(work, frames=max(WINDOW + 1, frames // BASE))
        columns |= compare_lengths(prepare_long, base, work)
    return make_row(f"clip of {frames} latent frames", times["long"], gflops=None, peak_gflops=None, **columns)


def measure_decoders(settings: BenchSettings) -> Iterator[Row]:
    """Yield the time of a clip by each decoder of the prior `settings.model`, and the passes that it takes; none where
    it is a denoiser, with VidgenError if decoders are asked for."""
    dtype = getattr(torch, settings.dtype)
    pipe = load_generator(settings.model, device=settings.device, dtype=dtype)
    if not isinstance(pipe, PriorPipeline):
        if settings.only is not None:
            raise VidgenError(f"--only decoders is of a prior, and {settings.model} is none; name one by --model")
        return
    passes = CountedPasses()
    pipe.prior.blocks[0].register_forward_hook(passes)
    for name in list_decoders(pipe.prior.config):
        run = lambda name=name: pipe(decoder=name, guidance_scale=1.0, output_type="latent")  # noqa: E731
        passes.count = 0
        times = alternate({name: run}, rounds=settings.rounds, settle=synchronizer(settings.device))
        count = passes.count / (settings.rounds + 1)
        yield make_row(f"clip by {name}", times[name], gflops=None, peak_gflops=None, said=f"{count:.1f} passes")


class CountedPasses:
    """A hook of a layer that counts how often it ran."""

    count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1


def generator(device: str) -> torch.Generator:
    """Return the generator of tokens that are read."""
    return torch.Generator(device).manual_seed(0)


if __name__ == "__main__":
    print_peak(prepare_long)
