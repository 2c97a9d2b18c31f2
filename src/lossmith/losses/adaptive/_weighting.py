"""Several terms, one number to go down: weights of the terms that learn from noise (Kendall) or from gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lossmith.errors import InputError, did_you_mean
from lossmith.losses._items import positive, wide
from lossmith.losses._spec import LossSpec
from lossmith.total import Total

KINDS = {"regression": 0.5, "classification": 1.0}


def term_means(terms: Mapping[str, Total | Tensor], names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Return the mean of each term [T], in the order of `names`, and which of them counted anything, bool [T]."""
    if set(terms) != set(names):
        raise InputError(f"terms must be named {', '.join(names)}; got {', '.join(map(str, terms)) or 'none'}")
    means, some = [], []
    for name in names:
        term = terms[name]
        mean = term.mean() if isinstance(term, Total) else term
        if mean.ndim or not mean.is_floating_point():
            raise InputError(
                f"terms[{name!r}] must be a Total or the mean of one, a floating tensor without dimensions; "
                f"got {mean.dtype} of shape {tuple(mean.shape)}"
            )
        means.append(wide(mean))
        some.append(term.weight != 0 if isinstance(term, Total) else torch.ones_like(mean, dtype=torch.bool))
    return torch.stack(means), torch.stack(some)


class UncertaintyWeighting(nn.Module):
    """Return one loss of several terms, each divided by a noise that is learned with the model.

    Formula: with ``s² = exp(log_variances)`` of a term whose mean is L: ``L/(2s²) + log s`` for a regression (L a
        squared error), ``L/s² + log s`` for a classification (L a cross-entropy); summed over the terms.
    Shapes: terms {name: Total, or mean without dimensions}; the result has no dimensions.
    Use: for terms of different units (a squared error in m², a cross-entropy in nats), where no weights are known.
    Avoid: for terms of one unit: add them (https://arxiv.org/abs/2201.04122). As a measure: it goes below 0 where a
        term is below 1/e or so; that is no bug: a regression of mean L costs ``½(1 + log L)`` at the best s² = L.
    Errors: InputError for a kind that is neither regression nor classification, and terms that are not those named.
    Source: https://arxiv.org/abs/1705.07115 (Kendall, Gal, Cipolla 2018, equations 7 and 10)

    A term that counted nothing (a Total of weight 0) adds nothing, its log s neither. Leave log_variances out of weight
    decay.

    >>> weigh = UncertaintyWeighting({"depth": "regression", "mask": "classification"})
    >>> weigh({"depth": torch.tensor(3.0), "mask": torch.tensor(2.0)}).item()  # 3/2 + 2
    3.5
    """

    factors: Tensor

    def __init__(self, kinds: Mapping[str, str]) -> None:
        super().__init__()
        if not kinds:
            raise InputError("kinds must name a term at least; got none")
        for name, kind in kinds.items():
            if kind not in KINDS:
                hint = did_you_mean(str(kind), KINDS)
                raise InputError(f"kinds[{name!r}] must be one of {', '.join(KINDS)}; got {kind!r}.{hint}")
        self.kinds = dict(kinds)
        self.log_variances = nn.Parameter(torch.zeros(len(kinds)))
        self.register_buffer("factors", torch.tensor([KINDS[kind] for kind in kinds.values()]), persistent=False)

    @property
    def coefficients(self) -> dict[str, float]:
        """What each term is multiplied by now."""
        return dict(zip(self.kinds, self._multipliers().tolist(), strict=True))

    def _multipliers(self) -> Tensor:
        return self.factors * torch.exp(-wide(self.log_variances))

    def forward(self, terms: Mapping[str, Total | Tensor]) -> Tensor:
        """Return the loss to go backward from: weights of terms and model learn from it together."""
        means, some = term_means(terms, tuple(self.kinds))
        losses = self._multipliers() * means + wide(self.log_variances) / 2
        return torch.where(some, losses, 0).sum()


