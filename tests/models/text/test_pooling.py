"""Pooling against closed forms by hand: a batch of two texts of three and two tokens."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder, TextEncoding
from vidgen.models.text.pooling import POOLINGS, Pooling, cut_dimensions
from vidgen.models.text.sentence_encoder import SentenceEncoder

TOKENS = torch.tensor([[[1.0, -2.0], [3.0, 0.0], [5.0, 8.0]], [[2.0, -4.0], [4.0, -6.0], [99.0, 99.0]]])
MASK = torch.tensor([[True, True, True], [True, True, False]])
BY_HAND = {
    "cls": [[1.0, -2.0], [2.0, -4.0]],
    "max": [[5.0, 8.0], [4.0, -4.0]],
    "mean": [[3.0, 2.0], [3.0, -5.0]],
    "mean_sqrt": [[9 / 3**0.5, 6 / 3**0.5], [6 / 2**0.5, -10 / 2**0.5]],
    "weighted": [[(1 + 6 + 15) / 6, (-2 + 24) / 6], [(2 + 8) / 3, (-4 - 12) / 3]],
    "last": [[5.0, 8.0], [4.0, -6.0]],
}


def test_every_pooling_has_its_closed_form():
    assert set(BY_HAND) == set(POOLINGS)


@pytest.mark.parametrize("mode", BY_HAND)
def test_pooling_by_hand(mode):
    got = POOLINGS[mode](TOKENS, MASK)
    torch.testing.assert_close(got, torch.tensor(BY_HAND[mode]))
    assert torch.equal(POOLINGS[mode](TOKENS.masked_fill(~MASK[..., None], -7.0), MASK), got)  # padding is not seen


def test_several_ways_are_put_end_to_end():
    text = TextEncoding(tokens=TOKENS, mask=MASK)
    both = Pooling(modes=("cls", "mean")).pool(text)
    torch.testing.assert_close(both, torch.tensor([[1.0, -2.0, 3.0, 2.0], [2.0, -4.0, 3.0, -5.0]]))


def test_first_and_last_layer_of_the_byte_encoder():
    torch.manual_seed(0)
    encoder = ByteTextEncoder(ByteTextConfig(width=16, depth=3, head_dim=8)).eval()
    layers = encoder.encode_layers(["a red star", "up"])
    assert len(layers) == encoder.depth + 1 and torch.equal(layers[-1].tokens, encoder(["a red star", "up"]).tokens)
    whole = SentenceEncoder(encoder, Pooling(layers=(1, -1)))
    want = (layers[1].pooled() + layers[-1].pooled()) / 2
    torch.testing.assert_close(whole.embed(["a red star", "up"]), want)
    with pytest.raises(VidgenError, match="layer 4 of a text encoder of layers 0 to 3"):
        SentenceEncoder(encoder, Pooling(layers=(4,))).embed(["up"])


def test_vectors_do_not_depend_on_batch_or_order():
    torch.manual_seed(0)
    whole = SentenceEncoder(ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=8)).double().eval())
    texts = ["a much longer sentence than others", "up", "a star turns", "", "down and up"]
    alone = torch.cat([whole.embed([text]) for text in texts])
    torch.testing.assert_close(whole.embed(texts, batch_size=2), alone, atol=1e-12, rtol=0)
    assert whole.embed([]).shape == (0, 16)


def test_fewer_dimensions_stay_with_another_pooling():
    encoder = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=8)).eval()
    both = Pooling(modes=("mean", "max"))
    assert SentenceEncoder(encoder).with_changes(pooling=both).embed(["up"]).shape == (1, 32)
    assert SentenceEncoder(encoder, dim=5).with_changes(pooling=both).embed(["up"]).shape == (1, 5)
    assert SentenceEncoder(encoder, dim=5).with_changes(dim=7).embed(["up"]).shape == (1, 7)


def test_fewer_dimensions_are_the_first_of_unit_length():
    x = torch.tensor([[3.0, 4.0, 12.0]])
    assert cut_dimensions(x, 2).tolist() == [[3.0, 4.0]]
    torch.testing.assert_close(cut_dimensions(x, 2, normalize=True), torch.tensor([[0.6, 0.8]]))
    with pytest.raises(VidgenError, match="dimension 4 of vectors of 3"):
        cut_dimensions(x, 4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"modes": ("median",)}, "pooling 'median' is none; choose of cls"), ({"layers": ()}, "layers .* are none")],
)
def test_what_is_no_pooling_is_refused(settings, says):
    with pytest.raises(VidgenError, match=says):
        Pooling(**settings)
