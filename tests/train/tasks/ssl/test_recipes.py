"""Every recipe of a published system trains, and a pretext that can be learned is."""

import math
from dataclasses import replace

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_feature_encoder
from vidgen.representations.latent_encoder import LatentEncoder
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe, recipe_name, shipped_recipes
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl.encoders import ENCODERS
from vidgen.train.tasks.ssl.task import SSLTask

RUN = [
    "steps=1", "batch_size=4", "log_every=1", "validate_every=1", "checkpoint_every=1", "data.validation_clips=4",
    "data.size=[16,16]", "autocast=float32", "probe_clips=8",
]  # fmt: skip
SHAPES = {
    "vit": "{patch: [2, 8, 8], width: 32, depth: 1, head_dim: 16, learner_block: 0}",
    "resnet": "{width: 32, depth: 3}",
}
TINY = [*RUN, f"encoder={SHAPES['vit']}"]
MORE = {
    "ssl/walk": ["data.size=[32,32]"],  # what squares of two patches need
    "ssl/mae_latents": ["encoder.patch=[1,1,1]"],
    "ssl/vthcl": ["terms.levels.layers=[blocks.0]"],
}
SYSTEMS = [name for name in map(recipe_name, shipped_recipes()) if name.startswith("ssl/")]
ADAPTED = [name for name in SYSTEMS if name.startswith("ssl/adapt_")]  # of an encoder that is there before


@pytest.mark.parametrize("name", sorted({*SYSTEMS} - {*ADAPTED}))
def test_every_system_trains(name, tmp_path):
    kind = load_recipe(name).encoder.get("kind", "vit")
    words = [*RUN, f"encoder={SHAPES[kind]}", f"out={tmp_path / 'run'}", *MORE.get(name, [])]
    if name == "ssl/bevt":  # whose tokenizer has to have a codebook
        config = replace(PRESETS["tiny"], bottleneck="fsq", latent_channels=3, levels=(3, 3, 2))
        VideoTokenizer(config).save_pretrained(tmp_path / "tokenizer")
        words.append(f"terms.indices.tokenizer={tmp_path / 'tokenizer'}")
    if name == "ssl/frame_selection":  # which trains no encoder
        SSLTask(load_recipe("ssl/mae", words)).encoder.save_pretrained(tmp_path / "first")
        words.append(f"init_from={tmp_path / 'first'}")
    recipe = load_recipe(name, words)
    folder = Trainer(SSLTask(recipe), recipe).fit()
    encoder = load_feature_encoder(str(folder))
    assert isinstance(encoder, ENCODERS[kind] if recipe.reads == "pixels" else LatentEncoder)
    assert all(x.isfinite().all() for x in encoder.parameters())


def test_a_pretext_is_learned_above_chance(tmp_path, learn):
    task = SSLTask(load_recipe("ssl/direction", [*TINY, "data.num_frames=2", f"out={tmp_path}"]))
    video = torch.tensor([-0.5, 0.5])[:, None, None].expand(16, 3, 2, 16, 16)  # it brightens
    *_, parts = learn(task, {"video": video, "captions": [], "labels": []}, steps=60, lr=0.01)
    assert parts["pretext_accuracy"] == 1.0 and parts["pretext_loss"] < 0.3 * math.log(2)


def test_labels_are_told_and_sources_without_them_refused(tmp_path, learn):
    recipe = load_recipe("ssl/supervised", [*TINY, f"out={tmp_path}"])
    task = SSLTask(recipe)
    batch = task.gather([task.dataset[(0, slot)] for slot in range(4)])
    *_, parts = learn(task, batch, steps=60, lr=0.01)
    assert all(parts[f"supervised_{name}"] == 1.0 for name in ("shape", "colour", "motion"))
    with pytest.raises(VidgenError, match="give sources of kind=shapes alone"):
        SSLTask(load_recipe("ssl/supervised", [*TINY, "data.sources=[{kind: walks}]"]))


def test_a_pretext_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(VidgenError, match="no multiple of patches of 2"):
        SSLTask(load_recipe("ssl/speed", [*TINY, "data.num_frames=12", f"out={tmp_path}"]))
