"""Vectors of files: a translation that is known comes back, and what vectors do not say is filled as documented."""

import numpy as np
import pytest

from vidgen.data.motion_vectors import (
    MotionVectors,
    fill_cells,
    find_references,
    rasterize,
    read_motion_vectors,
    towards_keys,
)
from vidgen.errors import VideoError

ONE_REFERENCE = {"bf": "0", "refs": "1", "crf": "8", "g": "300", "sc_threshold": "0"}
STEP = (-3.0, 2.0)  # frame k at p shows what frame k - 1 showed at p + STEP
TABLE = [
    *[("source", "<i4"), ("w", "u1"), ("h", "u1"), ("dst_x", "<i2"), ("dst_y", "<i2")],
    *[("motion_x", "<i4"), ("motion_y", "<i4"), ("motion_scale", "<u2")],
]


def draw_translation(count: int, height: int = 96, width: int = 112) -> np.ndarray:
    """(t, h, w, 3) uint8: a window that moves over a smooth texture, by -STEP a frame as one sees it."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).normal(size=(height + 64, width + 96, 3))
    texture = gaussian_filter(noise, (1.5, 1.5, 0))
    texture = ((texture - texture.min()) / np.ptp(texture) * 255).astype(np.uint8)
    corners = [(20 + 2 * k, 60 - 3 * k) for k in range(count)]
    return np.stack([texture[top : top + height, left : left + width] for top, left in corners])


def known_motion(vectors: list[float], reference: list[int]) -> MotionVectors:
    """A 4x5 grid of which every cell has the same vector (v, 0) in each frame."""
    fields = np.zeros((len(vectors), 4, 5, 2), np.float32)
    fields[..., 0] = np.array(vectors)[:, None, None]
    return MotionVectors(
        vectors=fields,
        covered=np.ones(fields.shape[:3], bool),
        reference=np.array(reference),
        times=np.arange(len(vectors)) / 25,
        height=64,
        width=80,
    )


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_translation_comes_back_as_its_vector(make_video, codec):
    options = ONE_REFERENCE if codec == "libx264" else {"bf": "0", "g": "300", "qmin": "2", "qmax": "2", "b": "8000000"}
    motion = read_motion_vectors(make_video(draw_translation(8), codec=codec, options=options, fps=25))
    assert motion.vectors.shape == (8, 6, 7, 2) and motion.vectors.dtype == np.float32
    assert motion.reference.tolist() == [0, 0, 1, 2, 3, 4, 5, 6] and (motion.height, motion.width) == (96, 112)
    assert np.allclose(motion.times, np.arange(8) / 25) and not motion.covered[0].any()
    inner = motion.vectors[1:, 1:-1, 1:-1]
    assert motion.covered[1:, 1:-1, 1:-1].mean() > 0.95
    assert np.mean(np.abs(inner - STEP).max(axis=-1) <= 0.5) > 0.95
    fields = towards_keys(motion, gop=4)
    assert not fields[[0, 4]].any()
    for k in (1, 2, 3, 5, 6, 7):
        assert np.allclose(np.median(fields[k, 1:-1, 1:-1], axis=(0, 1)), np.multiply(STEP, k % 4), atol=0.3)


def test_times_are_those_of_presentation(make_video):
    stamps = [100, 140, 260, 300]
    motion = read_motion_vectors(make_video(draw_translation(4), options=ONE_REFERENCE, stamps=stamps))
    assert np.allclose(motion.times, (np.array(stamps) - 100) / 1000)
    assert len(read_motion_vectors(make_video(draw_translation(4), "b.mp4"), num_frames=2).vectors) == 2


def test_b_frames_are_in_the_order_shown_and_point_back_only(make_video):
    path = make_video(draw_translation(9), options={"bf": "2", "b-pyramid": "none", "refs": "1", "crf": "8"})
    motion = read_motion_vectors(path)
    assert np.allclose(np.diff(motion.times), 1 / 25)
    assert motion.reference.tolist() == sorted(motion.reference) and (motion.reference[1:] < np.arange(1, 9)).all()
    assert len(set(motion.reference.tolist())) < 8  # several frames lean on one
    fields = towards_keys(motion, gop=9)
    middle = np.median(fields[:, 1:-1, 1:-1], axis=(1, 2))
    assert np.allclose(middle, np.multiply.outer(np.arange(9), STEP), atol=1.0)


def test_references_are_the_last_frames_that_are_no_b():
    assert find_references(list("IPBBPIBP")).tolist() == [0, 0, 1, 1, 1, 5, 5, 5]
    assert find_references(list("BPB")).tolist() == [0, 1, 1]  # nothing before: as if coded on its own


def test_cells_average_what_is_in_them_by_area():
    table = np.array(
        [
            (-1, 8, 16, 4, 8, 8, 0, 4),  # half of cell (0, 0): 2 pixels
            (-1, 8, 8, 12, 4, 16, 8, 4),  # a quarter: 4, and 2 down
            (1, 16, 16, 24, 8, 99, 99, 4),  # from the future
            (-1, 16, 16, -8, 8, 99, 99, 4),  # outside
        ],
        dtype=TABLE,
    )
    vectors, known = rasterize(table, 1, 2)
    assert known.tolist() == [[True, False]]
    assert np.allclose(vectors[0], [[(2 * 128 + 4 * 64) / 192, 2 * 64 / 192], [0, 0]])
    vectors, known = rasterize(None, 2, 3)
    assert vectors.shape == (2, 3, 2) and not vectors.any() and not known.any()


def test_intra_cells_get_the_nearest_vector():
    vectors = np.zeros((2, 4, 2), np.float32)
    known = np.zeros((2, 4), bool)
    assert not fill_cells(vectors + 7, known).any()
    vectors[0, 0], vectors[1, 3], known[0, 0], known[1, 3] = (1, 2), (3, 4), True, True
    filled = fill_cells(vectors, known)
    assert filled[0, 1].tolist() == filled[1, 0].tolist() == [1, 2] and filled[0, 3].tolist() == [3, 4]


def test_vectors_are_followed_to_the_key_frame():
    chain = known_motion([0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4])
    assert towards_keys(chain, 4)[:, 2, 2, 0].tolist() == [0, 1, 3, 6, 0, 5]
    out_of_group = known_motion([0, 1, 1, 1, 6, 6], [0, 0, 0, 0, 3, 3])
    assert towards_keys(out_of_group, 5)[5, 2, 2, 0] == 0 and towards_keys(out_of_group, 4)[5, 2, 2, 0] == 3
    alone = known_motion([0, 1, 9, 1], [0, 0, 2, 2])
    assert towards_keys(alone, 4)[:, 2, 2, 0].tolist() == [0, 1, 1, 2]


def test_files_without_vectors_are_refused_in_one_line(make_video, tmp_path):
    frames = draw_translation(3)
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    cases = [
        (make_video(frames, "a.mkv", codec="ffv1"), {}, "exports no vectors of ffv1"),
        (make_video(frames, "b.mp4", rotation=90), {}, "shown turned by"),
        (make_video(frames, "c.mp4"), {"num_frames": 4}, "3 frames, 4 needed"),
        (tmp_path / "text.mp4", {}, "text.mp4"),
        (tmp_path / "none.mp4", {}, "no such file"),
    ]
    for path, options, says in cases:
        with pytest.raises(VideoError, match=says) as caught:
            read_motion_vectors(path, **options)
        assert "\n" not in str(caught.value)
