"""Wan's transformer, ours against diffusers' on the same random weights: times in turns, difference, memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidgen.checkpoints.drafts import draft_diffusers
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.wan.transformer import read_wan_transformer
from vidgen.profiling.flops import count_gflops
from vidgen.profiling.peak_memory import measure_peaks, print_peak
from vidgen.profiling.roofline import synchronizer
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.diffusers_autoencoders import save_random
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.sampling import as_pipeline
from vidgen.scripts.benches.timing import alternate, divide_timing

TITLE = "WanTransformer3DModel"
TEXT_TOKENS = 512
SCALE = 5.0  # of guidance
STEPS = 2
LEVEL = 0.5  # of noise, at which a bare pass is
PROMPTS = (512, 64)  # tokens that are words: as many as there can be, and those of a prompt of a few sentences
CHANNELS = 16
# Wan 2.1's 1.3B with 4 of its 30 blocks; and a narrow one.
FULL = {
    "num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 4, "text_dim": 4096,
}  # fmt: skip
QUICK = {
    "num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 128, "num_layers": 1, "text_dim": 16,
}  # fmt: skip
FULL_SIZE, QUICK_SIZE = (5, 32, 32), (2, 4, 4)  # of latents


@dataclass(frozen=True, kw_only=True)
class WanPass:
    """One pass over a clip of `size` latents, or with `steps`, so many steps with guidance. Of the text, `words` tokens
    are words and the rest zeros. The network is what `reader`, a name of READERS, makes of the folder; its blocks are
    `compiled` or not."""

    folder: str
    size: tuple[int, int, int]
    text_width: int
    device: str
    dtype: str
    reader: str = "vidgen"
    steps: int = 0
    words: int = TEXT_TOKENS
    compiled: bool = False

    @property
    def name(self) -> str:
        """The name of the row."""
        kind = "step" if self.steps else "pass"
        size = "x".join(map(str, self.size))
        return f"wan {kind} {size} latents, {self.words} words{', compiled' * self.compiled}"


def read_peer(folder: str, *, dtype: torch.dtype, device: str) -> nn.Module:
    """Return diffusers' class, with the layers in float32 that it keeps there."""
    import diffusers

    return draft_diffusers(getattr(diffusers, TITLE), Path(folder)).fill(dtype=dtype, device=device)


# What reads a folder of diffusers' class into a network that a pipeline takes as its transformer, and the peer's own.
READERS: dict[str, Callable[..., nn.Module]] = {"vidgen": read_wan_transformer, "diffusers": read_peer}


def build(work: WanPass) -> nn.Module:
    """Return the network that does the work, from the same files."""
    network = READERS[work.reader](work.folder, dtype=getattr(torch, work.dtype), device=work.device)
    if work.compiled:
        for block in network.blocks:
            block.compile()
    return network


def draw(work: WanPass) -> tuple[Tensor, TextEncoding, TextEncoding]:
    """Return noise in the place of latents, and two texts of as many tokens as Wan's have, those after `words` zero."""
    torch.manual_seed(0)
    x = torch.randn(1, CHANNELS, *work.size, device=work.device)
    tokens = torch.randn(2, TEXT_TOKENS, work.text_width, device=work.device).to(getattr(torch, work.dtype))
    mask = (torch.arange(TEXT_TOKENS, device=work.device) < work.words)[None]
    tokens = tokens * mask[..., None]
    return x, *(TextEncoding(tokens=row[None], mask=mask) for row in tokens)


def prepare(work: WanPass, network: nn.Module) -> Callable[[], Tensor]:
    """Make ready the work, with its input made, to be run any number of times. It returns the output."""
    x, text, other = draw(work)
    level = torch.full((1,), LEVEL, device=work.device)
    if work.reader == "diffusers":
        run = partial(sample_peer, network, x, text.tokens, other.tokens, work.steps)
        return torch.inference_mode()(run if work.steps else partial(pass_of_peer, network, x, level, text.tokens))
    if not work.steps:
        text = network.prepare_text(text)  # as in a run, where it is done once
        return torch.inference_mode()(lambda: network(x, level, text=text))
    pipe = as_pipeline(network, text, other, work.size)
    settings = {"num_inference_steps": work.steps, "guidance_scale": SCALE, "output_type": "latent"}
    return lambda: pipe("a prompt", latents=x, **settings).latents


