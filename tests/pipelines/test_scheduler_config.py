"""A checkpoint's schedule: nested on disk today, flat before, and the former names that callers may still use."""

import json
from dataclasses import asdict

import pytest

from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.pipelines.scheduler_config import SchedulerConfig, read_scheduler

FORMER = {"_class_name": "SchedulerConfig", "path": "cosine", "parametrisation": "v", "shift": 2.5, "num_frames": 9}
TODAY = SchedulerConfig(
    prediction_type="v_prediction", time_distribution=TimeDistribution(path="cosine", shift=2.5), num_frames=9
)


def save(folder, values):
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("values", [FORMER, asdict(TODAY)])
def test_folders_of_today_and_before_are_read_without_a_warning(tmp_path, values):
    assert read_scheduler(save(tmp_path, values)) == TODAY


def test_former_arguments_warn_with_the_new_name():
    with pytest.warns(FutureWarning) as warned:
        config = SchedulerConfig(path="cosine", shift=2.5, prediction_type="v", num_frames=9)
    assert config == TODAY
    lines = [str(w.message) for w in warned]
    assert any("SchedulerConfig(time_distribution=TimeDistribution(path=..., shift=...))" in line for line in lines)
    assert "prediction type 'v' is now called 'v_prediction'" in lines
    assert TODAY.shift == 2.5 and TODAY.path == "cosine" and TODAY.density == "uniform"
    with pytest.warns(FutureWarning, match="now called time_distribution"):
        assert TODAY.time() == TODAY.time_distribution
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        TODAY.magic  # noqa: B018


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"prediction_type": "noise"}, "prediction_type='noise' is unknown; choose one of sample, epsilon"),
        ({"time_distribution": 3}, "time_distribution is 3; it must be an object of"),
        ({"path": "straight"}, "path='straight' is unknown; choose one of flow, cosine, edm"),
        ({"magic": 1}, "unknown keys magic"),
    ],
)
def test_schedules_that_cannot_be(tmp_path, values, says):
    with pytest.raises(VidgenError, match=says):
        read_scheduler(save(tmp_path, values))
