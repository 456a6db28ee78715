"""From prompts and a choice of guidance to one denoiser: text encoded once a prompt, branches run as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.paths import ProbabilityPath
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser, TextEncoder
from vidgen.models.dit.label_embedding import TEXT_TO_VIDEO, task_labels
from vidgen.models.text.cache import TextCache
from vidgen.models.text.encoders import TextEncoding
from vidgen.samplers.finite import require_finite
from vidgen.samplers.guidance.batched_guidance import View, batched, fits_batched
from vidgen.samplers.guidance.perturbed_attention import perturbed_attention
from vidgen.samplers.guidance.registry import Guidance
from vidgen.samplers.step_cache import CachedNetwork, StepCacheConfig, take_rows

Network = Callable[..., Tensor]  # (x, t, text=...) -> prediction


def encode_prompts(encoder: TextEncoder, prompts: Sequence[str], text_cache: TextCache | None = None) -> TextEncoding:
    """Return a row a prompt. Those that are there several times are encoded once, those in `text_cache` not at all."""
    different = list(dict.fromkeys(prompts))
    text = encoder(different) if text_cache is None else text_cache.encode(encoder, different)
    require_finite(text.tokens[text.mask], "the text encoder gave", "run it in float32, or shorten the prompt")
    rows = [different.index(prompt) for prompt in prompts]
    return take_rows(text, torch.tensor(rows, device=text.tokens.device))


def join_rows(texts: Iterable[TextEncoding]) -> TextEncoding:
    """Return the rows of all, padded to the longest."""
    texts = list(texts)
    length = max(text.mask.shape[1] for text in texts)
    missing = [length - text.mask.shape[1] for text in texts]
    return TextEncoding(
        tokens=torch.cat([F.pad(text.tokens, (0, 0, 0, n)) for text, n in zip(texts, missing, strict=True)]),
        mask=torch.cat([F.pad(text.mask, (0, n)) for text, n in zip(texts, missing, strict=True)]),
    )


def make_lazily(make: Callable[[], Denoiser]) -> Denoiser:
    """Return the denoiser of `make`, made when it is first run: in one pass over all its text is not prepared twice."""
    cached = cache(make)
    return lambda x, t: cached()(x, t)


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One of the denoisers of a guided one: its text, what it is shown, a network if it is not the main one, and blocks
    whose attention is switched off."""

    text: TextEncoding
    view: View | None = None
    network: Network | None = None
    blocks: Sequence[int] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is the main network as it is, so that it can run in one pass with others."""
        return self.network is None and not self.blocks


@dataclass(frozen=True, kw_only=True)
class GuidedDenoiser:
    """What a call's denoiser is made of.

    Args:
        network: The main network, (x, t, text=...) -> prediction.
        path: That of training and sampling.
        prediction_type: What the network predicts, of PREDICTION_TYPES.
        text: The prompts, a row a clip.
        negative: Makes the rows of the negative prompt, when a guidance needs them.
        hide: Shows known frames as noise; None where there are none.
        step_cache: Skips passes, of each branch by itself; None runs every pass.
        task: What networks that know tasks are told, by name.
    """

    network: Network
    path: ProbabilityPath
    prediction_type: str
    text: TextEncoding
    negative: Callable[[], TextEncoding]
    hide: View | None = None
    step_cache: StepCacheConfig | None = None
    task: str = TEXT_TO_VIDEO

    def branch(self, name: str, guidance: Guidance) -> Branch:
        """Return the branch that `Method.others` calls so; "cond" sees everything."""
        if name == "uncond" or name == "blind":
            return Branch(text=self.negative(), view=self.hide if name == "blind" else None)
        if name == "weak":
            weaker = guidance.options["weaker"]
            self.check_weaker(weaker)
            return Branch(text=self.text, network=weaker)
        if name == "perturbed":
            return Branch(text=self.text, blocks=self.perturbed_blocks(guidance))
        return Branch(text=self.text)

    def check_weaker(self, weaker: Network) -> None:
        """Raises VidgenError for a network of other latents or another text."""
        for name in ("latent_channels", "text_width"):
            own, other = (getattr(network.config, name) for network in (self.network, weaker))
            if own != other:
                raise VidgenError(f"the weaker network has {name} {other}, and this model {own}; take one of its kind")

    def perturbed_blocks(self, guidance: Guidance) -> tuple[int, ...]:
        """Return the blocks to perturb. Raises VidgenError for some that are not there, and where there are none."""
        depth = len(getattr(self.network, "blocks", ()))
        if not depth:
            raise VidgenError(f"{type(self.network).__name__} has no blocks to perturb; choose another guidance")
        blocks = tuple(guidance.options.get("blocks") or (depth // 2,))
        if any(block not in range(depth) for block in blocks):
            raise VidgenError(f"{guidance.name} in blocks {blocks}: this model's are 0 to {depth - 1}")
        return blocks

    def denoiser(self, branches: Sequence[Branch]) -> Denoiser:
        """Return the denoiser of one branch, or of several in one pass, shown their inputs one after another."""
        network = branches[0].network or self.network
        text = branches[0].text if len(branches) == 1 else join_rows(branch.text for branch in branches)
        labels = task_labels(network, [self.task] * len(text.mask))
        if hasattr(network, "prepare_text"):  # what of it no step changes is made once
            text = network.prepare_text(text)
        if self.step_cache is not None:
            network = CachedNetwork(network, self.step_cache)
        if branches[0].blocks:
            network = perturbed_attention(network, self.network, branches[0].blocks)
        denoise = make_denoiser(network, self.path, self.prediction_type, text=text, **labels)
        if len(branches) > 1 or branches[0].view is None:
            return denoise
        return lambda x, t: denoise(*branches[0].view(x, t))

    def guided(self, guidance: Guidance, scale: float, tokens: int, times: Tensor | None = None) -> Denoiser:
        """Return the guided denoiser of clips of `tokens` tokens, for a run over the levels `times` if known.

        Raises VidgenError for guidance that cannot be.
        """
        cond = make_lazily(lambda: self.denoiser([self.branch("cond", guidance)]))
        if self.hide is None and "blind" in guidance.method.others:  # no frames are known: their term is 0
            guidance = replace(guidance, name="cfg", options={})
        if not guidance.acts(scale):
            return cond
        method = guidance.method
        branches = [self.branch(name, guidance) for name in ("cond", *method.others)]
        options = guidance.rule_options(self.path, self.prediction_type, times)
        if self.in_one_pass(branches, guidance, tokens):
            views = [branch.view or (lambda x, t: (x, t)) for branch in branches]
            options["both"] = batched(self.denoiser(branches), len(branches), views)
        others = [make_lazily(partial(self.denoiser, [branch])) for branch in branches[1:]]
        return method.rule(cond, *others, scale, guidance.interval, **options)

    def in_one_pass(self, branches: Sequence[Branch], guidance: Guidance, tokens: int) -> bool:
        """Return whether the branches run in one pass. Raises VidgenError where that is asked for and cannot be."""
        possible = all(branch.is_plain for branch in branches)
        if guidance.passes == "batched" and not possible:
            raise VidgenError(f"{guidance.name} runs two networks, which are two passes; leave guidance_passes at auto")
        if guidance.passes != "auto" or not possible:
            return guidance.passes == "batched"
        rows = sum(len(branch.text.mask) for branch in branches)
        return fits_batched(self.network, rows * tokens, self.text.mask.device)
