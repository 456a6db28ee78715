"""DualEncoder: saved and loaded to the bit, a folder of its encoder of clips, parts of a clip as the whole of them."""

import json

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.interfaces import TextVideoEncoder
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.models.text_video.dual_encoder import DualEncoder
from vidgen.models.text_video.heads import JointHeads, JointHeadsConfig, mean_of_frames
from vidgen.models.text_video.loading import load_text_video_encoder

TEXTS = ["a red circle", "the small blue square moves left", "star"]


def make_dual_encoder(**heads) -> DualEncoder:
    torch.manual_seed(0)
    shape = {"video_width": 24, "text_width": 16, "width": 20, "head_dim": 8}
    model = DualEncoder(
        video=VideoViT(VideoViTConfig(patch=(2, 8, 8), width=24, depth=1, head_dim=8, clip=(4, 16, 16))),
        text=ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=8)),
        heads=JointHeads(JointHeadsConfig(**{**shape, **heads})),
    )
    return model.eval().requires_grad_(False)


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(3, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_saved_and_loaded(tmp_path, video):
    model = make_dual_encoder()
    model.save_pretrained(tmp_path / "dual")
    loaded = load_text_video_encoder(tmp_path / "dual")
    assert isinstance(loaded, TextVideoEncoder) and (loaded.num_frames, loaded.height, loaded.fps) == (4, 16, 8.0)
    for one, other in zip(
        (model.embed_videos(video), model.embed_texts(TEXTS)),
        (loaded.embed_videos(video), loaded.embed_texts(TEXTS)),
        strict=True,
    ):
        assert torch.equal(one.vectors, other.vectors) and torch.equal(one.tokens, other.tokens)
    assert torch.equal(loaded.logit_scale, model.logit_scale)
    tower = VideoViT.from_pretrained(tmp_path / "dual")  # what `vidgen extract` reads
    assert torch.equal(tower(video), model.video(video))


def test_vectors_and_tokens_are_of_unit_length(video):
    model = make_dual_encoder()
    for part in (model.embed_videos(video), model.embed_texts(TEXTS)):
        torch.testing.assert_close(part.vectors.norm(dim=-1), torch.ones(3))
        torch.testing.assert_close(part.tokens.norm(dim=-1)[part.mask], torch.ones(int(part.mask.sum())))
    assert model.embed_videos(video).tokens.shape == (3, 2, 20)  # two tubes in time


def test_all_tokens_in_another_order_are_the_clip(video):
    model = make_dual_encoder()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1)).expand(3, -1)
    whole, shuffled = model.embed_videos(video), model.embed_videos(video, order)
    torch.testing.assert_close(whole.vectors, shuffled.vectors)
    torch.testing.assert_close(whole.tokens, shuffled.tokens)
    half = model.embed_videos(video, torch.tensor([[0, 3], [1, 2], [0, 1]]))
    assert half.mask.tolist() == [[True, False]] * 3  # of the first tube alone


def test_the_mean_of_a_frame_is_of_the_tokens_that_are_there():
    tokens = torch.arange(6.0)[None, :, None]
    means, mask = mean_of_frames(tokens[:, [0, 1, 5]], 3, 2, torch.tensor([[0, 1, 5]]))
    assert means[0, :, 0].tolist() == [0.5, 0.0, 5.0] and mask[0].tolist() == [True, False, True]


def test_a_text_does_not_depend_on_its_batch():
    model = make_dual_encoder()
    together, alone = model.embed_texts(TEXTS), model.embed_texts(TEXTS[:1])
    torch.testing.assert_close(together.vectors[:1], alone.vectors)
    torch.testing.assert_close(together.tokens[:1][together.mask[:1]], alone.tokens[0])


def test_a_text_encoder_that_stays_is_in_no_folder(tmp_path, video):
    ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=8)).save_pretrained(tmp_path / "words")
    torch.manual_seed(0)
    text = ByteTextEncoder.from_pretrained(tmp_path / "words")
    shape = {"video_width": 24, "text_width": 16, "text_blocks": 1, "text_block_width": 24, "width": 20, "head_dim": 8}
    heads = JointHeads(JointHeadsConfig(text_encoder=str(tmp_path / "words"), **shape))
    model = DualEncoder(video=make_dual_encoder().video, text=text, heads=heads).eval()
    assert not any(name.startswith("text.") for name in model.state_dict())
    model.save_pretrained(tmp_path / "dual")
    assert not (tmp_path / "dual" / "text").exists()
    with torch.no_grad():
        loaded = load_text_video_encoder(tmp_path / "dual")
        assert torch.equal(loaded.embed_texts(TEXTS).vectors, model.embed_texts(TEXTS).vectors)


def test_what_does_not_fit_is_one_line(tmp_path):
    with pytest.raises(VidgenError, match=r"heads for tokens of 24 and 96 channels do not fit towers of \(24, 16\)"):
        make_dual_encoder(text_width=96)
    with pytest.raises(VidgenError, match="no heads for texts"):
        make_dual_encoder().video.save_pretrained(tmp_path / "vit")
        DualEncoder.from_pretrained(tmp_path / "vit")
    make_dual_encoder().save_pretrained(tmp_path / "dual")
    config = json.loads((tmp_path / "dual" / "heads" / "config.json").read_text())
    (tmp_path / "dual" / "heads" / "config.json").write_text(json.dumps({**config, "interaction": "telepathy"}))
    with pytest.raises(VidgenError, match="interaction"):
        load_text_video_encoder(tmp_path / "dual")
