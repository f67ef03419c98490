"""What is done to features before they are shared, and who trains on them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medfl.config.base import Settings

Directions = Annotated[int, Field(ge=1, le=512)]
Epsilon = Annotated[float, Field(gt=0, le=1000)]


class BottleneckStage(Settings):
    """Release only the directions the task needs.

    Attributes
    ----------
    directions : tuple of int
        Candidates, ascending; the smallest within `tolerance` of the best validation accuracy is taken.
    method : str
        "pls" (partial least squares) or "lda", both on whitened features.
    components : int
        Leading principal components that are whitened first.
    saturate : float or None
        Cut scores off at this share of the way from the middle between class means to the outermost of them; None keeps
        them whole. Below 1 many studies get the same value: less of a person, less certainty. Between two classes only
        one direction is left.
    learn : str
        "federated": from sums over all sites; "site": at one site from its own studies, whose sums never leave it.
    site : str
        The site that learns, with ``learn: site``.
    epsilon : float or None
        Noise on every site's sums, for this epsilon per subject; None sends them as they are (epsilon = infinity).
    delta : float
        Of that noise; at most a tenth of one divided by the site's subjects.
    clip : float
        L2 norm that features are clipped to before noised sums, in units of one standard deviation.
    """

    kind: Literal["bottleneck"] = "bottleneck"
    directions: Annotated[tuple[Directions, ...], Field(min_length=1, max_length=16)] = (1, 2, 4, 8)
    method: Literal["pls", "lda"] = "pls"
    components: int = Field(default=256, ge=1, le=4096)
    tolerance: float = Field(default=0.005, ge=0, le=0.5)
    saturate: float | None = Field(default=None, gt=0, le=4)
    learn: Literal["federated", "site"] = "federated"
    site: str = ""
    epsilon: Epsilon | None = None
    delta: float = Field(default=1e-5, gt=0, lt=1)
    clip: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "BottleneckStage":
        if list(self.directions) != sorted(set(self.directions)):
            raise ValueError(f"directions must ascend without repeats, got {list(self.directions)}")
        if (self.learn == "site") != bool(self.site):
            raise ValueError("site must be named exactly when learn is 'site'")
        if (self.learn == "site" or self.epsilon is not None) and len(self.directions) != 1:
            raise ValueError(
                f"directions must be one number when a site learns or the sums are noised, got {list(self.directions)}"
            )
        if self.learn == "site" and self.epsilon is not None:
            raise ValueError("epsilon is for sums that leave a site; with learn 'site' none do")
        return self


class ProjectionStage(Settings):
    """Ablation: a public random projection instead of learned directions."""

    kind: Literal["projection"]
    directions: Directions = 4


Minimize = Annotated[BottleneckStage | ProjectionStage, Field(discriminator="kind")]


class GaussianStage(Settings):
    """Clip, then the analytic Gaussian mechanism: differentially private per subject, replace-one.

    Attributes
    ----------
    epsilon, delta : float
        For everything that is released about one subject.
    clip : float
        Every study's features are clipped to this root mean square over all of their numbers, in units of one standard
        deviation: to an L2 norm of clip * sqrt(number of values).
    studies_per_subject : int
        Most studies of one subject that are released; the noise is calibrated for so many. More are left out.
    """

    kind: Literal["gaussian"] = "gaussian"
    epsilon: Epsilon
    delta: float = Field(default=1e-5, gt=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    studies_per_subject: int = Field(default=1, ge=1, le=1000)


class PlainNoiseStage(Settings):
    """Control: noise of a chosen strength without clipping. Not differentially private."""

    kind: Literal["plain"]
    std: float = Field(gt=0)


Noise = Annotated[GaussianStage | PlainNoiseStage, Field(discriminator="kind")]


class KeyedStage(Settings):
    """Keyed nonlinear transform (keyed obfuscation; no formal guarantee).

    Attributes
    ----------
    mode : str
        "invertible", "affine" (ablation without nonlinearity) or "folding" (many-to-one; costs utility).
    rounds : int
        Rounds of mixing and nonlinearity.
    kappa : float
        Strength of the nonlinearity; below 1 in "invertible" mode.
    omega : (float, float)
        Range of its frequencies.
    mixer : str
        "hadamard", "haar" or "none".
    block : int
        Largest block of the Hadamard mixing.
    permutation : str
        Of positions in maps: "global", "block" (blocks of `block_shape`, then inside each) or "none".
    block_shape : tuple of int or None
        Size of a block of positions, with permutation "block".
    custody : str
        "federation": one key for all sites, made by a custodian site. "site": a key per site, and a head per site.
    image_cap : int or None
        Most studies released under one key.
    """

    kind: Literal["knt"] = "knt"
    mode: Literal["invertible", "affine", "folding"] = "invertible"
    rounds: int = Field(default=2, ge=1, le=8)
    kappa: float = Field(default=0.9, gt=0, le=16)
    omega: tuple[float, float] = (1.0, 2.0)
    mixer: Literal["hadamard", "haar", "none"] = "hadamard"
    block: int = Field(default=16, ge=2, le=64)
    permutation: Literal["global", "block", "none"] = "global"
    block_shape: tuple[Directions, ...] | None = None
    custody: Literal["federation", "site"] = "federation"
    image_cap: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "KeyedStage":
        if self.mode == "invertible" and self.kappa >= 1:
            raise ValueError(f"kappa must be below 1 in mode 'invertible', got {self.kappa:g}")
        if self.mode == "folding" and self.kappa <= 1:
            raise ValueError(f"kappa must be above 1 in mode 'folding', got {self.kappa:g}")
        if (self.permutation == "block") != (self.block_shape is not None):
            raise ValueError("block_shape belongs to permutation 'block', and only there; give both or neither")
        if not 0 < self.omega[0] <= self.omega[1]:
            raise ValueError(f"omega must be (low, high) with 0 < low <= high, got {list(self.omega)}")
        return self


class Protection(Settings):
    """Stages in the order in which they act: minimize, add noise, quantize, key. All absent: clear features."""

    minimize: Minimize | None = None
    noise: Noise | None = None
    quantize: int | None = Field(default=None, ge=1, le=8, description="bits per number; an ablation")
    keyed: KeyedStage | None = None

    @property
    def arm(self) -> str:
        """Name of the combination, for example "bottleneck+knt"."""
        names: list[str] = []
        if self.minimize is not None:
            names.append(self.minimize.kind)
        if self.keyed is not None:
            names.append(_keyed_name(self.keyed))
        if self.noise is not None:
            names.append("gaussian" if isinstance(self.noise, GaussianStage) else "matched-noise")
        if self.quantize is not None:
            names.append("quantise")
        return "+".join(names) or "none"


class FeatureSharing(Settings):
    """How features are shared.

    Attributes
    ----------
    head : str
        "hub": the hub trains on released features and targets. "sites": the sites train the head by federated
        averaging; no feature or target leaves them in training. "auto": "hub" for classification, "sites" for
        segmentation, where masks alone can identify people.
    """

    head: Literal["auto", "hub", "sites"] = "auto"


def _keyed_name(keyed: KeyedStage) -> str:
    if keyed.mode == "affine":
        return "permutation" if keyed.mixer == "none" else "affine"
    return "knt"
