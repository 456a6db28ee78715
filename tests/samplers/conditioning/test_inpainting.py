"""Conditioning: frames of a Gaussian chain follow the known ones as its conditional distribution says; what is known
stays bit for bit; strength goes from the input to plain sampling."""

import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution, sample_generator
from vidgen.diffusion.paths import PATHS, FlowPath, add_noise
from vidgen.errors import VidgenError
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.inpainting import conditioned_times, levels_from, sample_conditioned
from vidgen.samplers.evaluation.closed_forms import GaussianData, even_normal
from vidgen.samplers.solvers import SAMPLERS

schedule = TimeDistribution().steps

PATH, DATA = FlowPath(), GaussianData()
SHAPE = (2, 3, 4, 2, 2)  # b c t h w


@pytest.fixture
def noise():
    return torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def clip():
    return torch.randn((1, *SHAPE[1:]), dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def streams(*ids):
    return [sample_generator(3, k) for k in ids]


def some(*known):
    """Cells that are known: those of these frames, or of (frame, row)."""
    cells = torch.zeros(SHAPE[2:], dtype=torch.bool)
    for place in known:
        cells[place] = True
    return cells


@pytest.mark.parametrize("given_at", [(0,), (0, 2), (1, 2)])
def test_given_frames_lead_to_the_conditional_distribution(chain, given_at):
    n = 2000
    free = [k for k in range(3) if k not in given_at]
    latents = torch.full((1, 1, 3, 1, 1), 1.5, dtype=torch.float64)
    noise = torch.stack([even_normal((n,))[torch.randperm(n, generator=sample_generator(0, k))] for k in range(3)], 1)
    known = torch.tensor([k in given_at for k in range(3)])[:, None, None]
    given = FrameConditioning(latents=latents, known=known)
    out = sample_conditioned(
        SAMPLERS["heun"], chain.denoiser(PATH), noise[:, None, :, None, None], schedule(20), PATH, given
    )[:, 0, :, 0, 0]
    mean, covariance = chain.conditional(3, {k: 1.5 for k in given_at})
    assert torch.equal(out[:, list(given_at)], torch.full((n, len(given_at)), 1.5, dtype=torch.float64))
    torch.testing.assert_close(out[:, free].mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(out[:, free].T).reshape(covariance.shape), covariance, atol=0.03, rtol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_known_stays_bit_for_bit(name, noise, clip):
    path = PATHS["cosine"]()
    known = some(0, (2, 1))  # a whole frame, and a row of another
    given = FrameConditioning(latents=clip, known=known)
    out = sample_conditioned(
        SAMPLERS[name], DATA.denoiser(path), noise, schedule(5), path, given, generator=streams(0, 1)
    )
    assert torch.equal(out[:, :, known], clip.expand_as(noise)[:, :, known]) and torch.isfinite(out).all()
    alone = sample_conditioned(
        SAMPLERS[name], DATA.denoiser(path), noise[1:], schedule(5), path, given, generator=streams(1)
    )
    torch.testing.assert_close(out[1:], alone)


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "unipc"])
def test_known_parts_carry_the_noise_of_the_moment(name, noise, clip):
    # The replaced x0 alone does that: x_t = alpha z + sigma eps with the eps that sampling began with.
    known, seen = some((1, 0), (2, 1)), []
    given = FrameConditioning(latents=clip, known=known)
    levels = TimeDistribution(shift=2.0).steps(6)
    sample_conditioned(
        SAMPLERS[name], DATA.denoiser(PATH), noise, levels, PATH, given, callback=lambda i, x, x0: seen.append(x)
    )
    for level, x in zip(levels[1:], seen, strict=True):
        want = (1.0 - level) * clip.expand_as(noise) + level * noise
        torch.testing.assert_close(x[:, :, known], want[:, :, known])


