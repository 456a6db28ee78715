"""Task forecast: a known process comes out with its mean and its spread; banks say which rows validate."""

import math

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.forecaster import EmbeddingForecaster
from vidgen.pipelines.priors.forecasting import forecast_embeddings
from vidgen.representations.bank import BankWriter
from vidgen.representations.bank_files import BankRow
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.generators.forecast import ForecastTask

KEPT = 0.9  # of a value, turned by a quarter; the rest is noise, so that each channel has variance 1
LENGTH, SEEN = 5, 3
SCALE, OFFSET = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])


def draw_process(count: int, seed: int) -> torch.Tensor:
    """Draw sequences (count, LENGTH, 2) of x' = KEPT R x + sqrt(1 - KEPT^2) n, scaled and moved."""
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(count, 2, generator=generator)]
    for _ in range(LENGTH - 1):
        turned = torch.stack([-values[-1][:, 1], values[-1][:, 0]], dim=1)
        noise = torch.randn(count, 2, generator=generator)
        values.append(KEPT * turned + math.sqrt(1 - KEPT**2) * noise)
    return torch.stack(values, dim=1) * SCALE + OFFSET


def write_bank(folder, values: torch.Tensor, splits=(None,)):
    rows = [BankRow(id=str(i), split=splits[i % len(splits)]) for i in range(len(values))]
    with BankWriter(folder, {"pool": "frame"}) as writer:
        writer.add(rows, {"tokenizer.latents": values})
    return folder


def make(tmp_path, bank, *more):
    small = ["model={width: 32, depth: 2, head_dim: 16, head_width: 32, head_depth: 2}", "autocast=float32",
             f"bank={bank}", f"out={tmp_path / 'run'}"]  # fmt: skip
    return load_recipe("forecast", [*small, *more])


def train(tmp_path, order: str) -> tuple[EmbeddingForecaster, dict[str, float]]:
    """Return a forecaster of the process, and its errors over the least ones that there can be."""
    bank = write_bank(tmp_path / "bank", draw_process(4000, 0))
    every = [f"{key}=500" for key in ("steps", "validate_every", "checkpoint_every", "log_every")]
    recipe = make(tmp_path, bank, *every, f"seen={SEEN}", f"model.order={order}", "optimizer.lr=4e-3",
                  "data.validation_clips=200", "batch_size=128")  # fmt: skip
    task = ForecastTask(recipe)
    model = EmbeddingForecaster.from_pretrained(Trainer(task, recipe).fit())
    metrics = task.validate()
    least = sum(1 - KEPT ** (2 * k) for k in (1, 2)) / 2
    return model, {name: value / least for name, value in metrics.items()} | {"draws": 1 + 1 / recipe.draws}


def test_a_known_process_is_forecast_with_its_mean_and_spread(tmp_path):
    model, errors = train(tmp_path, "causal")
    assert 0.9 < errors["error"] < 1.3 * errors["draws"]
    assert errors["keep_error"] > 5 and errors["mean_error"] > 3
    seen = (torch.tensor([[[0.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]]) * SCALE + OFFSET).expand(400, -1, -1)
    generators = [torch.Generator().manual_seed(i) for i in range(400)]
    drawn = (forecast_embeddings(model, seen, 1, generators)[:, 0] - OFFSET) / SCALE
    assert drawn.mean(0).tolist() == pytest.approx([0.0, -KEPT], abs=0.15)
    assert drawn.std(0).tolist() == pytest.approx([math.sqrt(1 - KEPT**2)] * 2, rel=0.3)


def test_what_is_unseen_is_filled_in_together(tmp_path):
    _, errors = train(tmp_path, "masked")
    assert 0.9 < errors["error"] < 2 * errors["draws"]
    assert errors["keep_error"] > 5 and errors["mean_error"] > 3


def test_forecasts_are_longer_than_training_and_do_not_depend_on_their_batch(tmp_path):
    torch.manual_seed(0)
    model = EmbeddingForecaster(TokenPriorConfig(channels=2, width=32, depth=1, head_dim=16)).eval()
    values = draw_process(2, 0)
    model.fit_scale(values)
    assert model.standardize(values).flatten(0, 1).std(0).tolist() == pytest.approx([1.0, 1.0])
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    both = forecast_embeddings(model, values[:, :SEEN], 4, generators)
    alone = forecast_embeddings(model, values[1:, :SEEN], 4, [torch.Generator().manual_seed(1)])
    assert both.shape == (2, 4, 2) and torch.allclose(both[1:], alone, atol=1e-5)
    model.save_pretrained(tmp_path / "model")
    again = EmbeddingForecaster.from_pretrained(tmp_path / "model")
    assert again.length == LENGTH and torch.equal(again.mean, model.mean)


def test_rows_of_no_split_are_held_out_and_named_ones_stay(tmp_path):
    plain = ForecastTask(make(tmp_path, write_bank(tmp_path / "plain", draw_process(10, 0)), "hold_out=5"))
    assert (len(plain.dataset.values), len(plain.held_out)) == (8, 2)
    bank = write_bank(tmp_path / "named", draw_process(9, 0), splits=("train", "train", "test"))
    named = ForecastTask(make(tmp_path, bank))
    assert (len(named.dataset.values), len(named.held_out)) == (6, 3)


def test_what_cannot_be_forecast_is_said(tmp_path):
    with pytest.raises(VidgenError, match="give bank=FOLDER"):
        ForecastTask(load_recipe("forecast"))
    bank = write_bank(tmp_path / "bank", draw_process(10, 0))
    with pytest.raises(VidgenError, match="embeddings are of order causal or masked"):
        make(tmp_path, bank, "model.order=frames")
    with pytest.raises(VidgenError, match="a sequence of more vectors"):
        ForecastTask(make(tmp_path, bank, "seen=5"))
    with pytest.raises(VidgenError, match="none of them to validate"):
        ForecastTask(make(tmp_path, write_bank(tmp_path / "one", draw_process(1, 0))))
    model = EmbeddingForecaster(TokenPriorConfig(channels=2, width=32, depth=1, head_dim=16))
    with pytest.raises(VidgenError, match=r"give \(b, k, 2\)"):
        forecast_embeddings(model, torch.zeros(1, 2, 3), 1, [torch.Generator()])
