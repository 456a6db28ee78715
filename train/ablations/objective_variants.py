"""Variants of the ablation of objectives: one encoder, the same clips in the same order; and what each one costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vidgen.data.frames import latent_frames
from vidgen.pipelines.loading import load_tokenizer
from vidgen.samplers.solvers import SAMPLERS
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.ablations.measurement import training_cost
from vidgen.train.config import LoopConfig, SourceConfig
from vidgen.train.config.files import load_recipe
from vidgen.train.tasks.tokenizer import build_tokenizer

Tokenizer = VideoTokenizer | DiffusionTokenizer


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all variants share. `clips` to train on, every `hold_out`-th file kept for decoding; `out` holds the runs.

    `labelled`, a manifest or folder with labels, is probed at `fps` (None: the clips' own); of the synthetic world
    `shapes` clips are learned from, a third as many choose, and two thirds as many are reported on. Decoding is
    measured on `windows` windows of each held-out file. `width`, `depth` and `head_dim` are the denoiser's.
    """

    clips: Path
    out: Path
    labelled: Path | None = None
    fps: float | None = 12.5
    steps: int = 600
    batch_size: int = 8
    lr: float = 6e-4
    bottleneck: float = 1e-4
    seed: int = 0
    preset: str = "kl_causal_4x8x8_16ch"
    width: int = 192
    depth: int = 6
    head_dim: int = 48
    num_frames: int = 17
    size: int = 64
    hold_out: int = 4
    windows: int = 4
    shapes: int = 300
    autocast: str = "bfloat16"
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class ObjectiveVariant:
    """One objective: the recipe that trains it, and at how many steps its decoder is measured (1: in one go)."""

    recipe: str
    about: str
    decode_steps: tuple[int, ...] = (1,)


# Regression has the networks of denoising and the objective of reconstruction: it tells the two apart.
OBJECTIVE_VARIANTS: dict[str, ObjectiveVariant] = {
    "reconstruction": ObjectiveVariant(
        recipe="tokenizer_natural", about="convolutional decoder, squared error of pixels"
    ),
    "regression": ObjectiveVariant(
        recipe="diffusion_tokenizer", about="the denoiser's network at pure noise alone, squared error of pixels"
    ),
    "denoising": ObjectiveVariant(
        recipe="diffusion_tokenizer", about="denoiser at all noise levels, squared error", decode_steps=(1, 2, 4, 8, 16)
    ),
}


def make_recipe(name: str, plan: Plan) -> LoopConfig:
    """Return the recipe of a variant: what is not the objective is the same for all of them."""
    settings = [
        f"preset={plan.preset}",
        f"steps={plan.steps}",
        f"batch_size={plan.batch_size}",
        f"seed={plan.seed}",
        f"autocast={plan.autocast}",
        f"device={plan.device}",
        f"optimizer={{lr: {plan.lr}, warmup: {max(1, plan.steps // 20)}, ema_decay: 0.99, weight_decay: 0.01}}",
        f"validate_every={plan.steps}",
        f"checkpoint_every={max(1, plan.steps // 4)}",
        f"log_every={max(1, min(10, plan.steps // 10))}",
        "keep_checkpoints=1",
        f"data.num_frames={plan.num_frames}",
        f"data.size=[{plan.size},{plan.size}]",
        "data.validation_clips=16",
    ]
    if name == "reconstruction":
        settings.append(f"loss={{l1: 0.0, l2: 1.0, gradient: 0.0, bottleneck: {plan.bottleneck}}}")
    else:
        shape = {"width": plan.width, "depth": plan.depth, "head_dim": plan.head_dim, "hold_first": 0.0}
        settings += [f"model.{key}={value}" for key, value in shape.items()]
        settings += [f"objective={name}", f"bottleneck={plan.bottleneck}"]
    recipe = load_recipe(OBJECTIVE_VARIANTS[name].recipe, settings)
    # Not as text: a path may hold what means something in YAML.
    recipe.out = str(plan.out / name)
    recipe.data.sources = [
        SourceConfig(kind="clips", path=str(plan.clips), short_side=2 * plan.size, hold_out=plan.hold_out, fps=0)
    ]
    return recipe


def load_variant(name: str, folder: Path, device: str) -> Tokenizer:
    """Return a trained variant in float32, whatever its weights were stored in."""
    if name == "reconstruction":
        return load_tokenizer(str(folder), device=device, dtype=torch.float32)
    return DiffusionTokenizer.from_pretrained(folder, device=device, dtype=torch.float32)


def encoder_of(model: Tokenizer) -> VideoTokenizer:
    """Return the part of a model that encodes."""
    return model.tokenizer if isinstance(model, DiffusionTokenizer) else model


def measure_cost(name: str, model: Tokenizer, plan: Plan) -> dict[str, Any]:
    """Return parameters of encoder and decoder, GFLOP of one clip, and the seconds that the run's steps took.

    A multiply-add is two FLOPs. Training on a clip is taken as three times encoding and decoding it.
    """
    video = torch.zeros(1, 3, plan.num_frames, plan.size, plan.size, device=plan.device)
    tokenizer = encoder_of(model)
    encoder = sum(p.numel() for part in (tokenizer.encoder, tokenizer.bottleneck) for p in part.parameters())
    encoded = model.encode(video)
    if isinstance(model, DiffusionTokenizer):
        model.denoiser.set_attention("plain")  # of which every product is counted
        frames = latent_frames(plan.num_frames, model.config.patch_t)
        x = model.patches(video)[:, :, :frames]
        decode = count_gflops(lambda: model.predict(x, torch.ones(1, device=plan.device), encoded.latents))
        model.denoiser.set_attention("auto")
    else:
        decode = count_gflops(lambda: model.decode(encoded))
    encode = count_gflops(lambda: model.encode(video))
    return {
        "variant": name,
        "arm": name,  # what the key was called
        "about": OBJECTIVE_VARIANTS[name].about,
        "encoder_parameters": encoder,
        "decoder_parameters": sum(p.numel() for p in model.parameters()) - encoder,
        "encode_gflop": round(encode, 3),
        "decode_gflop_a_step": round(decode, 3),
        "train_gflop_a_clip": round(3 * (encode + decode), 3),
        "clips_seen": plan.steps * plan.batch_size,
        "seconds": training_cost(make_recipe(name, plan))["seconds"],
    }


def count_gflops(run: Callable[[], object]) -> float:
    """Return the GFLOP of convolutions and matrix products in a forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def random_variant(plan: Plan) -> Tokenizer:
    """Return the encoder as every variant has it before its first step."""
    recipe = make_recipe("reconstruction", plan)
    return build_tokenizer(recipe).to(plan.device).eval().requires_grad_(False)


def decode_clips(model: Tokenizer, video: Tensor, steps: int, seed: int) -> Tensor:
    """Return clips through a model and back, in [-1, 1]."""
    with torch.no_grad():
        encoded = model.encode(video)
        if isinstance(model, DiffusionTokenizer):
            decoded = model.decode(encoded, SAMPLERS["euler"], seed=seed, num_inference_steps=steps)
        else:
            decoded = model.decode(encoded)
    return decoded.float().clamp(-1.0, 1.0)
