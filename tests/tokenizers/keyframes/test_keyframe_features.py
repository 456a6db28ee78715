"""A key frame tokenizer as an Encoder: its layers are what encoding makes, each at the frame that it is of."""

import torch

from vidgen.interfaces import Encoder
from vidgen.representations.extractor import FeatureExtractor


def test_layers_are_what_encoding_makes(tokenizer_of, moving) -> None:
    tokenizer, video = tokenizer_of(), moving((1, 0), 10, 32, 40)
    assert isinstance(tokenizer, Encoder)
    layers = dict(tokenizer.iter_features(video))
    codes = tokenizer.encode(video)
    assert list(layers) == [info.name for info in tokenizer.feature_info]
    keys = [0] * 4 + [1] * 4 + [2] * 2  # groups of four frames
    assert torch.equal(layers["latents"], codes.key_latents[:, :, keys])
    moving_frames = [k for k in range(10) if k % 4]
    torch.testing.assert_close(layers["motion"][:, :, moving_frames], codes.motion_latents)
    assert not layers["motion"][:, :, ::4].any() and not layers["motion.hidden"][:, :, ::4].any()
    for info in tokenizer.feature_info:
        shape = (info.num_chs, 10, *(-(-n // r) for n, r in zip((32, 40), info.reduction[1:], strict=True)))
        assert layers[info.name].shape[1:] == shape, info.name


def test_features_are_causal_and_at_their_frames(tokenizer_of, moving) -> None:
    tokenizer, video = tokenizer_of(), 0.5 * moving((1, 0), 9, 32, 32)
    names = [f"tokenizer.{info.name}" for info in tokenizer.feature_info]
    extractor = FeatureExtractor(tokenizer, names, pool="none")
    whole, changed = extractor(video), video.clone()
    changed[:, :, 6] += 0.3
    other = extractor(changed)
    for name in names:
        assert whole.times[name].tolist() == [list(range(9))]
        assert torch.equal(whole.features[name][:, :6], other.features[name][:, :6])
    assert not torch.equal(whole.features["tokenizer.motion.hidden"], other.features["tokenizer.motion.hidden"])


def test_an_image_has_no_motion(tokenizer_of) -> None:
    tokenizer = tokenizer_of()
    layers = dict(tokenizer.iter_features(torch.zeros(2, 3, 1, 16, 16, dtype=torch.float64)))
    assert layers["latents"].shape[2] == 1 and not layers["motion"].any()
