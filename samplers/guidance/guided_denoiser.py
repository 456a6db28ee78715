"""From prompts and a choice of guidance to one denoiser: text encoded once a prompt, branches run as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgen.diffusion.denoiser import Denoiser, make_denoiser
from vidgen.diffusion.paths import ProbabilityPath
from vidgen.errors import VidgenError
from vidgen.interfaces import TextEncoder
from vidgen.models.text.cache import TextCache
from vidgen.models.text.encoders import TextEncoding
from vidgen.samplers.guidance.batched_guidance import View, batched, fits_batched
from vidgen.samplers.guidance.perturbed_attention import perturbed_attention
from vidgen.samplers.guidance.registry import Guidance
from vidgen.samplers.stages import check_stage
from vidgen.samplers.step_cache import CachedNetwork, Caching, take_rows

Network = Callable[..., Tensor]  # (x, t, text=...) -> prediction


def encode_prompts(encoder: TextEncoder, prompts: Sequence[str], kept: TextCache | None = None) -> TextEncoding:
    """A row a prompt; prompts that are there several times are encoded once, those that are `kept` not at all."""
    different = list(dict.fromkeys(prompts))
    text = encoder(different) if kept is None else kept.encode(encoder, different)
    check_stage(text.tokens[text.mask], "the text encoder gave", "run it in float32, or shorten the prompt")
    rows = [different.index(prompt) for prompt in prompts]
    return take_rows(text, torch.tensor(rows, device=text.tokens.device))


def join_rows(texts: Iterable[TextEncoding]) -> TextEncoding:
    """Rows of all, padded to the longest."""
    texts = list(texts)
    length = max(text.mask.shape[1] for text in texts)
    missing = [length - text.mask.shape[1] for text in texts]
    return TextEncoding(
        tokens=torch.cat([F.pad(text.tokens, (0, 0, 0, n)) for text, n in zip(texts, missing, strict=True)]),
        mask=torch.cat([F.pad(text.mask, (0, n)) for text, n in zip(texts, missing, strict=True)]),
    )


def postponed(make: Callable[[], Denoiser]) -> Denoiser:
    """The denoiser of `make`, made when it is first run: in one pass over all its text is not prepared twice."""
    made = cache(make)
    return lambda x, t: made()(x, t)


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
    """What a call's denoiser is made of: the network and what it predicts, the texts, `hide`, which shows given frames
    as noise (None: there are none), and `caching` of passes, each branch by itself (None: every pass is run)."""

    network: Network
    path: ProbabilityPath
    prediction_type: str
    text: TextEncoding
    negative: Callable[[], TextEncoding]
    hide: View | None = None
    caching: Caching | None = None

    def branch(self, name: str, guidance: Guidance) -> Branch:
        """The one that `Method.others` calls so; "cond" sees everything."""
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
            wanted, has = (getattr(network.config, name) for network in (self.network, weaker))
            if wanted != has:
                raise VidgenError(f"the weaker network has {name} {has}, and this model {wanted}; take one of its kind")

    def perturbed_blocks(self, guidance: Guidance) -> tuple[int, ...]:
        """Raises VidgenError for blocks that are not there, and for a network that has none of ours."""
        depth = len(getattr(self.network, "blocks", ()))
        if not depth:
            raise VidgenError(f"{type(self.network).__name__} has no blocks to perturb; choose another guidance")
        blocks = tuple(guidance.options.get("blocks") or (depth // 2,))
        if any(block not in range(depth) for block in blocks):
            raise VidgenError(f"perturbed_attention in blocks {blocks}: this model's are 0 to {depth - 1}")
        return blocks

    def denoiser(self, branches: Sequence[Branch]) -> Denoiser:
        """The denoiser of one branch, or of several that run in one pass: shown their inputs, one after the other."""
        network = branches[0].network or self.network
        text = branches[0].text if len(branches) == 1 else join_rows(branch.text for branch in branches)
        if hasattr(network, "prepare_text"):  # what of it no step changes is made once
            text = network.prepare_text(text)
        if self.caching is not None:
            network = CachedNetwork(network, self.caching)
        if branches[0].blocks:
            network = perturbed_attention(network, self.network, branches[0].blocks)
        denoise = make_denoiser(network, self.path, self.prediction_type, text=text)
        if len(branches) > 1 or branches[0].view is None:
            return denoise
        return lambda x, t: denoise(*branches[0].view(x, t))

    def guided(self, guidance: Guidance, scale: float, tokens: int) -> Denoiser:
        """The guided denoiser of clips that have `tokens` each. VidgenError for guidance that cannot be had."""
        cond = postponed(lambda: self.denoiser([self.branch("cond", guidance)]))
        if self.hide is None and "blind" in guidance.method.others:  # no frames are given: their term is 0
            guidance = replace(guidance, name="cfg", options={})
        if scale <= 1.0 and guidance.options.get("image_scale", 1.0) <= 1.0:
            return cond
        method = guidance.method
        branches = [self.branch(name, guidance) for name in ("cond", *method.others)]
        options = guidance.rule_options() | ({"path": self.path} if method.on_path else {})
        if self.in_one_pass(branches, guidance, tokens):
            views = [branch.view or (lambda x, t: (x, t)) for branch in branches]
            options["both"] = batched(self.denoiser(branches), len(branches), views)
        others = [postponed(partial(self.denoiser, [branch])) for branch in branches[1:]]
        return method.rule(cond, *others, scale, guidance.interval, **options)

    def in_one_pass(self, branches: Sequence[Branch], guidance: Guidance, tokens: int) -> bool:
        """Raises VidgenError where that is asked for and cannot be."""
        possible = all(branch.is_plain for branch in branches)
        if guidance.passes == "batched" and not possible:
            raise VidgenError(f"{guidance.name} runs two networks, which are two passes; leave guidance_passes at auto")
        if guidance.passes != "auto" or not possible:
            return guidance.passes == "batched"
        rows = sum(len(branch.text.mask) for branch in branches)
        return fits_batched(self.network, rows * tokens, self.text.mask.device)
