"""Text encoders: bytes in, tokens out, padding unseen; transformers' own models through the same interface."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.text.encoders import BYTES, START, STOP, ByteTextConfig, ByteTextEncoder
from vidgen.models.text.transformers_encoder import TransformersTextEncoder


@pytest.fixture(scope="module")
def encoder() -> ByteTextEncoder:
    torch.manual_seed(0)
    return ByteTextEncoder(ByteTextConfig(width=32, depth=2, head_dim=16, max_bytes=40)).double().eval()


def test_ids_are_the_bytes(encoder):
    ids, mask = encoder.to_ids(["Aé", ""])
    assert ids[0].tolist() == [START, 97 + BYTES, 0xC3 + BYTES, 0xA9 + BYTES, STOP]
    assert mask.tolist() == [[True] * 5, [True, True, False, False, False]]


def test_padding_changes_nothing(encoder):
    alone = encoder(["a red circle"])
    together = encoder(["a red circle", "a much longer prompt than the first"])
    n = alone.tokens.shape[1]
    assert torch.allclose(together.tokens[:1, :n], alone.tokens, atol=1e-12)
    assert torch.allclose(together.pooled()[:1], alone.pooled(), atol=1e-12)


def test_case_and_spaces_do_not_matter(encoder):
    assert torch.equal(encoder(["A  Red\tCircle "]).tokens, encoder(["a red circle"]).tokens)


def test_too_long_a_prompt_is_refused(encoder):
    with pytest.raises(VidgenError, match="41 bytes is too long, 40 at most"):
        encoder(["x" * 41])


def make_folder(kind: str, folder):
    """A tiny checkpoint with transformers' own classes."""
    import transformers as tf
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", "a", "red", "circle", "moves"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    if kind == "clip":
        config = tf.CLIPTextConfig(
            vocab_size=7, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=0,
        )  # fmt: skip
        model = tf.CLIPTextModel(config)
    else:
        sizes = dict(vocab_size=7, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
        config, model_class = (tf.T5Config, tf.T5EncoderModel) if kind == "t5" else (tf.UMT5Config, tf.UMT5EncoderModel)
        model = model_class(config(**sizes))
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("kind", ["t5", "umt5", "clip"])
def test_transformers_encoders(kind, tmp_path):
    model = make_folder(kind, tmp_path)
    encoder = TransformersTextEncoder.from_pretrained(tmp_path)
    encoding = encoder(["a red circle moves", "a"])
    assert encoding.tokens.shape == (2, 4, 32) and encoder.width == 32
    assert encoding.mask.sum(1).tolist() == [4, 1]
    ids = torch.tensor([[3, 4, 5, 6]])
    reference = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert torch.allclose(encoding.tokens[:1], reference, atol=1e-5)


def test_transformers_encoders_are_saved_as_they_are(tmp_path):
    make_folder("t5", tmp_path / "one")
    encoder = TransformersTextEncoder.from_pretrained(tmp_path / "one")
    encoder.save_pretrained(tmp_path / "two")
    again = TransformersTextEncoder.from_pretrained(tmp_path / "two")
    assert torch.equal(again(["a red circle"]).tokens, encoder(["a red circle"]).tokens)


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(VidgenError, match="config.json is missing: not a model folder"):
        TransformersTextEncoder.from_pretrained(tmp_path)


def test_an_encoder_that_overflows_is_named_with_the_layer(tmp_path):
    make_folder("t5", tmp_path)
    encoder = TransformersTextEncoder.from_pretrained(tmp_path, dtype=torch.float16)
    assert encoder(["a red circle"]).tokens.isfinite().all()
    encoder.model.encoder.block[0].layer[1].DenseReluDense.wi.weight.fill_(6e4)
    with pytest.raises(
        VidgenError, match="text encoder T5EncoderModel gave .* in float16, first in encoder.block.0.layer.1"
    ):
        encoder(["a red circle"])
