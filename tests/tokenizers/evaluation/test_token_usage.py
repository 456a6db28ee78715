"""Tokens as streams and what is said of their use: known indices have known entropies."""

import numpy as np
import pytest
import torch

from vidgen.tokenizers.evaluation.token_usage import TokenCount, symbol_streams


def test_streams_keep_the_order_of_time_and_codebooks() -> None:
    indices = torch.arange(2 * 3 * 4 * 5 * 2).reshape(1, 6, 4, 5, 2)
    books = symbol_streams(list(indices.split([2, 3, 1], dim=1)))
    assert books.shape == (2, 120) and books.T.reshape(-1).tolist() == indices.flatten().tolist()
    flat = indices[..., 0]
    assert np.array_equal(symbol_streams([flat[:, :1], flat[:, 1:]]), books[:1])


def test_usage_perplexity_and_bits(frame_tokenizer) -> None:
    tokenizer = frame_tokenizer()
    assert TokenCount(tokenizer).report() is None
    tokenizer.bottleneck.codebook_size = 16
    count = TokenCount(tokenizer)
    # First codebook: 8 of 16 codes equally often over both clips; second: one code only.
    for low in (0, 4):
        first = torch.arange(64).remainder(4).reshape(1, 4, 4, 4) + low
        count.add([torch.stack([first, torch.full_like(first, 7)], dim=-1)])
    report = count.report()
    assert (report["codebook_size"], report["bits"], report["tokens"]) == (16, 4, 128)
    assert report["usage"] == [0.5, 1 / 16]
    assert report["perplexity"] == pytest.approx([8, 1]) and report["bits_per_token"] == pytest.approx([3, 0])
