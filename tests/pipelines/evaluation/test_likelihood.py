"""Likelihood of clips whose distribution is known."""

import math

import torch

from vidgen.pipelines.evaluation.likelihood import bits_per_dimension


def test_clips_of_a_chain_are_as_probable_as_it_says(chain, chain_pipe):
    pipe, count = chain_pipe(8), 3 * 8 * 8  # chains a clip
    root = torch.linalg.cholesky(chain.covariance(3)).float()
    noise = torch.randn(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    likely = torch.einsum("s t, b c t h w -> b c s h w", root, noise)
    clips = torch.stack([likely[0], 2.0 * likely[0], noise[1]])  # of the chain, too large, without its correlation
    law = torch.distributions.MultivariateNormal(torch.zeros(3), chain.covariance(3).float())
    truth = -law.log_prob(clips.movedim(2, -1)).flatten(1).sum(1) / (math.log(2.0) * 3 * count)
    bits = bits_per_dimension(pipe, clips, [""] * 3, probes=8)
    torch.testing.assert_close(bits, truth, atol=0.05, rtol=0)
    assert bits[0] < bits[1] and bits[0] < bits[2]
    torch.testing.assert_close(bits_per_dimension(pipe, clips[1:], [""] * 2, probes=8)[1:], bits[2:], atol=0.05, rtol=0)