@pytest.mark.parametrize("path", PATHS)
def test_strength_one_is_plain_sampling_and_a_little_is_the_input(path, noise, clip):
    path = PATHS[path]()
    plain, whole, little = (
        sample_conditioned(SAMPLERS["heun"], DATA.denoiser(path), noise, schedule(5), path, given)
        for given in (
            None,
            FrameConditioning(latents=clip, known=some()),
            FrameConditioning(latents=clip, known=some(), strength=1e-4),
        )
    )
    assert torch.equal(whole, plain)
    torch.testing.assert_close(little, clip.expand_as(noise), atol=2e-3, rtol=0)


def test_strength_starts_at_its_level(noise, clip):
    levels = TimeDistribution(shift=3.0).steps(10)
    later = levels_from(levels, 0.5)
    assert later[0] == 0.5 and torch.equal(later[1:], levels[levels < 0.5])
    assert torch.equal(levels_from(levels, 1.0), levels)
    given = FrameConditioning(latents=clip, known=some(), strength=0.5)
    started = sample_conditioned(lambda denoise, x, *_, **__: x, DATA.denoiser(PATH), noise, levels, PATH, given)
    torch.testing.assert_close(started, 0.5 * clip + 0.5 * noise)


def test_all_known_is_the_input_and_a_clean_copy(noise, clip):
    out = sample_conditioned(
        SAMPLERS["euler"],
        None,
        noise,
        schedule(3),
        PATH,
        FrameConditioning(latents=clip, known=some(0, 1, 2, 3)),
    )
    assert torch.equal(out, clip.expand_as(noise)) and out.data_ptr() != clip.data_ptr()


@pytest.mark.parametrize("name", SAMPLERS)
def test_context_noise_is_what_the_network_sees_and_not_what_comes_out(name, noise, clip):
    levels = []

    def watched(x, t):
        levels.append(t[0, :2])
        return DATA.denoiser(PATH)(x, t)

    given = FrameConditioning(latents=clip, known=some(0, 1), context_noise=0.1)
    out = sample_conditioned(SAMPLERS[name], watched, noise, schedule(4), PATH, given, generator=streams(0, 1))
    torch.testing.assert_close(torch.stack(levels), torch.full((len(levels), 2), 0.1, dtype=torch.float64))
    assert torch.equal(out[:, :, :2], clip.expand_as(noise)[:, :, :2]) and torch.isfinite(out).all()


def test_levels_stay_shared_where_no_frame_is_known_whole(clip):
    assert conditioned_times(schedule(4), FrameConditioning(latents=clip, known=some((0, 0))), 2).ndim == 1


def test_other_sizes_are_named(noise, clip):
    given = FrameConditioning(latents=clip.expand(3, -1, -1, -1, -1), known=some(0))
    with pytest.raises(VidgenError, match=r"conditions are latents \(3, 3, 4, 2, 2\), and the clips \(2, 3"):
        sample_conditioned(SAMPLERS["euler"], DATA.denoiser(PATH), noise, schedule(2), PATH, given)


def test_led_cells_are_free_below_the_release(noise, clip):
    # Euler's steps under a constant estimate are exact on the flow path: at the release, led cells are the clip's with
    # the noise of that level, and the rest of the way is the model's own.
    levels, known = schedule(8), some((1, 0), (3, 1))
    release = float(levels[4])
    led = FrameConditioning(latents=clip, known=known, release=release)
    out = sample_conditioned(SAMPLERS["euler"], DATA.denoiser(PATH), noise, levels, PATH, led)
    start = add_noise(clip.expand_as(noise), noise, levels[4].expand(2), PATH)
    want = SAMPLERS["euler"](DATA.denoiser(PATH), start, levels[4:], PATH)
    plain = SAMPLERS["euler"](DATA.denoiser(PATH), noise, levels, PATH)
    torch.testing.assert_close(out, torch.where(known, want, plain))
    never = FrameConditioning(latents=clip, known=known, release=1.0)
    torch.testing.assert_close(
        sample_conditioned(SAMPLERS["euler"], DATA.denoiser(PATH), noise, levels, PATH, never), plain
    )
    with pytest.raises(VidgenError, match="release is 1.5; it is a noise level"):
        FrameConditioning(latents=clip, known=known, release=1.5)
