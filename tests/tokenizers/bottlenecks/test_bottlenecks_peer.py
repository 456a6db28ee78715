"""Beside vector-quantize-pytorch on the same weights and inputs: the same codes, the same indices, the same entropy."""

import pytest
import torch
from einops import rearrange

from vidgen.tokenizers.bottlenecks import build_bottleneck


def draw(channels: int, seed: int = 0) -> torch.Tensor:
    """(2, channels, 3, 16, 16)."""
    return 2 * torch.randn(2, channels, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("levels", [(8, 8, 8, 5, 5, 5), (8, 5, 5, 5), (7, 5, 5, 5, 5), (3, 4, 9, 16)])
def test_fsq(levels):
    from vector_quantize_pytorch import FSQ

    h = draw(len(levels))
    codes, indices = FSQ(levels=list(levels)).eval()(h)
    out = build_bottleneck("fsq", len(levels), levels=levels)(h)
    assert torch.equal(out.indices, indices.long())
    assert torch.equal(out.latents, codes)


@pytest.mark.parametrize("spherical", [False, True], ids=["lfq", "bsq"])
def test_signs(spherical):
    from vector_quantize_pytorch import LFQ

    h = draw(10)
    # It counts bits from the last channel, the paper (and we) from the first.
    peer = LFQ(dim=10, spherical=spherical).eval()(h.flip(1))
    out = build_bottleneck("bsq" if spherical else "lfq", 10)(h)
    assert torch.equal(out.indices, peer.indices.long())
    torch.testing.assert_close(out.latents, peer.quantized.flip(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("channels", [4, 8])
def test_entropy_of_lfq(channels):
    from vector_quantize_pytorch import LFQ

    h = 0.2 * draw(channels)
    _, peer = LFQ(dim=channels).train()(h, inv_temperature=1.0, return_loss_breakdown=True)
    loss = build_bottleneck("lfq", channels)(h).losses["entropy"]
    torch.testing.assert_close(loss, peer.per_sample_entropy - peer.batch_entropy, rtol=0, atol=2e-4)


def test_nearest_neighbours():
    from vector_quantize_pytorch import VectorQuantize

    h = draw(6)
    peer = VectorQuantize(dim=6, codebook_size=300).eval()
    peer._codebook.embed.normal_(generator=torch.Generator().manual_seed(1))
    ours = build_bottleneck("vq", 6, codebook_size=300).eval()
    ours.codebook.vectors.copy_(peer.codebook)
    codes, indices, _ = peer(rearrange(h, "b c t h w -> b (t h w) c"))
    out = ours(h)
    assert torch.equal(out.indices, indices.reshape(2, 3, 16, 16))
    assert torch.equal(rearrange(out.latents, "b c t h w -> b (t h w) c"), codes)


def test_nearest_neighbours_of_what_is_left():
    from vector_quantize_pytorch import ResidualVQ

    h = draw(6)
    peer = ResidualVQ(dim=6, codebook_size=64, num_quantizers=3).eval()
    ours = build_bottleneck("residual", 6, codebook_size=64, quantizers=3).eval()
    for i, (theirs, book) in enumerate(zip(peer.layers, ours.codebooks, strict=True)):
        theirs._codebook.embed.normal_(std=0.5**i, generator=torch.Generator().manual_seed(i))
        book.vectors.copy_(theirs.codebook)
    codes, indices, _ = peer(rearrange(h, "b c t h w -> b (t h w) c"))
    out = ours(h)
    assert torch.equal(out.indices, indices.reshape(2, 3, 16, 16, 3))
    torch.testing.assert_close(rearrange(out.latents, "b c t h w -> b (t h w) c"), codes)
