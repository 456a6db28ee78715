"""Features at a layer: ours, one bare pass of the model, and a loop that keeps the output of every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.diffusion.noise import draw_like, sample_generator
from vidgen.diffusion.paths import network_input
from vidgen.errors import VidgenError
from vidgen.interfaces import Pipeline, Tokenizer
from vidgen.models.feature_layers import FeatureInfo
from vidgen.profiling.flops import count_gflops
from vidgen.profiling.peak_memory import measure_peak, print_peak
from vidgen.profiling.roofline import synchronizer
from vidgen.representations.extractor import FeatureExtractor, list_layers
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.diffusers_autoencoders import ClipSize
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.timing import alternate
from vidgen.scripts.extract import open_model
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer

LEVEL = 0.1  # of noise
Form = Literal["ours", "bare", "hooks"]
TITLES = {"bare": "one bare pass", "hooks": "every layer kept"}


@dataclass(frozen=True, kw_only=True)
class LayerWork:
    """A batch of clips to features at one layer, pooled.

    form: "ours"; "bare": the pass alone, without features; "hooks": the whole pass with a hook on every layer, whose
    outputs are all kept until the layer is picked.
    """

    model: str
    layer: str
    form: Form = "ours"
    batch: int
    clip: ClipSize
    device: str
    dtype: str

    @property
    def denoises(self) -> bool:
        """Whether the layer is of the denoiser."""
        return self.layer.startswith("dit.")


def open_for(work: LayerWork) -> Pipeline | Tokenizer:
    """Return the model of the work."""
    return open_model(work.model, work.device, work.dtype)


def prepare(work: LayerWork, model: Pipeline | Tokenizer) -> Callable[[], Tensor]:
    """Return the work as a function that can be run any number of times, its clips in memory."""
    generator = sample_generator(0, "clips")
    shape = (work.batch, 3, work.clip.frames, work.clip.height, work.clip.width)
    video = (torch.rand(shape, generator=generator) * 2 - 1).to(work.device)
    if work.form == "ours":
        fx = FeatureExtractor(model, [work.layer], [LEVEL])
        ids = names_of(work)
        return lambda: next(iter(fx(video, ids).features.values()))
    run = pass_of(work, model, video)
    return torch.no_grad()(
        partial(run_with_hooks, run, layers_of(work, model), work.layer) if work.form == "hooks" else run
    )


def names_of(work: LayerWork) -> list[str]:
    """Return the ids of the clips, which their noise depends on."""
    return [str(i) for i in range(work.batch)]


def tokenizer_of(model: Pipeline | Tokenizer) -> Tokenizer:
    """Return a pipeline's tokenizer, or the tokenizer that the model is."""
    return model.vae if isinstance(model, Pipeline) else model


def pass_of(work: LayerWork, model: Pipeline | Tokenizer, video: Float[Tensor, "b 3 T H W"]) -> Callable[[], Tensor]:
    """Return one pass through the tokenizer's encoder, and through the denoiser where the layer is in it."""
    tokenizer = tokenizer_of(model)
    if not work.denoises:
        return lambda: tokenizer.encode(video).latents
    t = torch.full((work.batch,), LEVEL, device=video.device)
    text = model.text_encoder([""] * work.batch)
    x0 = tokenizer.encode(video).latents.float()
    eps = draw_like(x0, [sample_generator(0, name) for name in names_of(work)])  # the extractor's own
    return lambda: model.transformer(
        network_input(tokenizer.encode(video).latents.float(), eps, t, model.path), t, text
    )


def layers_of(work: LayerWork, model: Pipeline | Tokenizer) -> dict[str, nn.Module]:
    """Return the module of every layer by the layer's name."""
    tokenizer = tokenizer_of(model)
    if isinstance(tokenizer, DiffusionTokenizer):
        tokenizer = tokenizer.tokenizer
    modules = {f"tokenizer.encoder.layers.{i}": layer for i, layer in enumerate(tokenizer.encoder.layers)}
    if work.denoises:
        modules |= {f"dit.blocks.{i}": block for i, block in enumerate(model.transformer.blocks)}
    return modules


