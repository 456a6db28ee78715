"""All metrics of one clip from pieces of it, in memory that does not grow with the clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.metrics.fidelity import MS_SSIM_SMALLEST, SSIM_SMALLEST, decibels, ms_ssim, ssim
from vidgen.metrics.perceptual import FEATURES_SMALLEST, LPIPS_SMALLEST, FrameFeatures, FrameLPIPS

LEVELS = 127.5  # 8-bit levels in a unit of [-1, 1]
PerFrame = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """Metrics of one clip; None where there is nothing to measure (one frame, frames too small, no weights).

    psnr: of the clip's mean squared error, dB. psnr_frames: the mean of the frames' PSNRs, which several peers report;
        never less. ssim, ms_ssim, lpips, features: means over frames.
    temporal_psnr: PSNR of the differences between neighboring frames, with the pixels' peak of 2, dB.
    flicker: how much more the reconstruction changes from frame to frame than the original, mean over pixels of
        max(|y_t - y_t-1| - |x_t - x_t-1|, 0), in 8-bit levels: 0 for what stands still as the original does.
    first_psnr, rest_psnr: of the first frame, which a causal tokenizer codes alone, and of all others.
    position_psnr, position_temporal_psnr: seam profiles. Entry p is the PSNR of frames 1 + p, 1 + p + n, ... for n
        frames a latent frame (of the differences that lead to them): entry 0 lies behind a seam. `seam` is the range
        of the former, largest minus least, dB: 0 where no position is worse than another.
    """

    frames: int
    psnr: float
    psnr_frames: float
    ssim: float | None
    ms_ssim: float | None
    lpips: float | None
    features: float | None
    temporal_psnr: float | None
    flicker: float | None
    first_psnr: float
    rest_psnr: float | None
    seam: float | None
    position_psnr: list[float]
    position_temporal_psnr: list[float]


class ClipMetrics:
    """The metrics of a clip, from consecutive frames of an original and its reconstruction, pixels in [-1, 1].

    chunk: frames that a latent frame holds, after the first. lpips, features: the metrics, or None to leave them out.
    multiscale: whether MS-SSIM is measured. What frames are too small for is left out; `left_out` says why.
    """

    def __init__(
        self,
        *,
        chunk: int = 1,
        lpips: FrameLPIPS | None = None,
        features: FrameFeatures | None = None,
        multiscale: bool = True,
    ) -> None:
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1 frame, got {chunk}")
        self.chunk = chunk
        self.left_out: dict[str, str] = {}
        self._frame_metrics: dict[str, tuple[PerFrame, int]] = {"ssim": (ssim, SSIM_SMALLEST)}
        if multiscale:
            self._frame_metrics["ms_ssim"] = (ms_ssim, MS_SSIM_SMALLEST)
        if lpips is not None:
            self._frame_metrics["lpips"] = (lpips, LPIPS_SMALLEST)
        if features is not None:
            self._frame_metrics["features"] = (features, FEATURES_SMALLEST)
        self._values: dict[str, list[Tensor]] = {name: [] for name in self._frame_metrics}
        self._errors: list[Tensor] = []  # MSE of every frame
        self._changes: list[Tensor] = []  # MSE of every frame difference; one fewer
        self._flicker: list[Tensor] = []
        self._last: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def add(self, original: Float[Tensor, "c k h w"], result: Float[Tensor, "c k h w"]) -> None:
        """Add the next frames of both. Raises ValueError if their shapes differ."""
        if original.shape != result.shape:
            raise ValueError(f"original {tuple(original.shape)} and result {tuple(result.shape)} must agree in shape")
        if original.shape[1] == 0:
            return
        x, y = original.float(), result.float()
        self._errors.append((x.double() - y.double()).square().mean((0, 2, 3)).cpu())
        for name, (metric, smallest) in self._frame_metrics.items():
            if min(x.shape[-2:]) < smallest:
                self.left_out[name] = f"frames of {x.shape[-2]}x{x.shape[-1]}, {smallest}x{smallest} needed"
            else:
                self._values[name].append(metric(x[None], y[None])[0].double().cpu())
        if self._last is not None:
            x, y = (torch.cat([last, now], dim=1) for last, now in zip(self._last, (x, y), strict=True))
        # Clones: a view would keep the whole piece alive.
        self._last = (x[:, -1:].clone(), y[:, -1:].clone())
        original_change = x.diff(dim=1)
        result_change = y.diff(dim=1)
        self._changes.append((original_change.double() - result_change.double()).square().mean((0, 2, 3)).cpu())
        excess = (result_change.abs() - original_change.abs()).clamp(min=0.0)
        self._flicker.append(excess.double().mean((0, 2, 3)).cpu() * LEVELS)

    def score(self) -> ClipScore:
        """Return the metrics of all frames so far. Raises ValueError if there were none."""
        if not self._errors:
            raise ValueError("a clip needs at least one frame, got 0")
        errors = torch.cat(self._errors)
        changes = torch.cat(self._changes)
        means = {name: torch.cat(v).mean().item() if v else None for name, v in self._values.items()}
        profile = self._profile(errors[1:])
        return ClipScore(
            frames=len(errors),
            psnr=_db(errors),
            psnr_frames=decibels(errors).mean().item(),
            ssim=means["ssim"],
            ms_ssim=means.get("ms_ssim"),
            lpips=means.get("lpips"),
            features=means.get("features"),
            temporal_psnr=_db(changes),
            flicker=torch.cat(self._flicker).mean().item() if len(changes) else None,
            first_psnr=_db(errors[:1]),
            rest_psnr=_db(errors[1:]),
            seam=max(profile) - min(profile) if profile else None,
            position_psnr=profile,
            position_temporal_psnr=self._profile(changes),
        )

    def _profile(self, errors: Float[Tensor, " n"]) -> list[float]:
        """Return the PSNR of each position in the chunk, errors pooled over chunks; shorter where the clip is."""
        return [_db(errors[p :: self.chunk]) for p in range(min(self.chunk, len(errors)))]


def _db(errors: Float[Tensor, " n"]) -> float | None:
    return decibels(errors.mean()).item() if len(errors) else None
