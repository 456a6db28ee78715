"""A LoRA of the denoiser: what is trained is the file, the model below it stays, and the file gives the same output."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.lora.files import find_lora, read_lora
from vidgen.lora.loading import load_lora
from vidgen.lora.training import TrainedLoRA
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.lora import LoRATask

SMALL = [
    "cached_clips=4", "steps=4", "batch_size=2", "log_every=1", "validate_every=4", "checkpoint_every=2",
    "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "autocast=float32",
    "optimizer={kind: adamw, lr: 0.02, warmup: 0}", "task=lora", "lora_rank=3", "lora_alpha=6", "validation_levels=2",
]  # fmt: skip


@pytest.fixture
def words(tiny_base) -> list[str]:
    """Overrides of a recipe on a tiny pipeline."""
    return [*SMALL, *tiny_base(SchedulerConfig())]


def run(network) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, 4, 2, 2, 2, generator=generator)
    text = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)).eval()
    with torch.no_grad():
        for parameter in text.parameters():
            parameter.fill_(0.1)
        return network(x, torch.tensor([0.4]), text(["a"]))


def test_the_file_is_what_was_trained_and_the_model_stays(words, tmp_path):
    recipe = load_recipe("diffusion_default", words)
    base = load_pipeline(str(tmp_path / "base")).transformer
    task = LoRATask(recipe)
    assert set(task.model) == {"lora"} and all("down" in n or "up" in n for n, _ in task.model.named_parameters())
    torch.testing.assert_close(run(task.transformer), run(base), rtol=0, atol=1e-6)  # not changed yet
    trainer = Trainer(task, recipe)
    final = trainer.fit()
    own = {
        name.replace("parametrizations.weight.original", "weight"): value
        for name, value in task.transformer.state_dict().items()
    }
    assert all(torch.equal(own[name], value) for name, value in base.state_dict().items())
    assert [delta.factor for delta in read_lora(find_lora(final))] == [2.0] * (2 * 8)  # to_q, to_kv, out; up, down
    before = run(base)
    with trainer.averaged():
        trained = run(task.transformer)
    lora = load_lora(base, final)
    torch.testing.assert_close(run(base), trained, rtol=0, atol=1e-5)
    assert (trained - before).abs().max() > 1e-3
    lora.unload()
    assert torch.equal(run(base), before)


def test_a_run_goes_on_where_it_stood(words, tmp_path):
    recipe = load_recipe("diffusion_default", words)
    whole = Trainer(LoRATask(recipe), recipe)
    whole.fit()
    for path in (tmp_path / "run" / "checkpoint-4", tmp_path / "run" / "final"):
        path.rename(tmp_path / f"first-{path.name}")
    again = Trainer(LoRATask(recipe), recipe)
    assert again.step == 2
    again.fit()
    for one, two in zip(whole.task.model.parameters(), again.task.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("lora_rank=-1", "lora_rank=-1 is not a whole number from 1"),
        ("init_from=''", "lora_rank=3 needs a trained model: set init_from"),
        ("optimizer.kind=muon", "a LoRA is trained with optimizer.kind=adamw, not muon"),
    ],
)
def test_recipes_that_cannot_be(words, change, says):
    with pytest.raises(VidgenError, match=says):
        load_recipe("diffusion_default", [*words, change])


@pytest.mark.parametrize(
    ("change", "says"),
    [("prediction_type=v_prediction", "flow_prediction, not v_prediction"), ("time.path=edm", "flow, not edm")],
)
def test_what_the_model_predicts_is_what_the_lora_learns(words, change, says):
    with pytest.raises(VidgenError, match=f"base: its {change.partition('=')[0].removeprefix('time.')} is {says}"):
        LoRATask(load_recipe("diffusion_default", [*words, change]))


def test_ranks_that_layers_do_not_have():
    network = VideoDiT(VideoDiTConfig(latent_channels=4, width=32, depth=1, head_dim=16, text_width=16))
    with pytest.raises(VidgenError, match="a LoRA of rank 17: the layers of this network take 1 to 16"):
        TrainedLoRA(network, 17, 17.0)
