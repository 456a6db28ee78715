"""Guidance held against diffusers' guiders: the same predictions in, the same out, for each prediction type."""

import pytest
import torch

from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.paths import PATHS
from vidgen.diffusion.prediction_types import PREDICTION_TYPES
from vidgen.samplers.guidance import Rescale, apg, cfg, cfg_zero, pag
from vidgen.samplers.guidance.rules import perturbed_cfg, prediction_of, zero_level

guiders = pytest.importorskip("diffusers.guiders")
T = torch.tensor(0.6, dtype=torch.float64)
TIMES = torch.linspace(0.999999, 0.0, 11, dtype=torch.float64)


@pytest.fixture
def x():
    return torch.randn(2, 3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def predictions():
    """What a network predicts: under the prompt, without it, and with its attention perturbed."""
    return torch.randn(3, 2, 3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).unbind(0)


def ask(make, x, predictions, t, path, kind):
    """The prediction that follows from the guided x0, `make(*denoisers)` being the guidance."""
    denoisers = [make_denoiser(lambda x, t, p=p: p, path, kind) for p in predictions]
    return prediction_of(make(*denoisers)(x, t), x, t, path, PREDICTION_TYPES[kind])


def answer(guider, *predictions, step=5):
    """What diffusers' guider makes of the same predictions at one of ten steps."""
    guider.set_state(step=step, num_inference_steps=len(TIMES) - 1, timestep=torch.tensor(0))
    return guider.forward(**dict(zip(guider._input_predictions, predictions, strict=False))).pred


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize("name", PATHS)
def test_cfg_and_its_rescaling_are_of_what_the_model_predicts(x, predictions, name, kind, share):
    path = PATHS[name]()
    rescale = Rescale(share=share, path=path, prediction_type=kind)
    ours = ask(lambda c, u, _: cfg(c, u, 5.0, rescale=rescale), x, predictions, T, path, kind)
    theirs = answer(guiders.ClassifierFreeGuidance(guidance_scale=5.0, guidance_rescale=share), *predictions[:2])
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_frames_that_are_clean_stay_as_they_are_guided(x, predictions):
    levels = torch.tensor([[0.0, 0.6, 0.6, 0.6]] * 2, dtype=torch.float64)
    path = PATHS["flow"]()
    denoisers = [make_denoiser(lambda x, t, p=p: p, path, "flow_prediction") for p in predictions[:2]]
    rescale = Rescale(share=0.7, path=path, prediction_type="flow_prediction")
    out = cfg(*denoisers, 5.0, rescale=rescale)(x, levels)
    assert out.isfinite().all() and torch.equal(out[:, :, 0], x[:, :, 0])


@pytest.mark.parametrize("scale", [0.0, 1.8, 2.8])
def test_perturbed_attention_has_its_papers_scale(x, predictions, scale):
    path, kind = PATHS["flow"](), "flow_prediction"
    cond, uncond, perturbed = predictions
    guider = guiders.PerturbedAttentionGuidance(
        guidance_scale=1.0,
        perturbed_guidance_scale=scale,
        perturbed_guidance_start=0.0,
        perturbed_guidance_stop=1.0,
        perturbed_guidance_layers=[1],
        use_original_formulation=True,
    )
    ours = ask(lambda c, u, p: pag(c, p, scale), x, predictions, T, path, kind)
    torch.testing.assert_close(ours, cond + scale * (cond - perturbed), rtol=1e-9, atol=1e-9)
    # beside text: their scale in the original formulation is of what is added, ours of `cfg`, which is 1 more
    guider = guider.from_config({**guider.config, "guidance_scale": 3.0})
    both = ask(lambda c, u, p: perturbed_cfg(c, u, p, 4.0, perturbed_scale=scale), x, predictions, T, path, kind)
    torch.testing.assert_close(both, answer(guider, cond, uncond, perturbed), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("step", [0, 1, 2, 9])
@pytest.mark.parametrize("zero_init_steps", [0, 1, 2])
def test_cfg_zero_star(x, predictions, zero_init_steps, step):
    path, kind = PATHS["flow"](), "flow_prediction"
    zero_from = zero_level(TIMES, zero_init_steps)
    ours = ask(lambda c, u, _: cfg_zero(c, u, 5.0, zero_from=zero_from), x, predictions, TIMES[step], path, kind)
    guider = guiders.ClassifierFreeZeroStarGuidance(guidance_scale=5.0, zero_init_steps=zero_init_steps)
    theirs = answer(guider, *predictions[:2], step=step)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # theirs is a sum in float32


@pytest.mark.parametrize("momentum", [0.0, -0.5])
def test_adaptive_projected_guidance_of_predictions_of_x0(x, predictions, momentum):
    path, kind = PATHS["flow"](), "sample"
    # the original formulation counts what is added to the estimate under the prompt, 1 less than ours
    guider = guiders.AdaptiveProjectedGuidance(
        guidance_scale=4.0,
        adaptive_projected_guidance_momentum=momentum or None,
        adaptive_projected_guidance_rescale=2.0,
        eta=0.3,
        use_original_formulation=True,
    )
    denoisers = [make_denoiser(lambda x, t, p=p: p, path, kind) for p in predictions[:2]]
    guided = apg(*denoisers, 5.0, eta=0.3, momentum=momentum, norm_limit=2.0)
    for step in range(3):
        theirs = answer(guider, *predictions[:2], step=step)
        torch.testing.assert_close(guided(x, T), theirs, rtol=1e-6, atol=1e-6)
