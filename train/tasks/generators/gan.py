"""Task `gan`: a generator with foreground and background, against discriminators of clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.diffusion.noise import draw_normal
from vidgen.errors import VidgenError
from vidgen.models.gan.config import SplitGeneratorConfig
from vidgen.models.gan.split_generator import SplitGenerator
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.gan.pipeline import GANPipeline
from vidgen.train.config import GANRecipe
from vidgen.train.data.latent_statistics import clip_batches
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET, Mixture, collate
from vidgen.train.losses.adversarial import Adversary
from vidgen.train.runtime.step_memory import check_clips
from vidgen.train.tasks.task import Metrics, Role, Task, export_dtype


class GANTask(Task):
    """The loss is minus the discriminators' logits of generated clips, and the mask's mean (VGAN)."""

    def __init__(self, recipe: GANRecipe) -> None:
        self.recipe = recipe
        self.generator, self.text_encoder = build_generator(recipe)
        self.pipe = GANPipeline(self.generator, self.text_encoder)
        self.model = nn.ModuleDict(self.pipe.components).requires_grad_(True)
        self.adversary = Adversary(
            recipe.adversarial,
            seed=recipe.seed,
            device=recipe.device,
            precision=recipe.autocast,
            text_width=self.generator.config.text_width,
        )
        check_clips(recipe)
        self.dataset = Mixture(recipe.data, recipe.seed)
        self.held_out = Mixture(recipe.data, recipe.seed + VALIDATION_SEED_OFFSET, "validation")
        self.gather = collate
        self.last: tuple[Tensor, Tensor, Tensor | None] | None = None  # real and generated clips of this step, and text

    def draw_noise(self, count: int, generator: torch.Generator) -> Float[Tensor, "b z"]:
        """Draw the noise of so many clips."""
        return draw_normal((count, self.generator.config.noise_channels), generator).to(self.recipe.device)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the generator's loss, and keep its clips for the discriminators' turn."""
        video = batch["video"].to(self.recipe.device)
        text = self.pipe.read_text(batch["captions"])
        clip = self.generator(self.draw_noise(len(video), generator), text)
        fake = clip.video.float()
        judged = None if text is None else text.detach().float()  # what a text means is the generator's to learn
        hinge = self.adversary.hinge(fake, judged)
        mask = clip.mask.float().mean()
        self.last = (video, fake.detach(), judged)
        loss = self.recipe.adversarial.weight * hinge + self.recipe.mask_sparsity * mask
        return loss, {"g_loss": hinge.item(), "mask": mask.item()}

    def roles(self) -> dict[str, Role]:
        """Return the discriminators."""
        optimizer = self.adversary.optimizer_config(self.recipe.optimizer)
        return {"discriminator": Role(module=self.adversary, loss=self.discriminator_loss, optimizer=optimizer)}

    def discriminator_loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor | None, Metrics]:
        """Return the discriminators' loss of the clips that the generator's turn left."""
        real, fake, text = self.last
        self.last = None
        if text is None or len(real) == 1:
            return self.adversary.discriminator_loss(real, fake, 0.0, text, text)
        beside = torch.cat([text, text.roll(1, dims=0)])  # real clips beside another's caption are fakes
        return self.adversary.discriminator_loss(real, torch.cat([fake, real]), 0.0, text, beside)

    def state_dict(self) -> dict[str, Any]:
        """Return where the adversarial game stands."""
        return {"adversary": self.adversary.progress()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.adversary.load_progress(state["adversary"])

    def validate(self) -> Metrics:
        """Return how much higher the discriminators' logits of held-out clips are than those of generated ones beside
        the same captions (`margin`; 0 where they cannot tell), and the mean of the mask."""
        generator, margins, masks = torch.Generator().manual_seed(self.recipe.seed), [], []
        for batch in clip_batches(self.held_out, self.recipe.data.validation_clips, self.recipe.batch_size):
            video, text = batch["video"].to(self.recipe.device), self.pipe.read_text(batch["captions"])
            clip = self.generator(self.draw_noise(len(video), generator), text)
            fake = clip.video.float()
            margins.append((self.adversary.hinge(fake, text) - self.adversary.hinge(video, text)).item())
            masks.append(clip.mask.float().mean().item())
        return {"margin": sum(margins) / len(margins), "mask": sum(masks) / len(masks)}

    def export(self, folder: Path) -> None:
        """Write the pipeline, and beside it the discriminators."""
        self.pipe.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))
        save_file(self.adversary.discriminators.state_dict(), folder / "discriminators.safetensors")


def build_generator(recipe: GANRecipe) -> tuple[SplitGenerator, ByteTextEncoder | None]:
    """Return the generator and the text encoder of `init_from`, or new ones from the recipe's seed.

    Raises VidgenError for a generator of clips of another size.
    """
    data = recipe.data
    size = {"num_frames": data.num_frames, "height": data.size[0], "width": data.size[1], "fps": data.fps}
    if recipe.init_from:
        pipe = GANPipeline.from_pretrained(recipe.init_from, dtype=torch.float32, device=recipe.device)
        for name, value in size.items():
            if pipe.generator.config[name] != value:
                own = pipe.generator.config[name]
                raise VidgenError(f"init_from={recipe.init_from} makes clips of {name} {own}, and data has {value}")
        return pipe.generator, pipe.text_encoder
    torch.manual_seed(recipe.seed)
    text: ByteTextEncoder | None = None
    if recipe.text_model:
        text = ByteTextEncoder(config_from_dict(ByteTextConfig, recipe.text_model, "recipe key `text_model`"))
    values = {**recipe.model, **size, "text_width": text.width if text else 0}
    generator = SplitGenerator(config_from_dict(SplitGeneratorConfig, values, "recipe key `model`"))
    return generator.to(recipe.device), None if text is None else text.to(recipe.device)
