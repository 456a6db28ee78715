"""What every solver keeps: its input, clean frames, one stream a sample, a call a step, the latents before a NaN."""

import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution, sample_generator
from vidgen.diffusion.paths import PATHS, FlowPath
from vidgen.errors import VidgenError
from vidgen.samplers.evaluation.closed_forms import GaussianData
from vidgen.samplers.solvers import SAMPLERS, SamplingError, find_solver
from vidgen.samplers.solvers.registry import FEW_STEP_SAMPLERS, OTHER_NAMES

schedule = TimeDistribution().steps

DATA, PATH = GaussianData(), FlowPath()
IDEAL = DATA.denoiser(PATH)


def generators(*ids):
    return [sample_generator(3, k) for k in ids]


@pytest.fixture
def noise():
    return torch.randn(2, 3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SAMPLERS)
def test_input_is_not_written_to_and_callback_sees_every_step(name, noise):
    before, steps = noise.clone(), []
    SAMPLERS[name](IDEAL, noise, schedule(5), PATH, callback=lambda i, x, x0: steps.append(i))
    assert torch.equal(noise, before) and steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_clean_frames_stay_and_others_do_not_notice(name, kind, noise):
    path = PATHS[kind]()
    ideal = DATA.denoiser(path)
    plain = SAMPLERS[name](ideal, noise, schedule(6), path, generator=generators(0, 1))
    times = schedule(6)[:, None, None].expand(-1, 2, 4)
    tolerance = 1e-2 if name == "rk45" else 1e-9  # which goes from level to level where they are per frame
    per_frame = SAMPLERS[name](ideal, noise, times, path, generator=generators(0, 1))
    assert torch.allclose(per_frame, plain, atol=tolerance)
    given = times.clone()
    given[:, :, 0] = 0.0
    out = SAMPLERS[name](ideal, noise, given, path, generator=generators(0, 1))
    assert torch.equal(out[:, :, 0], noise[:, :, 0])
    assert torch.allclose(out[:, :, 1:], plain[:, :, 1:], atol=tolerance)


@pytest.mark.parametrize("name", SAMPLERS)
def test_frames_may_wait_at_a_level(name, noise):
    # A pyramid, as in diffusion forcing: later frames start later, and are as noise until then.
    rows = [[1, 1, 1, 1], [0.5, 1, 1, 1], [0, 0.5, 1, 1], [0, 0, 0.5, 1], [0, 0, 0, 0.5], [0, 0, 0, 0]]
    times = torch.tensor(rows, dtype=torch.float64)[:, None].expand(-1, 2, -1)
    seen = []
    out = SAMPLERS[name](IDEAL, noise, times, PATH, callback=lambda i, x, x0: seen.append(x.clone()))
    assert torch.isfinite(out).all() and torch.equal(seen[0][:, :, 1:], noise[:, :, 1:])
    assert torch.equal(seen[1][:, :, 0], out[:, :, 0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_clip_does_not_depend_on_its_batch(name, noise):
    both = SAMPLERS[name](IDEAL, noise, schedule(6), PATH, generator=generators(0, 1))
    alone = SAMPLERS[name](IDEAL, noise[1:], schedule(6), PATH, generator=generators(1))
    assert torch.allclose(both[1:], alone, atol=1e-12)
    other = SAMPLERS[name](IDEAL, noise[1:], schedule(6), PATH, generator=generators(2))
    assert torch.allclose(other, alone) == (not SAMPLERS[name].stochastic)


@pytest.mark.parametrize("name", SAMPLERS)
def test_half_precision_levels_are_not_needed(name, noise):
    # float32 latents with the schedule's float64 levels: the result stays float32, and close
    wide = SAMPLERS[name](IDEAL, noise, schedule(12), PATH, generator=generators(0, 1))
    narrow = SAMPLERS[name](IDEAL, noise.float(), schedule(12), PATH, generator=generators(0, 1))
    assert narrow.dtype == torch.float32 and torch.allclose(narrow.double(), wide, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_nan_stops_with_the_step_and_keeps_the_latents(name, noise):
    calls = 0

    def breaking(x, t):
        nonlocal calls
        calls += 1
        return IDEAL(x, t) * (float("nan") if calls > 1 else 1.0)

    with pytest.raises(SamplingError, match=r"NaN or infinity at step [12] of 3 \(noise level") as stop:
        SAMPLERS[name](breaking, noise, schedule(3), PATH)
    assert stop.value.latents.shape == noise.shape and torch.isfinite(stop.value.latents).all()


def test_schedule_and_training_share_the_shift():
    time = TimeDistribution(shift=3.0)
    assert torch.equal(time.steps(10), TimeDistribution(shift=3.0).steps(10))
    assert torch.allclose(time.quantile(torch.linspace(1, 0, 11, dtype=torch.float64)), time.steps(10))


@pytest.mark.parametrize(
    ("name", "ours"), [("ddim", "euler"), ("Euler a", "euler_ancestral"), ("DPM++ 2M", "dpmpp_2m")]
)
def test_names_of_others_are_answered_with_ours(name, ours):
    names = {*SAMPLERS, *FEW_STEP_SAMPLERS}
    assert set(OTHER_NAMES.values()) <= names and not set(OTHER_NAMES) & names
    with pytest.raises(VidgenError, match=f"is unknown; here it is called {ours}$"):
        find_solver(name)
