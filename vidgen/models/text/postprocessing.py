"""What is done to vectors of sentences after their encoder: whitening, common directions taken out, standardising.

Each is one affine map x -> (x - mean) matrix, fitted to a matrix of vectors, and two in a row are one again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from vidgen.checkpoints.checkpoint import opened
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write

KIND = "vidgen affine map"
TINY = 1e-10  # a variance of less than this share of the largest is none

Matrix = Float[Tensor, "n d"]


@dataclass(frozen=True, kw_only=True)
class AffineMap:
    """The map x -> (x - mean) matrix of vectors (d) to vectors (k)."""

    mean: Float[Tensor, " d"]
    matrix: Float[Tensor, "d k"]

    def __call__(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n k"]:
        """Return the map of vectors, in their dtype. Raises VidgenError for vectors of another size."""
        if x.shape[-1] != len(self.mean):
            raise VidgenError(f"vectors of {x.shape[-1]} dimensions, and the map was fitted to {len(self.mean)}")
        precise = torch.promote_types(x.dtype, torch.float32)
        mean, matrix = (y.to(x.device, precise) for y in (self.mean, self.matrix))
        return ((x.to(precise) - mean) @ matrix).to(x.dtype)

    def then(self, other: AffineMap) -> AffineMap:
        """Return the map that is this one and then another: (x - m1) A - m2 = (x - m1 - m2 A^+) A where m2 is in the
        image of A, which means of what the first map gives always are. Raises VidgenError where sizes do not fit."""
        if self.matrix.shape[1] != len(other.mean):
            raise VidgenError(f"a map to {self.matrix.shape[1]} dimensions before one that takes {len(other.mean)}")
        mean = self.mean + torch.linalg.pinv(self.matrix.T) @ other.mean
        return AffineMap(mean=mean, matrix=self.matrix @ other.matrix)

    def save(self, path: str | os.PathLike) -> None:
        """Write the map to a safetensors file, all or nothing."""
        tensors = {"mean": self.mean.cpu().contiguous(), "matrix": self.matrix.cpu().contiguous()}
        with atomic_write(path) as target:
            save_file(tensors, target, metadata={"kind": KIND})

    @classmethod
    def load(cls, path: str | os.PathLike) -> AffineMap:
        """Return the map in a file. Raises VidgenError for a file that is missing, damaged, or of something else."""
        with opened(Path(path)) as file:
            kind = (file.metadata() or {}).get("kind")
            tensors = {name: file.get_tensor(name) for name in file.keys()} if kind == KIND else {}  # noqa: SIM118
        mean, matrix = tensors.get("mean"), tensors.get("matrix")
        if mean is None or matrix is None or mean.ndim != 1 or matrix.ndim != 2 or len(matrix) != len(mean):
            raise VidgenError(f"{path} holds no map of vectors; fit one, and save it")
        if not (mean.isfinite().all() and matrix.isfinite().all()):
            raise VidgenError(f"{path}: the map is not finite; fit it anew")
        return cls(mean=mean, matrix=matrix)


def check_vectors(x: Matrix) -> Float[Tensor, "n d"]:
    """Return vectors in float64. Raises VidgenError for fewer than two, and for ones that are not finite."""
    if len(x) < 2:
        raise VidgenError(f"a map is fitted to two vectors at least, and there are {len(x)}")
    if not x.isfinite().all():
        raise VidgenError("vectors to fit a map to are not finite; leave out the texts that they are of")
    return x.detach().double()


def principal(x: Matrix) -> tuple[Float[Tensor, " r"], Float[Tensor, "d r"]]:
    """Return the singular values of a matrix, largest first, and its right singular vectors as columns."""
    _, values, rows = torch.linalg.svd(x, full_matrices=False)
    return values, rows.T


def fit_whitening(x: Matrix, dim: int | None = None) -> AffineMap:
    """Return the map that makes the covariance of vectors the identity, of their `dim` directions of most variance.

    With covariance U L U^T it is W = U L^(-1/2) (Su et al. 2021, "Whitening Sentence Representations", eq. 5 and
    section 3.3; Huang et al. 2021, WhiteningBERT, section 2.3). Raises VidgenError where vectors vary in fewer
    directions than `dim`.
    """
    x = check_vectors(x)
    mean = x.mean(0)
    values, directions = principal(x - mean)
    variances = values.square() / (len(x) - 1)
    rank = int((variances > TINY * variances[0]).sum())
    wanted = x.shape[1] if dim is None else dim
    if not 1 <= wanted <= rank:
        raise VidgenError(
            f"{len(x)} vectors of {x.shape[1]} dimensions vary in {rank}, and whitening of {wanted} is asked for; give "
            f"dim={rank} or less, or more vectors"
        )
    return AffineMap(mean=mean, matrix=directions[:, :wanted] / variances[:wanted].sqrt())


def without_directions(directions: Float[Tensor, "d k"]) -> Float[Tensor, "d d"]:
    """Return the projection onto what is at right angles to some directions: I - U U^T."""
    return torch.eye(len(directions), dtype=directions.dtype) - directions @ directions.T


def fit_all_but_the_top(x: Matrix, components: int | None = None) -> AffineMap:
    """Return the map that takes out the mean and the first principal components; by default one for every 100
    dimensions, one at least (Mu & Viswanath 2018, "All-but-the-Top", algorithm 1)."""
    x = check_vectors(x)
    components = max(1, x.shape[1] // 100) if components is None else components
    _, directions = principal(x - x.mean(0))
    check_count(components, directions.shape[1])
    return AffineMap(mean=x.mean(0), matrix=without_directions(directions[:, :components]))


def fit_common_component_removal(x: Matrix, components: int = 1) -> AffineMap:
    """Return the map that takes out the first singular vectors, without the mean being taken off (Arora et al. 2017,
    SIF, algorithm 1, line 5)."""
    x = check_vectors(x)
    _, directions = principal(x)
    check_count(components, directions.shape[1])
    return AffineMap(mean=torch.zeros_like(x[0]), matrix=without_directions(directions[:, :components]))


def check_count(components: int, most: int) -> None:
    """Raise VidgenError for a number of components that vectors do not have."""
    if not 1 <= components <= most:
        raise VidgenError(f"{components} components of vectors that have {most}; give from 1 to {most}")


def fit_standardization(x: Matrix) -> AffineMap:
    """Return the map that makes every dimension of mean 0 and variance 1; one that does not vary becomes 0."""
    x = check_vectors(x)
    deviation = x.std(0)
    varies = deviation > TINY**0.5 * deviation.max()
    return AffineMap(mean=x.mean(0), matrix=torch.diag(torch.where(varies, 1.0 / deviation, 0.0)))


POSTPROCESSING: dict[str, Callable[[Matrix], AffineMap]] = {
    "whiten": fit_whitening,
    "all_but_the_top": fit_all_but_the_top,
    "common_component": fit_common_component_removal,
    "standardize": fit_standardization,
}


def token_weights(frequencies: Float[Tensor, " v"], a: float = 1e-3) -> Float[Tensor, " v"]:
    """Return the smooth inverse frequency a / (a + p) of every token, p being its share of all (Arora et al. 2017, SIF,
    eq. 3): `weights` of a `StaticTextEncoder`. Raises VidgenError for no frequencies, or negative ones."""
    total = frequencies.sum()
    if not len(frequencies) or not bool((frequencies >= 0).all()) or not float(total) > 0:
        raise VidgenError("frequencies of tokens are numbers of 0 or more, and not all 0")
    return a / (a + frequencies / total)
