"""How much noise a whole training needs, so that both the account of the run and a site's ledger keep to the target."""

from medfl.errors import ConfigError
from medfl.privacy.composition import PoissonSampledGaussian, SelfComposed, composed_epsilon
from medfl.privacy.sampled_gaussian import Adjacency, noise_for

_STEP = 1.001
_MOST_STEPS = 1 << 14  # about 13 million times the first noise


def planned_noise(
    epsilon: float, delta: float, *, rate: float, steps_per_round: int, rounds: int, adjacency: Adjacency
) -> float:
    """Return a noise multiplier under which all steps of all rounds together keep to a target, however they are added.

    `noise_for` calibrates against the account of a run, whose resolution follows the target. A ledger composes one
    event for each round at a fixed resolution (`composition.composed_epsilon`), which may round up a little more: the
    last round would then be refused although the plan was kept. Hence the noise is raised by steps of 0.1 % until the
    ledger agrees too.

    Parameters
    ----------
    epsilon, delta : float
        For everything that training shows about one subject; epsilon > 0, delta in (0, 1).
    rate : float
        Chance of each subject to take part in a step, in (0, 1]; 1 is full participation.
    steps_per_round, rounds : int
        At least 1 each. A round is one event of the ledger.
    adjacency : Adjacency

    Returns
    -------
    float
        Standard deviation of the noise per coordinate over the clip.

    Raises
    ------
    ConfigError
        If a number is out of range, or no noise is enough.
    """
    if steps_per_round < 1 or rounds < 1:
        raise ConfigError(f"a plan needs at least one step and one round, found {steps_per_round} and {rounds}.")
    first = noise_for(epsilon, delta, rate=rate, steps=steps_per_round * rounds, adjacency=adjacency)

    def kept(steps: int) -> bool:
        event = SelfComposed(PoissonSampledGaussian(rate, first * _STEP**steps), steps_per_round)
        return composed_epsilon({event: rounds}, delta, adjacency.value) <= epsilon

    if kept(0):
        return first
    low, high = 0, 1
    while not kept(high):
        low, high = high, 2 * high
        if high > _MOST_STEPS:
            raise ConfigError(f"epsilon {epsilon:g} cannot be accounted for over {rounds} rounds; allow more.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if kept(middle) else (middle, high)
    return first * _STEP**high
