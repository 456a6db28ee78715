"""A frozen encoder in task `ssl`, of which the recipe's key `adapt` says what is learned beside it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from vidgen.errors import VidgenError
from vidgen.models.adaptation.adapted_encoder import AdaptedEncoder
from vidgen.models.adaptation.files import Base, open_base, save_adapted, save_whole
from vidgen.models.encoders.clip_encoder import patch_grid
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.train.config.self_supervised import SSLRecipe
from vidgen.train.tasks.ssl.encoders import check_same


class Adapted(NamedTuple):
    """An adapted encoder, the one on disk that stays as it is, and that one's shape where it is to be saved too."""

    encoder: AdaptedEncoder
    base: Base
    shape: VideoViTConfig | None


def build_adapted(recipe: SSLRecipe) -> Adapted:
    """Return the encoder of `init_from` with what `adapt` says, drawn from the recipe's seed.

    Raises VidgenError for an encoder that is not there or cannot be adapted so, and settings that are not the kind's.
    """
    if not recipe.init_from:
        raise VidgenError(
            "recipe key `adapt` is beside an encoder that was trained before (as by `vidgen train ssl/mae`); give "
            "init_from=FOLDER"
        )
    frozen, base = open_base(recipe.init_from, device=recipe.device, dtype=torch.float32)
    shape = frozen.config if isinstance(frozen, VideoViT) else None
    if shape is None and recipe.encoder:
        raise VidgenError(f"init_from={recipe.init_from} is no VideoViT, of which `encoder` is the shape; leave it out")
    settings = dict(recipe.adapt)
    kind, whole = settings.pop("kind"), settings.pop("whole", False)
    if not isinstance(whole, bool) or whole and shape is None:
        raise VidgenError(f"recipe key `adapt`: whole={whole} is false, or true for a VideoViT; leave it out")
    if shape is not None:
        check_same(shape, {k: v for k, v in recipe.encoder.items() if (k, v) != ("kind", "vit")}, recipe)
    clip, fps = (recipe.data.num_frames, *recipe.data.size), recipe.data.fps or VideoViTConfig.fps
    torch.manual_seed(recipe.seed)
    try:
        encoder = AdaptedEncoder(frozen, kind, settings, clip=clip, fps=fps)
        if shape is not None:
            patch_grid(clip, encoder.config.patch)
    except VidgenError as error:
        raise VidgenError(f"recipe key `adapt`: {error}") from None
    return Adapted(encoder, base, shape if whole else None)


def export_adapted(adapted: Adapted, folder: Path, dtype: torch.dtype | None) -> None:
    """Write what was learned, with the frozen encoder's name and hash; or, as `adapt` says, all of it."""
    if adapted.shape is None:
        save_adapted(adapted.encoder, folder, adapted.base, dtype=dtype)
    else:
        save_whole(adapted.encoder, folder, adapted.shape, dtype=dtype)