def pass_of_peer(network: nn.Module, x: Tensor, level: Tensor, tokens: Tensor) -> Tensor:
    """Run one pass as diffusers' pipeline does: latents in the precision of its weights, timesteps of a thousand."""
    return network(x.to(tokens.dtype), 1000.0 * level, tokens, return_dict=False)[0]


def sample_peer(network: nn.Module, x: Tensor, tokens: Tensor, other: Tensor, steps: int) -> Tensor:
    """Run the loop of diffusers' pipeline: a pass with each text, guidance, a scheduler's step."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1.0 - k / steps for k in range(steps)], device=x.device)
    for timestep in scheduler.timesteps:
        level = timestep.expand(len(x)) / 1000.0
        cond, uncond = (pass_of_peer(network, x, level, text) for text in (tokens, other))
        x = scheduler.step(uncond + SCALE * (cond - uncond), timestep, x, return_dict=False)[0]
    return x


def prepare_alone(**values: Any) -> Callable[[], Tensor]:
    """Make ready the work with a network of its own, for a process that measures memory."""
    work = WanPass(**{**values, "size": tuple(values["size"])})
    return prepare(work, build(work))


def measure_denoiser(settings: BenchSettings, machine: Machine, *, with_peer: bool, compiled: bool) -> Iterator[Row]:
    """Yield a pass and a step with guidance, both as they come and, where `compiled`, with compiled blocks."""
    with tempfile.TemporaryDirectory() as scratch:
        save_random(TITLE, QUICK if settings.quick else FULL, Path(scratch) / "transformer", settings.dtype)
        start = WanPass(
            folder=str(Path(scratch) / "transformer"),
            size=QUICK_SIZE if settings.quick else FULL_SIZE,
            text_width=(QUICK if settings.quick else FULL)["text_dim"],
            device=settings.device,
            dtype=settings.dtype,
        )
        for form in (False, True) if compiled else (False,):
            ours = replace(start, compiled=form)
            sides = {"ours": ours, **({"peer": replace(ours, reader="diffusers")} if with_peer else {})}
            networks = {name: build(work) for name, work in sides.items()}
            plain = networks["ours"] if not form else build(start)
            for words in PROMPTS:
                gflops = count_gflops(prepare(replace(start, words=words), plain))
                for steps in (0, STEPS):
                    works = {name: replace(work, steps=steps, words=words) for name, work in sides.items()}
                    yield measure_work(works, networks, gflops, settings, machine)


def measure_work(
    works: dict[str, WanPass],
    networks: dict[str, nn.Module],
    gflops: float,
    settings: BenchSettings,
    machine: Machine,
) -> Row:
    """Return the row of one work, of `ours` and, where there is one, of the `peer`; gflops: of one pass."""
    ours = works["ours"]
    runs = {name: prepare(work, networks[name]) for name, work in works.items()}
    outs = {name: run() for name, run in runs.items()}
    times = alternate(runs, rounds=settings.rounds, warmup=0, settle=synchronizer(ours.device))
    times = {name: divide_timing(timing, ours.steps or 1) for name, timing in times.items()}
    t, h, w = ours.size
    tokens = t * (h // 2) * (w // 2)
    columns: dict[str, Any] = {"tokens": tokens, "tokens_per_s": tokens / times["ours"].median}
    note = ""
    if "peer" in works:
        columns |= {
            "peer": times["peer"],
            "max_abs_diff": (outs["ours"].float() - outs["peer"].float()).abs().max().item(),
            "std": outs["peer"].float().std().item(),
            "against": f"{TITLE}, the same weights",
            "peer_layout": "compiled" if ours.compiled else "as it comes",
            "peer_autocast": False,
        }
    if settings.memory:
        peaks, note = measure_peaks(prepare_alone, peak_mb=ours, peer_peak_mb=works.get("peer"))
        columns |= peaks
    peak = machine.matmul_gflops[ours.dtype]
    passes = 2 if ours.steps else 1
    return make_row(ours.name, times["ours"], gflops=passes * gflops, peak_gflops=peak, note=note, **columns)


if __name__ == "__main__":
    print_peak(prepare_alone)
