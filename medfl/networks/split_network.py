"""A network that can be cut in two, with a protector at the cut."""

from torch import Tensor, nn


class SplitNetwork(nn.Module):
    """``head(protector(backbone(image)))``.

    Parameters
    ----------
    backbone : Module
        (B, C, *spatial) -> features, (B, F) or (B, F, *spatial).
    protector : Module
        Features -> features of the same shape. The network never imports one; it is handed in.
    head : Module
        Features -> logits, (B, K) or (B, K, *spatial).
    frozen_backbone : bool
        Public weights that nobody trains: its parameters take no gradient, it stays in evaluation mode and its
        parameters are not part of `shared_state`.
    """

    def __init__(self, backbone: nn.Module, protector: nn.Module, head: nn.Module, *, frozen_backbone: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.protector = protector
        self.head = head
        self.frozen_backbone = frozen_backbone
        if frozen_backbone:
            backbone.requires_grad_(False)
            backbone.eval()

    def features(self, image: Tensor) -> Tensor:
        """Return protected features; there is no way to ask for clear ones."""
        protected: Tensor = self.protector(self.backbone(image))
        return protected

    def forward(self, image: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def train(self, mode: bool = True) -> "SplitNetwork":
        """Switch to training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen_backbone:
            self.backbone.eval()
        return self

    def shared_state(self) -> dict[str, Tensor]:
        """Return the tensors that sites and hub exchange: everything but a frozen backbone.

        Returns
        -------
        dict of str to Tensor
            Views of the live parameters and buffers, not copies.
        """
        state: dict[str, Tensor] = self.state_dict()
        if self.frozen_backbone:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.")}
        return state
