"""Objectives of texts and clips: open_clip's losses and gradients, papers' formulas by loops, and limits."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.train.objectives.text_video import (
    TEXT_VIDEO_OBJECTIVES,
    PairLabels,
    hard_negative,
    max_margin,
    mil_nce,
    own_pairs,
    realign,
    realigned,
    sigmoid,
    softmax,
    triplet,
)

SCALE = torch.tensor(7.0)
BIAS = torch.tensor(-3.0)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1).requires_grad_()


def labels(rows: list[str]) -> PairLabels:
    """Pairs by letters: + positive, - negative, o neither."""
    table = np.array([list(row) for row in rows])
    return PairLabels(torch.from_numpy(table == "+"), torch.from_numpy(table == "-"))


PAIRS = labels(["+-o-", "-++-", "o--+"])  # 3 texts, 4 clips


@pytest.fixture(scope="module")
def open_clip_loss():
    """open_clip's module of losses; by itself, where packages that its other parts need are missing."""
    package = importlib.util.find_spec("open_clip")
    if package is None:
        pytest.skip("open_clip is not installed")
    try:
        from open_clip import loss as module
    except ImportError:
        spec = importlib.util.spec_from_file_location("open_clip_loss", Path(package.origin).parent / "loss.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_loss_and_gradients_are_open_clips(open_clip_loss, name):
    texts, videos, scale, bias = draw(6, 5), draw(6, 5, seed=1), torch.tensor(9.0), torch.tensor(-4.0)
    leaves = [x.detach().float().requires_grad_() for x in (texts, videos, scale, bias)]
    t, v = (F.normalize(x, dim=1) for x in leaves[:2])
    if name == "softmax":
        expected = open_clip_loss.ClipLoss()(v, t, leaves[2])
    else:
        expected = open_clip_loss.SigLipLoss()(v, t, leaves[2], leaves[3])
    loss, _ = TEXT_VIDEO_OBJECTIVES[name](t @ v.T, own_pairs(6), leaves[2], leaves[3])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    used = leaves if name == "sigmoid" else leaves[:3]
    ours = torch.autograd.grad(loss, used, retain_graph=True)
    for gradient, other in zip(ours, torch.autograd.grad(expected, used), strict=True):
        assert torch.allclose(gradient, other, atol=1e-6)


def test_softmax_and_sigmoid_are_the_papers_formulas():
    s = draw(4, 4)
    logits = 7 * s.detach().numpy()
    rows = -np.mean([logits[i, i] - np.log(np.exp(logits[i]).sum()) for i in range(4)])
    columns = -np.mean([logits[i, i] - np.log(np.exp(logits[:, i]).sum()) for i in range(4)])
    assert softmax(s, own_pairs(4), SCALE)[0].item() == pytest.approx((rows + columns) / 2)
    z = 2 * np.eye(4) - 1
    wanted = np.log1p(np.exp(-z * (logits - 3))).sum() / 4
    assert sigmoid(s, own_pairs(4), SCALE, BIAS)[0].item() == pytest.approx(wanted)


def test_equal_scores_leave_the_logarithm_of_the_number_of_pairs():
    s = torch.full((8, 8), 0.3)
    assert softmax(s, own_pairs(8), SCALE)[0].item() == pytest.approx(math.log(8))
    assert hard_negative(s, own_pairs(8), SCALE)[0].item() == pytest.approx(math.log(8))
    assert mil_nce(s, own_pairs(8), SCALE)[0].item() == pytest.approx(math.log(15))
    assert sigmoid(0 * s, own_pairs(8), SCALE, 0 * BIAS)[0].item() == pytest.approx(8 * math.log(2))
    assert max_margin(s, own_pairs(8), SCALE, margin=0.2)[0].item() == pytest.approx(2 * 7 * 0.2)
    assert triplet(s, own_pairs(8), SCALE, margin=0.2)[0].item() == pytest.approx(2 * 0.2)


def test_softmax_of_several_positives_by_loops():
    s = draw(3, 4)
    z, (positives, negatives) = 7 * s.detach().numpy(), (part.numpy() for part in PAIRS)

    def one_way(z, positives, used):
        rows = []
        for i in range(len(z)):
            total = np.log(np.exp(z[i][used[i]]).sum())
            if positives[i].any():
                rows.append(-np.mean(z[i][positives[i]] - total))
        return np.mean(rows)

    used = positives | negatives
    wanted = (one_way(z, positives, used) + one_way(z.T, positives.T, used.T)) / 2
    assert softmax(s, PAIRS, SCALE)[0].item() == pytest.approx(wanted)


def test_hard_negatives_by_loops_and_without_hardness_the_softmax():
    s = draw(3, 4)
    positives, negatives = (part.numpy() for part in PAIRS)

    def one_way(z, positives, negatives):
        rows = []
        for i in range(len(z)):
            away = z[i][negatives[i]]
            weights = len(away) * np.exp(0.5 * away) / np.exp(0.5 * away).sum()
            total = 0.8 * np.exp(z[i][positives[i]]).sum() + (weights * np.exp(away)).sum()
            rows.append(-np.mean(z[i][positives[i]] - np.log(total)))
        return np.mean(rows)

    z = 7 * s.detach().numpy()
    wanted = (one_way(z, positives, negatives) + one_way(z.T, positives.T, negatives.T)) / 2
    loss, _ = hard_negative(s, PAIRS, SCALE, hardness=0.5, positive_weight=0.8)
    assert loss.item() == pytest.approx(wanted)
    plain, _ = softmax(s, PAIRS, SCALE)
    even, _ = hard_negative(s, PAIRS, SCALE, hardness=0.0)
    assert even.item() == pytest.approx(plain.item())
    assert torch.allclose(torch.autograd.grad(even, s)[0], torch.autograd.grad(plain, s)[0])


def test_mil_nce_by_loops():
    s = draw(3, 4)
    z, (positives, negatives) = np.exp(7 * s.detach().numpy()), (part.numpy() for part in PAIRS)
    losses = []
    for j in range(4):
        bag = z[:, j][positives[:, j]].sum()
        others = z[:, j][negatives[:, j]].sum()
        others += sum(z[i][negatives[i]].sum() for i in range(3) if positives[i, j])
        losses.append(-np.log(bag / (bag + others)))
    assert mil_nce(s, PAIRS, SCALE)[0].item() == pytest.approx(np.mean(losses))


def test_realignment_has_its_marginals_and_is_the_best_plan():
    s = draw(6, 6).detach()
    plan = realign(s, own_pairs(6), epsilon=0.1, iterations=500)
    for axis in (0, 1):
        assert torch.allclose(plan.sum(axis), torch.ones(6, dtype=torch.float64), atol=1e-8)
    # The best plan is exp(s / epsilon) times a factor a row and one a column: what is left of its logarithm is a sum.
    rest = plan.log() - s / 0.1
    assert torch.allclose(rest - rest[:1] - rest[:, :1] + rest[0, 0], torch.zeros(6, 6, dtype=torch.float64), atol=1e-7)


def test_captions_beside_the_wrong_clip_are_moved_back():
    order = torch.tensor([1, 0, 2, 4, 5, 3])
    s = 0.1 * draw(6, 6).detach() + 0.8 * torch.eye(6, dtype=torch.float64)[order]
    assert torch.equal(realign(s, own_pairs(6)).argmax(dim=1), order)
    assert torch.allclose(realign(s, own_pairs(6)), torch.eye(6, dtype=torch.float64)[order], atol=1e-2)
    best = PairLabels(torch.eye(6)[order].bool(), ~torch.eye(6)[order].bool())
    loss, parts = realigned(s, own_pairs(6), SCALE, share=1.0)
    assert loss.item() == pytest.approx(softmax(s, best, SCALE)[0].item(), abs=0.1)
    assert parts["kept"].item() == pytest.approx(1 / 6, abs=0.01)
    changed = torch.cat([s, s[:2]])  # texts of no clip take no part
    pairs = PairLabels(*(torch.cat([part, fill.expand(2, 6)]) for part, fill in
                         zip(own_pairs(6), (torch.tensor(False), torch.tensor(True)), strict=True)))  # fmt: skip
    assert (realign(changed, pairs)[6:] == 0).all()
    assert torch.allclose(realign(changed, pairs)[:6], realign(s, own_pairs(6)))


def test_without_a_share_realigned_is_softmax():
    s = draw(3, 4)
    loss, plain = realigned(s, PAIRS, SCALE, share=0.0)[0], softmax(s, PAIRS, SCALE)[0]
    assert loss.item() == pytest.approx(plain.item())
    assert torch.allclose(torch.autograd.grad(loss, s)[0], torch.autograd.grad(plain, s)[0])


def test_margins_by_loops():
    s = draw(3, 4)
    sides, nearest, count = 0.0, 0.0, int(PAIRS.positives.sum())
    for scores, pairs in ((s.detach(), PAIRS), (s.detach().T, PAIRS.T)):
        for i, p in pairs.positives.nonzero():
            losses = [max(0.0, 0.3 + float(scores[i, j] - scores[i, p])) for j in pairs.negatives[i].nonzero()[:, 0]]
            sides += sum(losses)
            nearest += max(losses)
    assert max_margin(s, PAIRS, SCALE, margin=0.3)[0].item() == pytest.approx(sides / count)
    assert triplet(s, PAIRS, SCALE, margin=0.3)[0].item() == pytest.approx(nearest / count)


@pytest.mark.parametrize("name", TEXT_VIDEO_OBJECTIVES)
def test_pairs_left_out_count_nowhere(name):
    objective, s = TEXT_VIDEO_OBJECTIVES[name], draw(3, 4)
    loss, parts = objective(s, PAIRS, SCALE, BIAS)
    gradient = torch.autograd.grad(loss, s)[0]
    assert gradient.isfinite().all()
    assert (gradient[~PAIRS.compared] == 0).all()
    other = torch.where(PAIRS.compared, s, 1.0)
    changed, others = objective(other, PAIRS, SCALE, BIAS)
    assert changed.item() == pytest.approx(loss.item())
    assert parts == others


@pytest.mark.parametrize("name", TEXT_VIDEO_OBJECTIVES)
def test_rows_without_a_negative_or_a_positive_keep_gradients_finite(name):
    pairs = labels(["+oo", "o+-", "ooo"])
    s = draw(3, 3)
    loss, parts = TEXT_VIDEO_OBJECTIVES[name](s, pairs, SCALE, BIAS)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, s)[0].isfinite().all()
    assert all(part.isfinite() for part in parts.values())


