"""What is measured of clips, against orders and values that are known beforehand."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vidgen.data.curation.duplicates import cluster_duplicates
from vidgen.data.curation.quality import measure_quality, measure_sharpness, perceptual_hash
from vidgen.data.manifests import find_clips
from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.data.writing import write_video


def write_world(folder, count=8, **settings):
    world = ShapeWorld(ShapeWorldConfig(height=64, width=64, num_frames=9, fps=8, seed=3))
    for index in range(count):
        write_video(world[index].video, folder / f"{index}.mp4", fps=8, **settings)


def slide(step: int) -> np.ndarray:
    """A bright square on black that goes `step` pixels to the right with every frame."""
    video = np.zeros((9, 64, 64, 3), np.uint8)
    for number, frame in enumerate(video):
        left = 4 + step * number
        frame[24:40, left : left + 16] = 200
    return video


def test_motion_is_that_of_the_frames(tmp_path):
    for step in (0, 1, 4):
        write_video(slide(step), tmp_path / f"{step}.mkv", fps=8)
    still, slow, fast = (measure_quality(record, fps=8) for record in find_clips(tmp_path))
    assert still.motion == pytest.approx(0, abs=1e-6) and still.motion < slow.motion < fast.motion
    assert slow.motion == pytest.approx(2 * 16 * 200 / 64**2, rel=0.02)  # two columns of the square a step
    assert fast.motion == pytest.approx(4 * slow.motion, rel=0.02)
    assert still.brightness == pytest.approx(200 / 16, rel=0.02)
    assert still.contrast == pytest.approx(200 * (15 / 16**2) ** 0.5, rel=0.02)
    assert still.seconds == 9 / 8


def test_sharpness_falls_with_blur(waves):
    luma = np.random.default_rng(0).uniform(0, 255, (48, 64)).astype(np.float32)
    values = [measure_sharpness(gaussian_filter(luma, sigma) if sigma else luma) for sigma in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and len(set(values)) == len(values)
    assert measure_sharpness(np.full((8, 8), 7, np.float32)) == 0


def test_clips_written_at_another_quality_are_one_cluster_and_others_are_not(tmp_path):
    write_world(tmp_path)
    (tmp_path / "again").mkdir()
    write_world(tmp_path / "again", crf=36)
    records = {record.id: record for record in find_clips(tmp_path)}
    order = [f"{folder}{index}.mp4" for folder in ("", "again/") for index in range(8)]
    clusters = cluster_duplicates([measure_quality(records[name], fps=8).hashes for name in order])
    assert clusters.tolist() == [*range(8), *range(8)]


def test_clusters_hang_together_and_are_named_by_their_first():
    bits = np.zeros((5, 100), bool)
    bits[1, :50] = bits[3, :50] = True
    bits[2, :5] = True
    bits[4, :10] = True  # five bits from 2, ten from 0
    assert cluster_duplicates(list(bits), 0.05).tolist() == [0, 1, 0, 1, 0]
    assert cluster_duplicates(list(bits), 0.0).tolist() == [0, 1, 2, 1, 4]
    assert cluster_duplicates([]).tolist() == []


def test_noise_on_a_plain_picture_decides_no_bit():
    plain = np.full((64, 64, 3), 90, np.uint8)
    noisy = plain + np.random.default_rng(0).integers(0, 3, plain.shape, np.uint8)
    assert (perceptual_hash(plain) == perceptual_hash(noisy)).all()


def test_clips_that_differ_in_colour_alone_are_no_duplicates():
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    colors = np.array([(226, 30, 38), (38, 74, 232), (34, 172, 60), (255, 255, 255)])
    frames[:, 24:40, 24:40] = colors[:, None, None]
    hashes = [perceptual_hash(picture)[None] for picture in frames]
    assert cluster_duplicates(hashes).tolist() == [0, 1, 2, 3]
