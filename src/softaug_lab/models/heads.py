"""Last layers with a score of their own for unknown images, and a bound on a network's weights.

Each is built from the linear layer that it replaces, and written from its paper. n images, d
features, k classes, r random features, e numbers of an embedding.
"""

import math
from collections.abc import Callable
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from softaug_lab.basics.errors import UsageError

JITTER = 1e-4  # added to a covariance, as a share of its mean variance
RANDOM_FEATURES = 1024
MEAN_FIELD = math.pi / 8
LENGTH_SCALE, MOMENTUM = 0.1, 0.999  # of centroids: their kernel's, their moving average's
MOST_NUMBERS = 2**29  # in a tensor of a head, 2 GiB


class OwnHead(Protocol):
    """A last layer with a score, [N,D] to [N], that is high for images like the training ones."""

    def score(self, features: Tensor) -> Tensor: ...


class Gaussians(nn.Linear):
    """A linear layer beside a Gaussian for each class on its features (DDU).

    The layer trains as usual; the Gaussians are fitted afterwards, on the training images. The
    score is the log density of their mixture.

    Source: Mukhoti et al. 2021, "Deep Deterministic Uncertainty", arXiv 2102.11582, section 3 and
    algorithm 1: q(z) = sum over y of q(y) N(z; mean of y, covariance of y).
    """

    log_prior: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        d, k = linear.in_features, linear.out_features
        _require_fitting(k * d * d, "a Gaussian for each class")
        super().__init__(d, k, bias=linear.bias is not None)
        self.load_state_dict(linear.state_dict())  # the weights that every arm begins with
        self.register_buffer("log_prior", torch.full((k,), -math.log(k)))
        self.register_buffer("means", torch.zeros(k, d))
        self.register_buffer("factors", torch.eye(d).repeat(k, 1, 1))

    def sums(
        self, features: Float[Tensor, "n d"], labels: Int64[Tensor, "n"]
    ) -> Float[Tensor, "k d1 d1"]:
        """Sum the products of (1, features) by class: counts, sums and second moments."""
        rows = F.pad(_precise(features), (1, 0), value=1.0)
        classes = [rows[labels.to(rows.device) == y] for y in range(len(self.means))]
        return torch.stack([of_one.T @ of_one for of_one in classes])

    def fit(self, sums: Float[Tensor, "k d1 d1"]) -> None:
        """Fit prior, means and covariances to the `sums` of all training images."""
        counts = sums[:, 0, 0]
        moments = sums / counts.clamp(min=1)[:, None, None]
        means = moments[:, 0, 1:]
        covariances = moments[:, 1:, 1:] - means[:, :, None] * means[:, None, :]
        variances = covariances.diagonal(dim1=1, dim2=2).mean(dim=1)
        # A class that varies nowhere, such as one of a single image, gets the others' variance.
        jitter = JITTER * torch.where(variances > 0, variances, variances.mean().clamp(min=JITTER))
        identity = torch.eye(means.shape[1], dtype=sums.dtype, device=sums.device)
        self.log_prior.copy_((counts / counts.sum()).log())
        self.means.copy_(means)
        self.factors.copy_(torch.linalg.cholesky(covariances + jitter[:, None, None] * identity))

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Compute the log density of features under the mixture of the classes' Gaussians."""
        logs = []
        for prior, mean, factor in zip(self.log_prior, self.means, self.factors, strict=True):
            white = torch.linalg.solve_triangular(factor, (features - mean).T, upper=False)
            volume = factor.diagonal().log().sum() + len(mean) / 2 * math.log(2 * math.pi)
            logs.append(prior - volume - white.square().sum(dim=0) / 2)
        return torch.stack(logs).logsumexp(dim=0)


