"""Clips that a model makes of the synthetic world's prompts, and what the world's checker says of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from vidgen.checkpoints.hashing import json_hash, model_hash
from vidgen.data.shapes import ClipLabels, ShapeWorld, check, describe
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.files.locks import exclusive
from vidgen.pipelines.video import VideoPipeline
from vidgen.train.config.preference import CRITERIA
from vidgen.train.data.cache_files import fill_cache, read_tensor
from vidgen.train.data.sources import rng_of

SAMPLING_BATCH = 16


class JudgedGroup(NamedTuple):
    """The clips of one prompt, and the reward of each."""

    latents: Float[Tensor, "m c t h w"]
    caption: str
    rewards: Float[Tensor, " m"]


class JudgedClips(Dataset):
    """`clips` clips of each of `prompts` prompts of a world, made by a pipeline once and kept in a cache.

    The reward of a clip is the share of the criteria `rewarded` that the checker finds in it. Item (step, slot) is a
    group of the seed, the step and the slot; with `unequal` one whose clips differ in reward.
    Raises VidgenError where there is none, and where the cache is damaged.
    """

    def __init__(
        self,
        pipe: VideoPipeline,
        world: ShapeWorld,
        *,
        prompts: int,
        clips: int,
        rewarded: tuple[str, ...],
        seed: int,
        cache: str = "",
        unequal: bool = False,
    ) -> None:
        self.seed = seed

        def make(start: int, stop: int) -> tuple[Tensor, list[dict]]:
            return make_groups(pipe, world, start, stop, clips, seed)

        if cache:
            precision = str(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else ""
            about = [vars(world.config), asdict(pipe.scheduler), prompts, clips, seed, model_hash(pipe), precision]
            folder = Path(cache) / f"judged-{json_hash(about)[:16]}"
            if not folder.is_dir():
                with exclusive(folder, "cache of judged clips"):
                    fill_cache(folder, [], prompts, make)
            self.latents, self.rows, _ = read_tensor(folder, "latents")
        else:
            self.latents, self.rows = make(0, prompts)
        criteria = torch.tensor([row["criteria"] for row in self.rows], dtype=torch.float32)  # n m criteria
        self.rewards = criteria[:, :, [CRITERIA.index(name) for name in rewarded]].mean(2)
        differs = self.rewards.max(1).values > self.rewards.min(1).values
        self.groups = differs.nonzero().flatten().tolist() if unequal else list(range(len(self.rows)))
        if not self.groups:
            raise VidgenError(
                f"{len(self.rows)} prompts of {clips} clips: of each all have the same reward, so there is nothing to "
                "prefer; make more (cached_clips, clips_per_prompt), or reward what the model gets wrong"
            )

    def __getitem__(self, key: tuple[int, int]) -> JudgedGroup:
        rng = rng_of(self.seed, *key)
        index = self.groups[int(rng.integers(len(self.groups)))]
        caption = describe(ClipLabels.from_dict(self.rows[index]["labels"]), rng)
        return JudgedGroup(self.latents[index].float(), caption, self.rewards[index])


def make_groups(
    pipe: Callable, world: ShapeWorld, start: int, stop: int, clips: int, seed: int
) -> tuple[Float[Tensor, "n m c t h w"], list[dict]]:
    """Return latents (float16) of `clips` clips of prompts start .. stop - 1, with their labels and, clip by clip,
    which of `CRITERIA` hold. The noise of a clip is a function of the seed, its prompt and its number."""
    latents = []
    jobs = [(prompt, copy) for prompt in range(start, stop) for copy in range(clips)]
    prompts = {prompt: world.sample_prompt(prompt) for prompt in range(start, stop)}
    results: dict[int, list[list[bool]]] = {prompt: [] for prompt in prompts}
    for first in tqdm(range(0, len(jobs), SAMPLING_BATCH), desc="making clips", unit="batch", disable=None):
        batch = jobs[first : first + SAMPLING_BATCH]
        noise = [sample_generator(seed, f"judged-{prompt}-{copy}") for prompt, copy in batch]
        out = pipe([prompts[prompt][0] for prompt, _ in batch], generator=noise)
        latents.append(out.latents.to("cpu", torch.float16))
        for (prompt, _), frames in zip(batch, out.frames, strict=True):
            result = check(frames, prompts[prompt][1])
            results[prompt].append([bool(getattr(result, name)) for name in CRITERIA])
    rows = [{"labels": labels.to_dict(), "criteria": results[prompt]} for prompt, (_, labels) in prompts.items()]
    return torch.cat(latents).unflatten(0, (-1, clips)).contiguous(), rows
