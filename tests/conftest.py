"""One thread a process; and what several test files share: real clips where they are present, tiny clips made here."""

import os

# pytest-xdist runs a process a core: threads of their own would only wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import runpy  # noqa: E402
from collections.abc import Callable  # noqa: E402
from fractions import Fraction  # noqa: E402
from pathlib import Path  # noqa: E402
from types import SimpleNamespace  # noqa: E402
from typing import Any  # noqa: E402

import av  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# How many examples of each property: few, and the same ones, unless VIDGEN_FUZZ_EXAMPLES says how many new ones.
EXAMPLES = os.environ.get("VIDGEN_FUZZ_EXAMPLES")
settings.register_profile(
    "vidgen",
    max_examples=int(EXAMPLES or 12),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("vidgen")
SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all properties `fuzz`: `-m fuzz` runs them alone."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.fuzz)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real clips is not beside this checkout")
    return SHARED_DATA


def draw_waves(num_frames: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    """(t, h, w, 3) uint8: smooth coloured waves that move, every frame different from every other."""
    t, y, x = np.mgrid[0:num_frames, 0:height, 0:width]
    red = np.sin(2 * np.pi * (x / width + t / 16))
    green = np.cos(2 * np.pi * (y / height - t / 23))
    blue = np.sin(2 * np.pi * ((x + y) / (height + width) + t / 37))
    return np.round(127.5 + 110 * np.stack([red, green, blue], axis=-1)).astype(np.uint8)


def draw_numbered(num_frames: int, height: int = 32, width: int = 32) -> np.ndarray:
    """(t, h, w, 3) uint8: gray frames that carry their index as eight black or white bars; see `read_numbers`."""
    bits = (np.arange(num_frames)[:, None] >> np.arange(8)) & 1  # t 8
    bars = np.repeat(40 + 175 * bits, width // 8, axis=1)  # t w
    return np.broadcast_to(bars[:, None, :, None], (num_frames, height, width, 3)).astype(np.uint8)


def read_numbers(frames: np.ndarray) -> list[int]:
    """The indices that `draw_numbered` drew, from (t, h, w, 3) frames of any size."""
    columns = (np.arange(8) + 0.5) * frames.shape[2] / 8
    bits = frames[:, frames.shape[1] // 2, columns.astype(int)].mean(axis=-1) > 127
    return (bits @ (1 << np.arange(8))).tolist()


def load_fixtures(name: str) -> dict[str, Any]:
    """The names of fixtures/NAME.py, imported when a test first needs them: collecting tests stays quick."""
    return runpy.run_path(str(Path(__file__).with_name("fixtures") / f"{name}.py"))


@pytest.fixture(scope="session")
def color_encoder() -> type:
    """`ColorEncoder`: texts and clips in one space, of colours alone, without weights."""
    return load_fixtures("color_encoder")["ColorEncoder"]


@pytest.fixture(scope="session")
def tiny_pipelines() -> dict[str, Any]:
    return load_fixtures("tiny_pipelines")


@pytest.fixture(scope="session")
def pipe(tiny_pipelines: dict[str, Any]) -> Any:
    """A small pipeline with random weights, none of them zero."""
    return tiny_pipelines["make_random"]()


@pytest.fixture
def chain_pipe(tiny_pipelines: dict[str, Any]) -> Callable[[int], Any]:
    """`chain_pipe(side)`: a pipeline whose clips are chains in time at every pixel: what it should make is known."""
    return tiny_pipelines["make_chain"]


@pytest.fixture(scope="session")
def chain(tiny_pipelines: dict[str, Any]) -> Any:
    """The data of `chain_pipe`: its covariance, its ideal denoiser, and what follows from some of its frames."""
    return tiny_pipelines["GaussianChain"](correlation=0.8)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """`published("wan")`: a small random pipeline of diffusers, as a folder that it saved and as it is; see
    `make_pipeline` for the kinds. Do not write to the folder."""
    make = load_fixtures("published_pipelines")["make_pipeline"]
    made: dict[str, tuple[Path, Any]] = {}

    def find(kind: str) -> tuple[Path, Any]:
        if kind not in made:
            folder, pipeline = tmp_path_factory.mktemp("published") / kind, make(kind)
            pipeline.save_pretrained(folder)
            made[kind] = folder, pipeline
        return made[kind]

    return find


@pytest.fixture(scope="session")
def in_two() -> Callable[..., list]:
    """`in_two(function, *arguments)`: what a function of the test's file returns in each of two processes."""
    return load_fixtures("two_processes")["in_two"]


@pytest.fixture(scope="session")
def tiny_priors() -> dict[str, Any]:
    """Makers of tiny pipelines of priors: `make_random`, `make_trained`, and `make_frames` of a clip."""
    return load_fixtures("tiny_priors")


@pytest.fixture(scope="session")
def tiny_text() -> SimpleNamespace:
    """Tiny text models of transformers, by the names of fixtures/tiny_text.py."""
    return SimpleNamespace(**load_fixtures("tiny_text"))


@pytest.fixture(scope="session")
def trained_prior(tiny_priors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pipeline whose prior has learned a little. Do not write to it."""
    folder = tmp_path_factory.mktemp("priors") / "trained"
    tiny_priors["make_trained"]().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def fuzzing() -> dict[str, Any]:
    """What changes JSON, bytes and folders at random: `changed`, `damaged`, `mutate_folder`, `check_folder`."""
    return load_fixtures("fuzzing")


@pytest.fixture
def waves() -> Callable[..., np.ndarray]:
    """`draw_waves`."""
    return draw_waves


@pytest.fixture
def numbered() -> Callable[..., np.ndarray]:
    """`draw_numbered`."""
    return draw_numbered


@pytest.fixture
def numbers() -> Callable[[np.ndarray], list[int]]:
    """`read_numbers`."""
    return read_numbers


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Encode frames as asked for, by FFmpeg directly, not by the writer under test; returns the path."""

    def make(
        frames: np.ndarray,
        name: str = "clip.mp4",
        *,
        fps: float = 25,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        options: dict[str, str] | None = None,
        stamps: list[int] | None = None,  # presentation times in milliseconds
        rotation: int | None = None,  # degrees counter-clockwise
        source_format: str = "rgb24",
        faststart: bool = False,  # the index in front of the frames
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as container:
            stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options or {})
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
            stream.codec_context.time_base = Fraction(1, 1000) if stamps else 1 / stream.codec_context.framerate
            if rotation is not None:
                stream.set_display_rotation(rotation)
            for index, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=source_format)
                picture = picture.reformat(format=pix_fmt)
                picture.pts = stamps[index] if stamps else index
                picture.time_base = stream.codec_context.time_base
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return path

    return make