def run_with_hooks(run: Callable[[], Tensor], layers: dict[str, nn.Module], layer: str) -> Tensor:
    """Return features the plain way: all outputs are kept, and then one of them is averaged."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: outputs.__setitem__(name, output)

    hooks = [module.register_forward_hook(keep(name)) for name, module in layers.items()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    out = outputs[layer].float()
    return out.flatten(1, -2).mean(1) if layer.startswith("dit.") else reduce(out, "b c t h w -> b c", "mean")


def prepare_alone(**values: Any) -> Callable[[], Tensor]:
    """Return the work with a model of its own: for a process that measures memory."""
    work = LayerWork(**{**values, "clip": ClipSize(**values["clip"])})
    return prepare(work, open_for(work))


def choose_work(settings: BenchSettings, infos: list[FeatureInfo]) -> list[tuple[LayerWork, Form]]:
    """Return ours and what it is compared with: the last layer of either part with a bare pass, the middle one with
    keeping every layer."""
    parts = {
        part: [info.name for info in infos if info.name.startswith(prefix)]
        for part, prefix in (("tokenizer", "tokenizer.encoder.layers."), ("denoiser", "dit.blocks."))
    }
    if not parts["tokenizer"]:
        raise VidgenError(f"{settings.model} has no layers to read; give a pipeline or a tokenizer of ours")
    size = ClipSize(frames=5, height=32, width=32) if settings.quick else ClipSize(frames=17, height=64, width=64)
    start = {"model": settings.model, "device": settings.device, "dtype": settings.dtype, "clip": size}
    start["batch"] = 2 if settings.quick else 8
    pairs = [("tokenizer.latents", "bare")]
    pairs += [(parts["denoiser"][-1], "bare")] if parts["denoiser"] else []
    pairs += [(layers[len(layers) // 2], "hooks") for layers in parts.values() if layers]
    return [(LayerWork(layer=layer, **start), form) for layer, form in pairs]


def measure_layers(settings: BenchSettings, machine: Machine) -> Iterator[Row]:
    """Yield a row for each layer and what it is compared with."""
    model = open_model(settings.model, settings.device, settings.dtype)
    for work, form in choose_work(settings, list_layers(model)):
        yield measure_pair(work, replace(work, form=form), model, settings, machine)


def measure_pair(
    ours: LayerWork, other: LayerWork, model: Pipeline | Tokenizer, settings: BenchSettings, machine: Machine
) -> Row:
    """Return a row of both, timed in turns; overhead is what ours takes more than a bare pass, of that pass."""
    with_hooks = other.form == "hooks"
    if with_hooks and settings.peers is not None and "hooks" not in settings.peers:
        runs = {"ours": prepare(ours, model)}
    else:
        runs = {"ours": prepare(ours, model), "other": prepare(other, model)}
    outs = {name: run() for name, run in runs.items()}
    gflops = count_gflops(runs["ours"])
    times = alternate(runs, rounds=settings.rounds, settle=synchronizer(ours.device))
    found: dict[str, Any] = {"clips_per_s": ours.batch / times["ours"].median, "clips": ours.batch}
    said = f"{found['clips_per_s']:.1f} clips/s"
    if "other" in times:
        found["peer"] = times["other"]
        if with_hooks:
            found["max_abs_diff"] = (outs["ours"].float() - outs["other"].float()).abs().max().item()
        else:
            found["overhead"] = times["ours"].median / times["other"].median - 1.0
            said += f", {found['overhead']:+.1%} of a bare pass"
    if settings.memory:
        peak = measure_peak(prepare_alone, **asdict(ours))
        found |= {"peak_mb": peak.peak_mb, "work_mb": peak.work_mb}
        if "other" in times:
            found["peer_peak_mb"] = measure_peak(prepare_alone, **asdict(other)).peak_mb
    name = f"{ours.layer} {ours.batch} x {ours.clip}" + (f", {TITLES[other.form]}" if "other" in times else "")
    return make_row(
        name, times["ours"], gflops=gflops, peak_gflops=machine.matmul_gflops[ours.dtype], said=said, **found
    )


if __name__ == "__main__":
    print_peak(prepare_alone)
