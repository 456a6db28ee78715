"""Wan 2.1's autoencoder, ours against diffusers' on the same random weights: time in turns, memory, difference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vidgen.checkpoints.drafts import draft_diffusers
from vidgen.pipelines.loading import load_tokenizer
from vidgen.profiling.peak_memory import measure_peaks, print_peak
from vidgen.profiling.roofline import synchronizer
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.diffusers_autoencoders import (
    RATIO_T,
    ClipSize,
    decode_peer,
    encode_peer,
    save_random,
    tokenizer_gflops,
)
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.timing import alternate
from vidgen.scripts.benches.tokenizer_workload import LAYOUTS, in_layout
from vidgen.tokenizers.model import Encoded

TITLE = "AutoencoderKLWan"
Pass = Literal["encode", "decode", "both"]
# Neither half's latents are shifted or scaled: both then take and give the same numbers.
FULL = {"latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
QUICK = {"base_dim": 8, "z_dim": 4, "num_res_blocks": 1, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}


@dataclass(frozen=True, kw_only=True)
class WanWork:
    """A clip through the model in `folder`: ours, in chunks of a latent frame, or diffusers' class, in `layout`."""

    folder: str
    way: Pass
    clip: ClipSize
    device: str
    dtype: str
    peer: bool = False
    layout: str = "contiguous"

    @property
    def name(self) -> str:
        """The name of the row."""
        return f"wan {'encode + decode' if self.way == 'both' else self.way} {self.clip}"


def build(work: WanWork) -> nn.Module:
    """Return the model that does the work, from the same files."""
    dtype = getattr(torch, work.dtype)
    if not work.peer:
        return load_tokenizer(work.folder, device=work.device, dtype=dtype)
    import diffusers

    network = draft_diffusers(getattr(diffusers, TITLE), Path(work.folder)).fill(dtype=dtype, device=work.device)
    return in_layout(network, work.layout)


def prepare(work: WanWork, network: nn.Module) -> Callable[[], Tensor]:
    """Make ready the work, with its input made, to be run any number of times. It returns the output."""
    clip = work.clip
    placement = {"device": work.device, "dtype": getattr(torch, work.dtype)}
    layout = LAYOUTS[work.layout]
    torch.manual_seed(0)
    if work.peer:
        encode = partial(encode_peer, network)
        decode = partial(decode_peer, network)
    else:
        size = {"num_frames": clip.frames, "height": clip.height, "width": clip.width}

        def encode(video: Tensor) -> Tensor:
            return network.encode(video, chunk_frames=RATIO_T).latents

        def decode(latents: Tensor) -> Tensor:
            return network.decode(Encoded(latents=latents, **size), chunk_latents=1)

    if work.way == "decode":
        channels = network.config.z_dim if work.peer else network.config.latent_channels
        latents = torch.empty(1, channels, *clip.latents, **placement).normal_().contiguous(memory_format=layout)
        return torch.inference_mode()(lambda: decode(latents))
    video = torch.empty(1, 3, clip.frames, clip.height, clip.width, **placement).uniform_(-1.0, 1.0)
    video = video.contiguous(memory_format=layout)
    if work.way == "encode":
        return torch.inference_mode()(lambda: encode(video))
    return torch.inference_mode()(lambda: decode(encode(video)))


def prepare_alone(**values: Any) -> Callable[[], Tensor]:
    """Make ready the work with a model of its own, for a process that measures memory."""
    work = WanWork(**{**values, "clip": ClipSize(**values["clip"])})
    return prepare(work, build(work))


def list_work(start: WanWork, *, quick: bool) -> list[WanWork]:
    """Return clips of two sizes each way, a picture, and a long clip for its memory."""
    sides, frames, long = ((32,), 5, 9) if quick else ((128, 256), 17, 81)
    clips = [ClipSize(frames=frames, height=side, width=side) for side in sides]
    works = [replace(start, way=way, clip=clip) for clip in clips for way in ("encode", "decode")]
    works.append(replace(start, way="both", clip=replace(clips[-1], frames=1)))
    works.append(replace(start, way="decode", clip=replace(clips[-1], frames=long)))
    return works


def measure_autoencoder(settings: BenchSettings, machine: Machine, *, with_peer: bool) -> Iterator[Row]:
    """Yield a row for each work; the long clip, which is there for its memory, is timed in one round."""
    with tempfile.TemporaryDirectory() as scratch:
        save_random(TITLE, QUICK if settings.quick else FULL, Path(scratch) / "vae", settings.dtype)
        start = WanWork(
            folder=str(Path(scratch) / "vae"),
            way="encode",
            clip=ClipSize(frames=1, height=8, width=8),
            device=settings.device,
            dtype=settings.dtype,
        )
        forms = {"ours": {}}
        if with_peer:  # as it comes, and as it is quicker on some machines
            forms |= {name: {"peer": True, "layout": name} for name in LAYOUTS}
        networks = {name: build(replace(start, **form)) for name, form in forms.items()}
        works = list_work(start, quick=settings.quick)
        for work in works:
            rounds = 1 if work is works[-1] else settings.rounds
            yield measure_work(
                {n: replace(work, **form) for n, form in forms.items()}, networks, rounds, settings, machine
            )


def measure_work(
    works: dict[str, WanWork],
    networks: dict[str, nn.Module],
    rounds: int,
    settings: BenchSettings,
    machine: Machine,
) -> Row:
    """Return the row of one work in its forms: `ours` and, with a peer, the peer's in both layouts."""
    ours = works["ours"]
    runs = {name: prepare(work, networks[name]) for name, work in works.items()}
    outs: dict[str, Tensor] = {}

    def run(name: str) -> None:
        outs[name] = runs[name]()

    # A clip that is run once is so long that what a first run does once does not count.
    contestants = {name: partial(run, name) for name in runs}
    times = alternate(contestants, rounds=rounds, warmup=0 if rounds == 1 else 1, settle=synchronizer(ours.device))
    differences = [(outs["ours"].float() - out.float()).abs().max().item() for out in outs.values()]
    runs.clear()
    outs.clear()
    ways = ("encode", "decode") if ours.way == "both" else (ours.way,)
    columns: dict[str, Any] = {"frames": ours.clip.frames, "fps": ours.clip.frames / times["ours"].median}
    note = ""
    if "contiguous" in works:
        columns |= {
            "peer": times["contiguous"],
            "max_abs_diff": max(differences),
            "against": f"{TITLE}, the same weights",
            "peer_layout": "contiguous",
            "peer_autocast": False,
            "peer_channels_last_s": times["channels_last_3d"].median,
        }
    if settings.memory:
        peaks, note = measure_peaks(prepare_alone, peak_mb=ours, peer_peak_mb=works.get("contiguous"))
        columns |= peaks
    gflops = sum(tokenizer_gflops(networks["ours"], way, ours.clip) for way in ways)
    columns["conv_fraction"] = gflops / times["ours"].median / machine.conv_gflops[ours.dtype]
    peak = machine.matmul_gflops[ours.dtype]
    return make_row(ours.name, times["ours"], gflops=gflops, peak_gflops=peak, note=note, **columns)


if __name__ == "__main__":
    print_peak(prepare_alone)
