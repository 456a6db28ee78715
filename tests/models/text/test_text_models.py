"""Text models of transformers: hidden states are transformers' own, whatever heads the folder has beside the body."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgen.errors import VidgenError
from vidgen.models.text.text_models import TEXT_MODELS
from vidgen.models.text.transformers_encoder import TransformersTextEncoder

PROMPTS = ["a red circle moves right", "a star", "a red circle moves right"]
QUICK = ("t5", "clip_text_model", "siglip_text_model", "bert", "roberta", "distilbert", "modernbert", "gpt2")
WHOLE = {"clip", "siglip", "siglip2"}  # of pictures and text: the text part is that of the type beside it


def body(model):
    """The part of a model of transformers that gives hidden states."""
    if hasattr(model, "get_encoder") and model.config.is_encoder_decoder:
        return model.get_encoder()
    return getattr(model, "text_model", model.base_model) if hasattr(model, "text_model") else model.base_model


def reference(model, folder, prompts):
    """Hidden states and mask of every prompt by itself, as transformers' classes give them."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    rows = []
    for prompt in prompts:
        full = dict(padding="max_length", max_length=16) if "siglip" in model.config.model_type else {}
        ids = words(prompt, return_tensors="pt", **full)["input_ids"]
        with torch.no_grad():
            rows.append(body(model)(input_ids=ids, output_hidden_states=True))
    return rows


def test_every_type_is_tried(tiny_text):
    assert set(tiny_text.MODELS) | WHOLE == set(TEXT_MODELS)


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow)
        for kind in TEXT_MODELS
        if kind not in WHOLE
    ],
)
def test_hidden_states_are_those_of_transformers(kind, tmp_path, tiny_text):
    model = tiny_text.write_text_model(kind, tmp_path)
    encoder = TransformersTextEncoder.from_pretrained(tmp_path)
    layers = encoder.encode_layers(PROMPTS)
    text = encoder(PROMPTS)
    assert len(layers) == encoder.depth + 1 == 4 and encoder.width == 16
    assert torch.equal(layers[-1].tokens, text.tokens) and torch.equal(text.tokens[0], text.tokens[2])
    for row, theirs in enumerate(reference(model, tmp_path, PROMPTS)):
        n = theirs.last_hidden_state.shape[1]
        assert text.mask[row].tolist() == [True] * n + [False] * (text.mask.shape[1] - n)
        torch.testing.assert_close(text.tokens[row, :n], theirs.last_hidden_state[0], atol=1e-6, rtol=1e-5)
        for ours, state in zip(layers[:-1], theirs.hidden_states[:-1], strict=True):
            torch.testing.assert_close(ours.tokens[row, :n], state[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["t5", "bert", "gpt2"])
def test_what_is_saved_is_loaded_the_same(kind, tmp_path, tiny_text):
    tiny_text.write_text_model(kind, tmp_path / "one")
    encoder = TransformersTextEncoder.from_pretrained(tmp_path / "one")
    encoder.save_pretrained(tmp_path / "two")
    again = TransformersTextEncoder.from_pretrained(tmp_path / "two")
    assert torch.equal(again(PROMPTS).tokens, encoder(PROMPTS).tokens)


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_the_text_part_of_a_model_of_pictures(kind, tmp_path, tiny_text):
    import transformers as tf

    name = {"siglip": "Siglip", "clip": "CLIP"}[kind]
    model = tiny_text.write_text_model(f"{kind}_text_model", tmp_path)
    text = model.config.to_dict()
    seen = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=8)
    config = getattr(tf, f"{name}Config")(text_config=text, vision_config={**seen, "patch_size": 4}, projection_dim=16)
    whole = getattr(tf, f"{name}Model")(config).eval()
    whole.save_pretrained(tmp_path)
    encoder = TransformersTextEncoder.from_pretrained(tmp_path)
    theirs = whole.text_model(input_ids=encoder.to_ids(["a red star"])[0]).last_hidden_state
    torch.testing.assert_close(encoder(["a red star"]).tokens, theirs, atol=1e-6, rtol=1e-5)


def test_bert_under_its_first_names(tmp_path, tiny_text):
    tiny_text.write_text_model("bert", tmp_path)
    want = TransformersTextEncoder.from_pretrained(tmp_path)(PROMPTS).tokens
    file = tmp_path / "model.safetensors"
    former = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = load_file(file)
    for new, old in former.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    save_file(tensors, file)
    assert torch.equal(TransformersTextEncoder.from_pretrained(tmp_path)(PROMPTS).tokens, want)


def test_tensors_of_another_width_are_refused(tmp_path, tiny_text):
    tiny_text.write_text_model("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    with pytest.raises(VidgenError, match=r"has shape \(24,\), the config asks for \(32,\)"):
        TransformersTextEncoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(VidgenError, match=r"missing \['bert.encoder.layer.3.*wrong model"):
        TransformersTextEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(("kind", "limit"), [("roberta", 32), ("bert", 32), ("clip_text_model", 16)])
def test_the_longest_prompt_is_taken_and_a_longer_one_is_refused(kind, limit, tmp_path, tiny_text):
    tiny_text.write_text_model(kind, tmp_path)
    encoder = TransformersTextEncoder.from_pretrained(tmp_path)
    assert encoder([" ".join(["a"] * (limit - 2))]).tokens.shape[1] == limit
    with pytest.raises(VidgenError, match=f"prompt of {limit + 1} tokens is too long, {limit} at most"):
        encoder([" ".join(["a"] * (limit - 1))])


def test_words_of_another_model_are_refused(tmp_path, tiny_text):
    tiny_text.write_text_model("bert", tmp_path, vocab_size=6)
    with pytest.raises(VidgenError, match="tokenizer gives token 18, and its model has fewer; copy both anew"):
        TransformersTextEncoder.from_pretrained(tmp_path)(["a turn"])
