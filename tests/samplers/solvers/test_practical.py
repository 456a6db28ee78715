"""On the schedules that are used, at 5 to 50 steps: the third-order solver against the second, and the usual form."""

import pytest

from vidgen.samplers.evaluation.practical import SCHEDULES, practical_errors, sample_usual_3m

STEPS = (5, 7, 10, 14, 20, 30, 50)
# Where the last step onto data decides, as on flow, all of them err alike, and which is ahead is chance.
CHANCE = 1.12


@pytest.fixture(scope="module")
def errors():
    rows = practical_errors(["dpmpp_3m", "dpmpp_2m", sample_usual_3m], STEPS)
    return {(row["name"], row["schedule"]): row["errors"] for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("other", ["dpmpp_2m", "sample_usual_3m"])
def test_the_third_order_is_never_worse(errors, other, schedule):
    ours, theirs = errors["dpmpp_3m", schedule], errors[other, schedule]
    assert all(ours[n] < CHANCE * theirs[n] for n in STEPS), (ours, theirs)


@pytest.mark.slow
def test_and_better_than_both_on_the_schedule_of_karras(errors):
    ours = errors["dpmpp_3m", "karras"]
    for other in ("dpmpp_2m", "sample_usual_3m"):
        assert all(ours[n] < 0.95 * errors[other, "karras"][n] for n in STEPS)
