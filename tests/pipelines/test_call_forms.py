"""The call under diffusers' names: the same clip whichever form an argument or a result has."""

import base64
import inspect
import re

import numpy as np
import pytest
import torch

import vidgen
from vidgen.data.reading import read_video
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.pipelines.output import PipelineOutput
from vidgen.samplers.solvers import SAMPLERS

FAST = dict(num_frames=6, height=32, width=16, num_inference_steps=3, guidance_scale=3.0)


def test_one_generator_is_the_first_of_a_list_and_serves_all_clips(pipe):
    def latents(generator, prompts=1):
        return pipe(["a star"] * prompts, generator=generator, output_type="latent", **FAST).latents

    alone = latents([sample_generator(0)])
    assert torch.equal(latents(sample_generator(0)), alone)
    two = latents(sample_generator(0), 2)
    assert torch.allclose(two[:1], alone, atol=1e-5) and not torch.allclose(two[0], two[1], atol=1e-2)


def test_encoded_prompts_give_the_clips_of_the_prompts(pipe):
    settings = {"num_videos_per_prompt": 2, "output_type": "latent", **FAST}
    plain = pipe(["a star", "a red circle"], negative_prompt="blue", **settings).latents
    text, negative = pipe.encode_prompt(["a star", "a red circle"]), pipe.encode_prompt("blue")
    again = pipe(prompt_embeds=text, negative_prompt_embeds=negative, **settings).latents
    assert torch.allclose(again, plain, atol=1e-5)
    bare = pipe(prompt_embeds=pipe.encode_prompt("a star").tokens, output_type="latent", **FAST).latents
    assert torch.allclose(bare, pipe("a star", output_type="latent", **FAST).latents, atol=1e-5)


def test_types_of_frames_hold_the_same_pixels(pipe, tmp_path):
    outs = {kind: pipe(["a star", "a ring"], output_type=kind, **FAST) for kind in ("np", "pt", "pil")}
    clips = outs["np"].frames
    assert outs["pt"].frames.shape == (2, 6, 3, 32, 16) and outs["pil"].frames[0][0].size == (16, 32)
    for out in outs.values():
        assert all(np.array_equal(clip, own) for clip, own in zip(out.arrays(), clips, strict=True))
    paths = outs["pt"].save(tmp_path / "clip.mkv")  # lossless
    assert [path.name for path in paths] == ["clip-0.mkv", "clip-1.mkv"]
    assert all(np.array_equal(read_video(path).frames, own) for path, own in zip(paths, clips, strict=True))
    assert pipe("a star", **FAST).save(tmp_path / "one.mkv") == [tmp_path / "one.mkv"]


def test_outputs_are_read_by_name_by_number_and_as_a_tuple(pipe):
    out = pipe("a star", **FAST)
    assert out["frames"] is out.frames and out[0] is out.frames and out.keys() == ["frames", "latents", "fps"]
    frames, latents, fps = pipe("a star", return_dict=False, **FAST)
    assert np.array_equal(frames[0], out.frames[0]) and torch.equal(latents, out.latents) and fps == out.fps
    with pytest.raises(KeyError, match="videos"):
        out["videos"]


def test_outputs_show_themselves(pipe):
    out = pipe(["a star", "a ring"], **FAST)
    assert repr(out) == f"PipelineOutput(2 clips of 6 frames, 32x16, {out.fps:g} fps)"
    files = re.findall(r'src="data:video/mp4;base64,([^"]+)"', out._repr_html_())
    assert len(files) == 2 and all(base64.b64decode(file)[4:8] == b"ftyp" for file in files)
    bare = PipelineOutput(frames=None, latents=out.latents, fps=8.0)
    assert bare._repr_html_() is None and "latents of 2 clips" in repr(bare)
    with pytest.raises(VidgenError, match="latents and no frames"):
        bare.save("clip.mp4")


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "rk45"])
def test_diffusers_callbacks_see_every_step_and_may_change_the_clip(pipe, sampler):
    calls = []

    def stop_moving(pipeline, step, timestep, callback_kwargs):
        calls.append((pipeline is pipe, step, float(timestep), sorted(callback_kwargs)))
        return {"latents": torch.zeros_like(callback_kwargs["latents"])}

    settings = {"sampler": sampler, "output_type": "latent", **FAST}
    out = pipe("a star", callback_on_step_end=stop_moving, **settings)
    levels = pipe.time_for(pipe.latent_shape(6, 32, 16)).steps(3)
    assert calls == [(True, i, 1000.0 * float(levels[i]), ["latents"]) for i in range(3)]
    assert not out.latents.any()  # the last step's clip is what the callback returned


def test_a_callback_class_of_diffusers_says_which_tensors_it_wants(pipe):
    from diffusers.callbacks import PipelineCallback  # here: it takes seconds

    class Look(PipelineCallback):
        tensor_inputs = ["latents", "x0"]

        def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
            shapes.append([tuple(callback_kwargs[name].shape) for name in self.tensor_inputs])
            return callback_kwargs

    shapes = []
    plain = pipe("a star", output_type="latent", **FAST).latents
    seen = pipe("a star", output_type="latent", callback_on_step_end=Look(), **FAST).latents
    assert shapes == [[tuple(plain.shape)] * 2] * 3 and torch.equal(seen, plain)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompt": None}, "give prompt or prompt_embeds, one of the two"),
        ({"prompt_embeds": torch.zeros(1, 3, 16)}, "one of the two"),
        (
            {"prompt": None, "prompt_embeds": torch.zeros(1, 3, 5)},
            r"prompt_embeds are \(1, 3, 5\).*\(prompts, tokens, 16\)",
        ),
        ({"callback_on_step_end": lambda step: None}, "callback_on_step_end takes"),
        (
            {"callback_on_step_end": lambda p, i, t, k: k, "callback_on_step_end_tensor_inputs": ["text"]},
            "tensor_inputs text: there are latents, x0",
        ),
    ],
)
def test_forms_that_cannot_be_are_named(pipe, change, says):
    with pytest.raises(VidgenError, match=says):
        pipe(**{"prompt": "a star", **FAST, **change})


def test_pipelines_move_and_describe_themselves(pipe):
    assert pipe.to(torch.float64) is pipe and pipe.dtype == torch.float64 and pipe.vae.dtype == torch.float64
    assert pipe.to("cpu", torch.float32).device == torch.device("cpu") and pipe.dtype == torch.float32
    lines = repr(pipe).splitlines()
    assert lines[0] == "VideoPipeline on cpu" and "VideoDiT" in lines[2] and "guidance" in lines[-1]
    assert list(pipe.components) == ["vae", "transformer", "text_encoder", "scheduler"]


def test_the_call_takes_the_names_of_diffusers_text_to_video(pipe):
    from diffusers import DiffusionPipeline, WanPipeline

    theirs = inspect.signature(WanPipeline.__call__).parameters
    ours = inspect.signature(type(pipe).__call__).parameters
    # Of one text encoder's kwargs and length; a second guidance scale is Guidance's options.
    other = {"attention_kwargs", "max_sequence_length", "guidance_scale_2"}
    assert set(theirs) - set(ours) <= other
    assert {"components", "device", "dtype", "to", "save_pretrained"} <= {n for n in dir(DiffusionPipeline)} & set(
        dir(pipe)
    )


def test_dir_lists_public_names_only():
    names = dir(vidgen)
    assert {"read_video", "write_video", "rollout", "Guidance", "load_pipeline"} <= set(names)
    assert names == sorted(vidgen._PUBLIC) and all(getattr(vidgen, name) is not None for name in names)
