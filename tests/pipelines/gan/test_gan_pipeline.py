"""The pipeline of a generator: a clip is its seed and prompt, and what it cannot make is one line."""

import numpy as np
import pytest
import torch

from vidgen.data.reading import read_video
from vidgen.errors import VidgenError
from vidgen.models.gan.config import SplitGeneratorConfig
from vidgen.models.gan.split_generator import SplitGenerator
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.gan.pipeline import GANPipeline
from vidgen.pipelines.loading import load_pipeline
from vidgen.scripts.main import dispatch

SHAPE = {"num_frames": 4, "height": 8, "width": 8, "channels": 8, "noise_channels": 5}


def make_pipeline(text: bool = True) -> GANPipeline:
    torch.manual_seed(0)
    encoder = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)).eval() if text else None
    config = SplitGeneratorConfig(**SHAPE, text_width=16 if text else 0)
    return GANPipeline(SplitGenerator(config).eval(), encoder)


def test_a_clip_is_its_seed_and_prompt():
    pipe = make_pipeline()
    prompts = ["a red circle", "a small blue star moves left"]
    both = pipe(prompts, seed=3, num_videos_per_prompt=2, output_type="pt")
    assert both.frames.shape == (4, 4, 3, 8, 8) and both.fps == 8.0
    again = pipe(prompts[0], seed=3, num_videos_per_prompt=2, output_type="pt")
    assert torch.allclose(again.frames, both.frames[:2], atol=1.01 / 255)
    assert torch.equal(again.latents, both.latents[:2]) and not torch.equal(both.latents[0], both.latents[1])
    for other in (pipe(prompts[0], seed=4), pipe(prompts[1], seed=3)):
        assert not np.array_equal(other.frames[0], pipe(prompts[0], seed=3).frames[0])
    assert pipe(prompts[0], output_type="latent").frames is None
    assert len(pipe(prompts[0], output_type="pil").frames[0]) == 4


def test_a_pipeline_is_saved_and_loaded(tmp_path):
    for text in (True, False):
        pipe = make_pipeline(text)
        pipe.save_pretrained(tmp_path / str(text))
        loaded = GANPipeline.from_pretrained(tmp_path / str(text))
        prompt = "a star" if text else ""
        assert np.array_equal(loaded(prompt).frames[0], pipe(prompt).frames[0])
        assert (loaded.scheduler.num_frames, loaded.scheduler.height, loaded.scheduler.fps) == (4, 8, 8.0)
    with pytest.raises(VidgenError, match="holds a GANPipeline"):
        load_pipeline(str(tmp_path / "True"))
    (tmp_path / "model_index.json").write_text('{"_class_name": "VideoPipeline"}')
    with pytest.raises(VidgenError, match="holds a VideoPipeline, and a generator is wanted"):
        GANPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 5}, "num_frames is 5, and this generator makes clips of 4 alone"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt"),
        ({"output_type": "gif"}, "output_type"),
    ],
)
def test_what_cannot_be_is_one_line(settings, message):
    with pytest.raises(VidgenError, match=message):
        make_pipeline()("a star", **settings)


def test_a_generator_without_text_reads_none():
    with pytest.raises(VidgenError, match="reads no text"):
        make_pipeline(text=False)("a star")
    with pytest.raises(VidgenError, match="text of width 0 has no use for an encoder of width 16"):
        GANPipeline(make_pipeline(text=False).generator, make_pipeline().text_encoder)


def test_vidgen_sample_takes_it(tmp_path, capsys):
    make_pipeline().save_pretrained(tmp_path / "gan")
    words = ["sample", "a red circle", "--model", str(tmp_path / "gan"), "--seed", "3"]
    assert dispatch([*words, "-o", str(tmp_path / "x.mkv")]) == 0, capsys.readouterr().err
    want = make_pipeline()("a red circle", seed=3).frames[0]
    assert read_video(tmp_path / "x.mkv").frames.shape == want.shape
    capsys.readouterr()
    for more, message in (
        (["--temperature", "0.5"], "--temperature says nothing to a generator in one pass"),
        (["--negative-prompt", "grey"], "--negative-prompt says nothing to a generator in one pass"),
        (["--output-type", "latent"], "has no latents to write"),
    ):
        assert dispatch([*words, "-o", str(tmp_path / "y"), *more]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "y").exists()