class Process(nn.Module):
    """A Gaussian process as last layer, by random features of an RBF kernel (SNGP).

    Training fits the mean, a linear layer on the random features. Its exact covariance is computed
    afterwards, from the training images; from then on logits are divided by sqrt(1 + pi/8 v) with
    v the variance (the mean-field approximation). The score is -v. One covariance serves all
    classes: that of a Gaussian likelihood, which the authors' experiments use in place of one for
    each class (eq. 9). The kernel's length scale is 1 for the root mean square of the difference of
    two images' features.

    Source: Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic Deep
    Learning via Distance Awareness", arXiv 2006.10108, section 3.1 and algorithms 1, 2; mean field:
    Lu et al. 2020, arXiv 2006.07584.
    """

    directions: Tensor
    phases: Tensor
    covariance: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        d, k, r = linear.in_features, linear.out_features, RANDOM_FEATURES
        self.register_buffer("directions", torch.randn(r, d) / math.sqrt(d))
        self.register_buffer("phases", 2 * math.pi * torch.rand(r))
        self.register_buffer("covariance", torch.eye(r))  # the prior's
        self.weight = nn.Parameter(torch.randn(k, r))  # of the prior

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        with torch.autocast(features.device.type, enabled=False):
            phi = self.random_features(features.float())
            logits = F.linear(phi, self.weight)
            if self.training:
                return logits
            return logits / (1 + MEAN_FIELD * self._variance(phi))[:, None].sqrt()

    def random_features(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        """Map features to those whose products are the kernel's values on average (eq. 7)."""
        phases = F.linear(features, self.directions, self.phases)
        return phases.cos() * math.sqrt(2 / len(self.phases))

    def sums(
        self, features: Float[Tensor, "n d"], labels: Int64[Tensor, "n"]
    ) -> Float[Tensor, "r r"]:
        """Sum the outer products of random features."""
        del labels  # a Gaussian likelihood has the same precision for all
        phi = _precise(self.random_features(features))
        return phi.T @ phi

    def fit(self, sums: Float[Tensor, "r r"]) -> None:
        """Invert the precision matrix: the prior's, plus the `sums` of all training images."""
        identity = torch.eye(len(sums), dtype=sums.dtype, device=sums.device)
        self.covariance.copy_(torch.cholesky_inverse(torch.linalg.cholesky(identity + sums)))

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Compute minus the process's variance, in [-2, 0]."""
        return -self._variance(self.random_features(features))

    def _variance(self, phi: Tensor) -> Tensor:
        return ((phi @ self.covariance) * phi).sum(dim=1)


class Centroids(nn.Module):
    """A centroid for each class; logits are the logs of kernel values in (0, 1] (DUQ).

    The softmax of these logits divides the kernel values by their sum. The score is the largest of
    them. The embeddings of a training batch are kept until `update`.

    Source: van Amersfoort et al. 2020, "Uncertainty Estimation Using a Single Deep Deterministic
    Neural Network", arXiv 2003.02037, eqs. 1 and 4 to 6.
    """

    counts: Tensor
    totals: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        d, k = linear.in_features, linear.out_features
        _require_fitting(k * d * d, "an embedding for each class")
        self.weight = nn.Parameter(torch.randn(k, d, d) * math.sqrt(2 / d))
        self.register_buffer("counts", torch.ones(k))
        self.register_buffer("totals", torch.randn(k, d) / 20)
        self.embedded: list[Tensor] = []

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        with torch.autocast(features.device.type, enabled=False):
            z = torch.einsum("nd,ked->nke", features.float(), self.weight)
            if self.training:
                self.embedded.append(z.detach())
            squares = (z - self.totals / self.counts[:, None]).square().mean(dim=2)
            return -squares / (2 * LENGTH_SCALE**2)

    def update(
        self,
        labels: Int64[Tensor, "n"],
        taken: Tensor,
        summed: Callable[[Tensor], Tensor] = lambda values: values,
    ) -> None:
        """Move the centroids to the mean embedding of each class's images, if a step was taken.

        summed: sums over the processes of a run.
        """
        z, one_hot = torch.cat(self.embedded), F.one_hot(labels, len(self.counts)).float()
        self.embedded.clear()
        totals = torch.einsum("nk,nke->ke", one_hot, z)
        for mean, new in ((self.counts, one_hot.sum(dim=0)), (self.totals, totals)):
            moved = MOMENTUM * mean + (1 - MOMENTUM) * summed(new)
            mean.copy_(torch.where(taken, moved, mean))

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Compute the log of the largest kernel value, at most 0."""
        logits: Tensor = self(features)
        return logits.amax(dim=1)


class AtMost(nn.Module):
    """A parametrization that scales a weight down to a bound of its largest singular value.

    The weight of a convolution counts as a matrix [out, in h w]. unit: torch's parametrization,
    which divides the weight by its largest singular value, from power iteration.

    Source: Miyato et al. 2018, arXiv 1802.05957; with a bound: Liu et al. 2020, arXiv 2006.10108,
    eq. 10.
    """

    def __init__(self, unit: nn.Module, bound: float) -> None:
        super().__init__()
        self.unit, self.bound = unit, bound

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            unit: Tensor = self.unit(weight)
            largest = weight.norm() / unit.norm()
            return torch.where(largest > self.bound, self.bound * unit, weight)


def bound_weights(network: nn.Module, bound: float) -> None:
    """Bound the largest singular value of every convolution and linear layer, heads excepted."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer, Gaussians):
            spectral_norm(layer)
            parts = cast(nn.ModuleList, layer.get_submodule("parametrizations.weight"))
            parts[0] = AtMost(parts[0], bound)


def _require_fitting(numbers: int, what: str) -> None:
    if numbers > MOST_NUMBERS:
        raise UsageError(
            f"{what} takes {4 * numbers / 2**30:.0f} GiB here, at most "
            f"{4 * MOST_NUMBERS / 2**30:.0f} are allowed; choose a --model with fewer features"
        )


HEADS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "gaussians": Gaussians,
    "process": Process,
    "centroids": Centroids,
}


def _precise(values: Tensor) -> Tensor:
    """Return the values in float64, on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()