@pytest.mark.parametrize("name", TEXT_VIDEO_OBJECTIVES)
def test_order_of_texts_and_of_clips_does_not_matter(name):
    s, texts, videos = draw(3, 4), torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    moved = PairLabels(*(part[texts][:, videos] for part in PAIRS))
    expected, _ = TEXT_VIDEO_OBJECTIVES[name](s, PAIRS, SCALE, BIAS)
    assert TEXT_VIDEO_OBJECTIVES[name](s[texts][:, videos], moved, SCALE, BIAS)[0].item() == pytest.approx(
        expected.item()
    )


@pytest.mark.parametrize("name", TEXT_VIDEO_OBJECTIVES)
def test_a_step_against_the_gradient_raises_positives_over_negatives(name):
    s = torch.zeros(4, 4, requires_grad=True)
    gradient = torch.autograd.grad(TEXT_VIDEO_OBJECTIVES[name](s, own_pairs(4), SCALE, BIAS)[0], s)[0]
    assert (-gradient.diagonal()).min() > (-gradient)[~torch.eye(4, dtype=torch.bool)].max()


def test_hit_rates_are_of_compared_pairs():
    s = torch.tensor([[0.5, 0.1, 0.9, 0.0], [0.9, 0.2, 0.1, 0.0], [0.0, 0.3, 0.4, 0.5]])
    _, parts = softmax(s, PAIRS, SCALE)
    assert parts["text_to_video"].item() == pytest.approx(2 / 3)  # the first text's best clip is left out
    assert parts["video_to_text"].item() == pytest.approx(1 / 4)


def test_batches_that_teach_nothing_are_refused():
    with pytest.raises(VidgenError, match="no negative pair; raise batch_size"):
        softmax(torch.ones(1, 1), own_pairs(1), SCALE)
    with pytest.raises(VidgenError, match="no positive pair"):
        softmax(torch.ones(2, 2), labels(["--", "--"]), SCALE)
    with pytest.raises(VidgenError, match="are not of"):
        softmax(torch.ones(2, 3), own_pairs(2), SCALE)
