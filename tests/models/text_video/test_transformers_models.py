"""CLIP, SigLIP and X-CLIP: what we score is what transformers' own forward scores, on the same weights."""

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.interfaces import TextVideoEncoder
from vidgen.models.text_video.loading import load_text_video_encoder

VISION = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
)
CLIP_LIKE = dict(projection_dim=12)
X_CLIP = dict(
    num_frames=3, mit_hidden_size=12, mit_intermediate_size=24, mit_num_hidden_layers=1, mit_num_attention_heads=2
)
# By type: the class, its processor, settings beside those of its two towers, and what the vision tower has beside.
MODELS = {
    "clip": ("CLIPModel", "CLIPImageProcessor", CLIP_LIKE, {}),
    "siglip": ("SiglipModel", "SiglipImageProcessor", {}, {}),
    "xclip": (
        "XCLIPModel", "VideoMAEImageProcessor",
        {**CLIP_LIKE, "prompt_layers": 2, "prompt_num_attention_heads": 2}, X_CLIP,
    ),
}  # fmt: skip
TEXTS = ["a red circle", "the blue square moves left", "star"]


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    """8-bit frames (4, 3, 32, 32, 3) of four clips."""
    return torch.randint(0, 256, (4, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_text):
    import transformers

    places = {}
    for kind, (name, processor, settings, vision) in MODELS.items():
        folder = places[kind] = tmp_path_factory.mktemp(kind)
        network_class = getattr(transformers, name)
        text = {**tiny_text.TEXT, "projection_size": 16}
        torch.manual_seed(0)
        config = network_class.config_class(text_config=text, vision_config={**VISION, **vision}, **settings)
        network = network_class(config).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        network.save_pretrained(folder)
        size = {"size": {"height": 32, "width": 32}} if kind != "clip" else {"size": {"shortest_edge": 32}}
        getattr(transformers, processor)(**size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
        tiny_text.write_tokenizer(folder)
    return places


@torch.no_grad()
def their_scores(kind, folder, clips, texts):
    """Cosines (texts, clips) by transformers' tokenizer, processor and forward."""
    import transformers

    name, processor, *_ = MODELS[kind]
    network = getattr(transformers, name).from_pretrained(folder).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
    ids = words(texts, return_tensors="pt", **padding)
    if kind == "siglip":
        del ids["attention_mask"]
    ids.pop("token_type_ids", None)
    if kind == "xclip":
        videos = [list(clip.numpy()) for clip in clips]
        (pixels,) = transformers.AutoVideoProcessor.from_pretrained(folder)(videos=videos, return_tensors="pt").values()
        out = network(pixel_values=pixels, **ids)
        return out.logits_per_text / network.logit_scale.exp()
    frames = [frame for clip in clips for frame in clip.numpy()]
    pixels = getattr(transformers, processor).from_pretrained(folder)(images=frames, return_tensors="pt")[
        "pixel_values"
    ]
    out = network(pixel_values=pixels, **ids)
    images = F.normalize(out.image_embeds, dim=-1).unflatten(0, (4, 3)).mean(1)
    return F.normalize(out.text_embeds, dim=-1) @ F.normalize(images, dim=-1).T


@pytest.mark.parametrize("kind", MODELS)
def test_scores_are_those_of_transformers(folders, clips, kind):
    encoder = load_text_video_encoder(folders[kind])
    assert isinstance(encoder, TextVideoEncoder)
    video = clips.permute(0, 4, 1, 2, 3) / 127.5 - 1
    with torch.no_grad():
        scores = encoder.score(encoder.embed_texts(TEXTS), encoder.embed_videos(video))
    torch.testing.assert_close(scores, their_scores(kind, folders[kind], clips, TEXTS), rtol=1e-4, atol=1e-5)
    assert scores.std() > 0.01


@pytest.mark.parametrize("kind", MODELS)
def test_a_text_and_a_clip_do_not_depend_on_their_batch(folders, clips, kind):
    encoder = load_text_video_encoder(folders[kind])
    video = clips.permute(0, 4, 1, 2, 3) / 127.5 - 1
    with torch.no_grad():
        whole = encoder.score(encoder.embed_texts(TEXTS), encoder.embed_videos(video))
        one = encoder.score(encoder.embed_texts(TEXTS[1:2]), encoder.embed_videos(video[2:3]))
    torch.testing.assert_close(one, whole[1:2, 2:3], rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_one_line(folders, clips, tmp_path):
    video = clips.permute(0, 4, 1, 2, 3) / 127.5 - 1
    with pytest.raises(VidgenError, match="XCLIPModel takes clips of 3 frames, not 2"):
        load_text_video_encoder(folders["xclip"]).embed_videos(video[:, :, :2])
    with pytest.raises(VidgenError, match="too long, 16 at most"):
        load_text_video_encoder(folders["clip"]).embed_texts(["a " * 40])
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(VidgenError, match="holds a bert model"):
        load_text_video_encoder(tmp_path)
    with pytest.raises(VidgenError, match="no encoder of texts and clips"):
        load_text_video_encoder("encoder")