class GradNorm(nn.Module):
    """Return the weighted sum of several terms, whose weights learn to let all of them train at one pace.

    Formula: the loss is ``Σ wᵢLᵢ``. With ``Gᵢ = ‖∇(wᵢLᵢ)‖`` at the shared parameters, the pace ``rᵢ`` the term's
        ``Lᵢ/Lᵢ(first step)`` divided by the mean of those, the weights descend ``Σ |Gᵢ − mean(G)·rᵢ^alpha|`` with the
        target held constant, and are renormalised to sum to the number of terms before each use.
    Shapes: terms {name: Total, or mean without dimensions}; shared: parameters that every term reaches (the last layer
        they share, as in the paper: each term costs a backward pass down to there); the result has no dimensions.
    Use: for two or more tasks on one trunk, of which one drowns the others.
    Avoid: under memory or time limits: the graph is walked once more for each term. Before a plain sum has been tried.
    Errors: InputError for terms that are not those named, and for no or foreign shared parameters.
    Source: https://arxiv.org/abs/1711.02257 (Chen et al. 2018, algorithm 1)

    The weights are parameters: give them to an optimizer, without weight decay. Their gradient arrives in backward,
    together with the model's; the model's sees the weights as constants. Where a term is not above 0, or counted
    nothing, it takes no part in the balance. In eval mode nothing learns, and `shared` is not needed.

    >>> _ = torch.manual_seed(0)
    >>> trunk, heads = torch.nn.Linear(4, 4), torch.nn.ModuleList([torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)])
    >>> weigh = GradNorm(["small", "large"])
    >>> optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters(), *weigh.parameters()], lr=0.02)
    >>> x = torch.randn(64, 4)
    >>> small, large = x[:, :1], 10 * x[:, 1:2]
    >>> for _ in range(50):
    ...     h = trunk(x)
    ...     terms = {"small": (heads[0](h) - small).square().mean(), "large": (heads[1](h) - large).square().mean()}
    ...     loss = weigh(terms, shared=[trunk.weight])
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    >>> now = weigh.coefficients
    >>> now["small"] > 1.5 > now["large"], round(sum(now.values()), 4)
    (True, 2.0)
    """

    first: Tensor

    def __init__(self, names: Iterable[str], *, alpha: float = 1.5) -> None:
        super().__init__()
        self.names = tuple(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise InputError(f"names must be those of the terms, each once; got {', '.join(self.names) or 'none'}")
        positive("alpha", alpha, zero=True)
        self.alpha = alpha
        self.weights = nn.Parameter(torch.ones(len(self.names)))
        self.register_buffer("first", torch.full((len(self.names),), torch.nan))

    @property
    def coefficients(self) -> dict[str, float]:
        """What each term is multiplied by now."""
        return dict(zip(self.names, self._normalised().tolist(), strict=True))

    def _normalised(self) -> Tensor:
        """Return the weights, above 0, with the sum of their number."""
        weights = wide(self.weights.detach()).clamp_min(1e-6)
        return weights * (len(weights) / weights.sum())

    def forward(self, terms: Mapping[str, Total | Tensor], shared: Iterable[Tensor] | None = None) -> Tensor:
        """Return the loss to go backward from; in training, the weights learn from the gradients at `shared`."""
        means, some = term_means(terms, self.names)
        learning = self.training and torch.is_grad_enabled()
        if learning:
            with torch.no_grad():
                self.weights.copy_(self._normalised())
        loss = (self._normalised() * means).sum()
        if not learning:
            return loss
        slope = self._slope(means, some, list(shared or ()))
        # Adds 0, and the gradient of the balance for the weights: so it survives zero_grad and is scaled with the rest.
        return loss + (slope * (self.weights - self.weights.detach())).sum()

    def _slope(self, means: Tensor, some: Tensor, shared: list[Tensor]) -> Tensor:
        """Return the derivative of Σ |Gᵢ − target| for each weight."""
        norms = torch.stack([self._norm(name, mean, shared) for name, mean in zip(self.names, means, strict=True)])
        values = means.detach()
        balanced = some & (values > 0)
        with torch.no_grad():
            self.first.copy_(torch.where(balanced & self.first.isnan(), values.to(self.first.dtype), self.first))
        number = balanced.sum().clamp_min(1)
        ratio = torch.where(balanced, values / self.first, 0)
        pace = ratio / torch.where(balanced.any(), ratio.sum() / number, 1)
        weighted = self._normalised() * norms
        target = torch.where(balanced, weighted, 0).sum() / number * pace**self.alpha
        return torch.where(balanced, norms * torch.sign(weighted - target), 0)

    def _norm(self, name: str, mean: Tensor, shared: list[Tensor]) -> Tensor:
        if not shared or not all(x.requires_grad for x in shared):
            raise InputError(
                "shared must be the parameters that every term reaches, learning ones; got none or frozen ones"
            )
        if not mean.requires_grad:
            raise InputError(f"terms[{name!r}] must come from the shared parameters; it has no gradient")
        grads = torch.autograd.grad(mean, shared, retain_graph=True, allow_unused=True)
        squares = [wide(grad).square().sum() for grad in grads if grad is not None]
        if not squares:
            raise InputError(f"terms[{name!r}] must come from the shared parameters; it does not reach them")
        return torch.stack(squares).sum().sqrt()


SPECS: tuple[LossSpec, ...] = (
    LossSpec(name="uncertainty_weighting", family="adaptive", fn=UncertaintyWeighting),
    LossSpec(name="grad_norm", family="adaptive", fn=GradNorm),
)
