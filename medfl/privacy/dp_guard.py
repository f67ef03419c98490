"""What would make DP-SGD a claim without a ground, refused by name before anything is computed.

Opacus' validator looks at modules with trainable parameters only, so that it passes frozen batch normalization and
running statistics without parameters; both move with the data and get no noise. Here every module counts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medfl.errors import ConfigError, PrivacyError
from medfl.privacy.subject_gradients import Loss
from medfl.privacy.subject_sampling import PoissonSubjects

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_SAME = 1e-4  # relative; studies that are mixed differ by far more


def guard(
    network: nn.Module, loss: Loss, image: Tensor, target: Tensor, *, sampler: object, loss_name: str
) -> tuple[str, ...]:
    """Refuse what DP-SGD is not true for, after switching to training mode and setting every module out of place.

    Parameters
    ----------
    network : Module
        Changed: in training mode afterwards, and no activation works in place, see `set_out_of_place`.
    loss : callable
        (logits, target) -> scalar.
    image, target : Tensor of shape (B, ...)
        At least two studies of the shapes that training will see; random images do.
    sampler : object
        What draws the subjects of a step.
    loss_name : str
        For the message.

    Returns
    -------
    tuple of str
        The modules that were set out of place.

    Raises
    ------
    PrivacyError
        If the network keeps or uses statistics of a batch, if studies influence each other, if the loss is not a mean
        over studies or the sampler does not draw subjects by Poisson sampling. All findings are named at once.
    ConfigError
        If there are fewer than two studies to try with.
    """
    if len(image) < 2 or len(image) != len(target):
        raise ConfigError(f"the guard tries the network with at least two studies, found {len(image)}, {len(target)}.")
    changed = set_out_of_place(network)
    network.train()
    findings = [*sampler_findings(sampler), *statistics_findings(network)]
    if not any("statistics" in finding for finding in findings):
        before = {name: buffer.clone() for name, buffer in network.named_buffers()}
        findings += [*moving_buffer_findings(network, image), *mixing_findings(network, image)]
        findings += loss_findings(network, loss, image, target, loss_name)
        for name, buffer in network.named_buffers():
            buffer.copy_(before[name])
    if findings:
        raise PrivacyError("DP-SGD cannot be claimed for this training: " + "; ".join(findings) + ".")
    return changed


def set_out_of_place(network: nn.Module) -> tuple[str, ...]:
    """Set `inplace` to False on every module that has it, and return their names.

    Values stay the same, to the last bit; hooks need it, since an activation that is overwritten is lost to them. It is
    done on the network itself: set `inplace` on the named modules to go back.
    """
    changed = []
    for name, module in network.named_modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False
            changed.append(name)
    return tuple(changed)


def statistics_findings(network: nn.Module) -> list[str]:
    """Name every module that keeps running statistics while it trains, or normalizes by the batch."""
    findings = []
    for name, module in network.named_modules():
        kept = [key for key in _STATISTICS if getattr(module, key, None) is not None]
        by_batch = isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
        if by_batch or (kept and module.training):
            findings.append(
                f"{name or 'the network'} ({type(module).__name__}) takes statistics of the batch, use instance or "
                "group normalization, or keep it in evaluation mode"
            )
    return findings


def moving_buffer_findings(network: nn.Module, image: Tensor) -> list[str]:
    """Name every buffer that one forward pass changes."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    _forward(network, image)
    return [
        f"the buffer {name} changes with the data in training and would get no noise"
        for name, buffer in network.named_buffers()
        if not torch.equal(buffer, before[name])
    ]


def mixing_findings(network: nn.Module, image: Tensor) -> list[str]:
    """Name the first module whose output for one study changes with the other studies of the batch."""
    other = image.clone()
    other[1:] = image[1:].flip(0) * 1.5 + 0.5
    first, second = _outputs(network, image), _outputs(network, other)
    for (name, one), (_, two) in zip(first, second, strict=True):
        if len(one) and len(two) and not torch.allclose(one[0], two[0], rtol=_SAME, atol=_SAME):
            return [f"{name or 'the network'} mixes the studies of a batch, so no gradient belongs to one subject"]
    return []


def loss_findings(network: nn.Module, loss: Loss, image: Tensor, target: Tensor, loss_name: str) -> list[str]:
    """Name a loss that is not the mean over studies of what each study loses, tried on random logits."""
    generator = torch.Generator().manual_seed(0)
    shape = _forward(network, image).shape
    logits = torch.randn(shape, generator=generator).to(image.device) * 2.0
    together = float(loss(logits, target))
    alone = sum(float(loss(logits[i : i + 1], target[i : i + 1])) for i in range(len(logits))) / len(logits)
    if abs(together - alone) <= _SAME * max(abs(alone), 1e-6):
        return []
    return [f"the loss {loss_name!r} is not a mean over studies (batch-wise Dice is one such), use one that is"]


def sampler_findings(sampler: object) -> Sequence[str]:
    """Name a sampler that does not give every subject the same chance, alone, at every step."""
    if isinstance(sampler, PoissonSubjects):
        return []
    return [
        f"{type(sampler).__name__} does not draw subjects by Poisson sampling with one rate for all (weighted and "
        "shuffled batches have other privacy), use PoissonSubjects"
    ]


def _outputs(network: nn.Module, image: Tensor) -> list[tuple[str, Tensor]]:
    """Return the outputs of all modules in the order in which they finish."""
    kept: list[tuple[str, Tensor]] = []
    names = {module: name for name, module in network.named_modules()}

    def keep(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim and len(output) == len(image):
            kept.append((names[module], output.detach().clone()))

    handles = [module.register_forward_hook(keep) for module in names]
    try:
        _forward(network, image)
    finally:
        for handle in handles:
            handle.remove()
    return kept


@torch.no_grad()
def _forward(network: nn.Module, image: Tensor) -> Tensor:
    """Run once with a fixed seed, so that dropout is the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        logits: Tensor = network(image)
    return logits
