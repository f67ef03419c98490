"""The gradient of every subject by itself: the mean over the subject's studies of a step.

Four ways give the same numbers; `gradient_choice` finds out which one is right and fastest for a network. A loss must
be the mean over studies of what each study loses, as `dp_guard` checks.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.func import functional_call

from medfl.errors import ShapeError

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, ...), target (B, ...)) -> scalar, the mean over the B studies."""


@dataclass(frozen=True, eq=False)
class OuterProducts:
    """Gradients of one weight matrix, one for each of n subjects, that are never written out.

    Attributes
    ----------
    back : Tensor of shape (n, out)
        Gradient at the layer's output.
    given : Tensor of shape (n, in)
        Input of the layer. The gradient of subject i is ``back[i] given[i]^T``.
    """

    back: Tensor
    given: Tensor

    def squared_norms(self) -> Tensor:
        """Return |back|^2 |given|^2 of each subject, float64 of shape (n,)."""
        given = torch.linalg.vector_norm(self.given, dim=1).double()
        norms: Tensor = torch.linalg.vector_norm(self.back, dim=1, dtype=torch.float64) * given
        return norms.square_()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return the sum of the gradients times `weights` (n,) float64, flattened."""
        weighted = (self.back * weights[:, None]).to(self.given.dtype)
        return (weighted.T @ self.given).flatten().double()

    def of(self, subjects: Tensor) -> "OuterProducts":
        """Return those of some subjects, by a mask of shape (n,)."""
        return OuterProducts(self.back[subjects], self.given[subjects])

    def dense(self) -> Tensor:
        """Return all gradients written out, shape (n, out, in)."""
        return self.back[:, :, None] * self.given[:, None, :]


@dataclass(frozen=True, eq=False)
class Stacked:
    """Gradients of one parameter, one for each of n subjects.

    Attributes
    ----------
    gradients : Tensor of shape (n, *parameter)
    """

    gradients: Tensor

    def squared_norms(self) -> Tensor:
        """Return the squared L2 norm of each subject's gradient, float64 of shape (n,)."""
        norms: Tensor = torch.linalg.vector_norm(self.gradients.flatten(1), dim=1, dtype=torch.float64)
        return norms.square_()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return the sum of the gradients times `weights` (n,) float64, flattened."""
        return weights @ self.gradients.flatten(1).double()

    def of(self, subjects: Tensor) -> "Stacked":
        """Return those of some subjects, by a mask of shape (n,)."""
        return Stacked(self.gradients[subjects])

    def dense(self) -> Tensor:
        """Return all gradients, shape (n, *parameter)."""
        return self.gradients


SubjectGradients = Sequence[OuterProducts | Stacked]
"""One for each trainable parameter, in order, all of the same n subjects."""


@dataclass(frozen=True, eq=False)
class SubjectBatch:
    """The studies of the subjects drawn for a step.

    Attributes
    ----------
    image : Tensor of shape (S, C, *spatial)
        Or (S, F). S = 0 is legal.
    target : Tensor of shape (S, ...)
    owner : Tensor of shape (S,), int64
        Which subject each study belongs to, ascending from 0 without gaps: studies of one subject stand side by side.

    Raises
    ------
    ShapeError
        If lengths differ, or owners are not ascending from 0 without gaps.
    """

    image: Tensor
    target: Tensor
    owner: Tensor

    def __post_init__(self) -> None:
        """Check lengths and order."""
        if not len(self.image) == len(self.target) == len(self.owner):
            raise ShapeError("image, target and owner must have one length, that of the studies of the step.")
        if len(self.owner):
            steps = self.owner.diff()
            if int(self.owner[0]) != 0 or bool(((steps != 0) & (steps != 1)).any()):
                raise ShapeError("owner must ascend from 0 without gaps, studies of one subject side by side.")

    @cached_property
    def subjects(self) -> int:
        """Subjects that were drawn."""
        return int(self.owner[-1]) + 1 if len(self.owner) else 0

    def of_one_study_each(self) -> bool:
        """Say whether every subject has exactly one study."""
        return self.subjects == len(self.owner)

    def parts(self, studies_at_once: int) -> Iterator["SubjectBatch"]:
        """Yield whole subjects, as many as have at most `studies_at_once` studies together, and always at least one."""
        if 0 < len(self.owner) <= studies_at_once:
            yield self
            return
        counts = torch.bincount(self.owner).tolist() if len(self.owner) else []
        start = first = 0
        while first < len(counts):
            last, end = first + 1, start + counts[first]
            while last < len(counts) and end + counts[last] - start <= studies_at_once:
                end += counts[last]
                last += 1
            window = slice(start, end)
            yield SubjectBatch(self.image[window], self.target[window], self.owner[window] - first)
            start, first = end, last


GradientMethod = Callable[[nn.Module, Loss, SubjectBatch], Iterator[SubjectGradients]]
"""(network in training mode, loss, batch of at least one study) -> gradients of all subjects, a few at a time."""


def by_loop(network: nn.Module, loss: Loss, batch: SubjectBatch) -> Iterator[SubjectGradients]:
    """Yield subject by subject from an ordinary backward pass: always right, and the least memory."""
    parameters = trainable(network)
    for part in batch.parts(1):
        value = loss(network(part.image), part.target)
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        yield [
            Stacked(torch.zeros_like(p)[None] if one is None else one[None])
            for p, one in zip(parameters, found, strict=True)
        ]


def by_copies(network: nn.Module, loss: Loss, batch: SubjectBatch) -> Iterator[SubjectGradients]:
    """Yield all subjects at once: each has a copy of the parameters of its own, and the network is mapped over copies.

    `torch.func` maps the network only; the loss sees an ordinary batch, so it may do what a map cannot. Dropout is
    drawn for each study. The result of one study cannot depend on another one.
    """
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    leaves = [p.detach().expand(batch.subjects, *p.shape).clone().requires_grad_() for p in named.values()]
    single = batch.of_one_study_each()
    copies = dict(zip(named, leaves if single else [leaf[batch.owner] for leaf in leaves], strict=True))

    def forward(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        logits: Tensor = functional_call(network, parameters, (image[None],))
        return logits[0]

    logits = torch.vmap(forward, randomness="different")(copies, batch.image)
    found = torch.autograd.grad(_total(loss, logits, batch), leaves, allow_unused=True)
    yield [Stacked(torch.zeros_like(leaf) if one is None else one) for leaf, one in zip(leaves, found, strict=True)]


def by_hooks(network: nn.Module, loss: Loss, batch: SubjectBatch) -> Iterator[SubjectGradients]:
    """Yield all subjects at once from Opacus' hooks, which are taken off again. No activation may work in place."""
    from opacus.grad_sample import GradSampleHooks

    parameters = trainable(network)
    hooks = GradSampleHooks(network, loss_reduction="sum", strict=False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
            torch.autograd.backward([_total(loss, network(batch.image), batch)], inputs=parameters)
        yield [Stacked(_of_subjects(_sample_of(p, len(batch.image)), batch)) for p in parameters]
    finally:
        hooks.remove_hooks()
        for p in parameters:
            p.grad = None
            for name in ("grad_sample", "_current_grad_sample", "_forward_counter"):
                if hasattr(p, name):
                    delattr(p, name)


def by_outer_products(network: nn.Module, loss: Loss, batch: SubjectBatch) -> Iterator[SubjectGradients]:
    """Yield all subjects at once where every trainable layer is an `nn.Linear` of vectors that is used once.

    The gradient of a weight is the outer product of what comes back and what went in, so one ordinary backward pass to
    the layers' outputs is enough. With one study per subject the products are not even written out.

    Raises
    ------
    ShapeError
        If another kind of layer is trainable, or a layer is used twice or on more than vectors.
    """
    layers = linear_layers(network)
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if module in seen or output.ndim != 2:
            raise ShapeError("outer products need linear layers that see one vector per study, once.")
        seen[module] = (given[0].detach(), output)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        logits = network(batch.image)
    finally:
        for handle in handles:
            handle.remove()
    outputs = [seen[layer][1] for layer in layers]
    gradients: list[OuterProducts | Stacked] = []
    for layer, back in zip(layers, torch.autograd.grad(_total(loss, logits, batch), outputs), strict=True):
        if layer.weight.requires_grad:
            products = OuterProducts(back, seen[layer][0])
            single = batch.of_one_study_each()
            gradients.append(products if single else Stacked(_of_subjects(products.dense(), batch)))
        if layer.bias is not None and layer.bias.requires_grad:
            gradients.append(Stacked(_of_subjects(back, batch)))
    yield gradients


WRITES_NOTHING_OUT = "outer products"
"""The method whose memory does not grow with the number of subjects times that of parameters."""

METHODS: Mapping[str, GradientMethod] = MappingProxyType(
    {WRITES_NOTHING_OUT: by_outer_products, "copies": by_copies, "hooks": by_hooks, "loop": by_loop}
)
"""Name -> method. "loop" is what the others are held against."""


def trainable(network: nn.Module) -> list[Tensor]:
    """Return the parameters that take a gradient, in the order of `Module.parameters`."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    """Return the linear layers that hold all trainable parameters, in order.

    Raises
    ------
    ShapeError
        If another kind of layer holds one, or there is none.
    """
    layers: list[nn.Linear] = []
    for module in network.modules():
        own = [p for p in module._parameters.values() if p is not None and p.requires_grad]
        if own and not isinstance(module, nn.Linear):
            layers.clear()
            break
        if own and isinstance(module, nn.Linear):
            layers.append(module)
    if not layers:
        raise ShapeError("outer products need a network whose trainable parameters all belong to linear layers.")
    return layers


def _total(loss: Loss, logits: Tensor, batch: SubjectBatch) -> Tensor:
    """Return the sum over subjects of the mean loss over their studies."""
    if batch.of_one_study_each():
        return loss(logits, batch.target) * batch.subjects
    counts = torch.bincount(batch.owner)
    total = logits.new_zeros(())
    for count in torch.unique(counts).tolist():
        among = counts[batch.owner] == count
        total = total + loss(logits[among], batch.target[among]) * int((counts == count).sum())
    return total


def _of_subjects(studies: Tensor, batch: SubjectBatch) -> Tensor:
    """Sum over the studies of each subject."""
    if batch.of_one_study_each():
        return studies
    return studies.new_zeros(batch.subjects, *studies.shape[1:]).index_add_(0, batch.owner, studies)


def _sample_of(parameter: Tensor, studies: int) -> Tensor:
    found = getattr(parameter, "grad_sample", None)
    if isinstance(found, Tensor) and len(found) == studies:
        return found
    if found is None:
        return parameter.new_zeros(studies, *parameter.shape)
    raise ShapeError("hooks must give one gradient for each study; a layer is used in a way they cannot follow.")
