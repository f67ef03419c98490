"""What whole updates cost that are clipped and noised once a round, by every site itself or by a hub that is trusted.

Every site takes part in every round, so nothing is gained by sampling and the closed form is exact: all rounds together
are mu-GDP (Dong, Roth and Su 2022) with ``mu = sqrt(T) * moved / sigma``, where sigma is the noise multiplier and
`moved` says how far, in clips, neighbors can be apart.

For a subject `moved` is 2, wherever the noise is added. Training is a function of all of a site's subjects about which
nothing is assumed, so that one subject more, less or other can turn the update from one point of the ball of radius
`clip` to the opposite one. The better known account of DP-FedAvg has `moved` 1: a whole site takes part, or something
that adds nothing stands in its place (denominators are fixed). It says nothing about a subject of a site that takes
part either way: with the subject and without it, the model is only known to be like that of a run without the site, and
twice one distance is two.
"""

from dp_accounting import GaussianDpEvent

from medfl.errors import ConfigError
from medfl.privacy.accounting import HUB_SEES_ALL, ReleaseEvent, check_delta
from medfl.privacy.composition import Gaussian
from medfl.privacy.noise_planning import planned_noise
from medfl.privacy.sampled_gaussian import Adjacency, SampledGaussian, epsilon_of, gaussian_ceiling, gaussian_mu

MODELS_ONLY = "only the noised global models are seen; the hub is trusted"
_MOVED = 2.0  # clips, by one subject
_ADDED_AT = {
    HUB_SEES_ALL: "A site's whole update, clipped and noised at the site once a round",
    MODELS_ONLY: "The mean of the sites' clipped updates over a fixed number of sites, noised at the hub once a round",
}


def update_noise_for(epsilon: float, delta: float, rounds: int) -> float:
    """Return the noise multiplier for a target that all rounds keep together, in the run's account and in a ledger.

    Parameters
    ----------
    epsilon, delta : float
        For one subject over all rounds; epsilon > 0, delta in (0, 1).
    rounds : int
        At least 1.

    Returns
    -------
    float
        Standard deviation of the noise per coordinate over the clip, for `noised_update` and `DpFedAvg` alike.

    Raises
    ------
    ConfigError
        If a number is out of range, or no noise is enough.
    """
    replaced, added = (
        planned_noise(epsilon, delta, rate=1.0, steps_per_round=1, rounds=rounds, adjacency=adjacency)
        for adjacency in (Adjacency.REPLACE, Adjacency.ADD_OR_REMOVE)
    )
    return max(replaced, _MOVED * added)  # the same but for rounding; a ledger may be kept under either


def update_event(noise_multiplier: float, adjacency: Adjacency) -> Gaussian:
    """Return one round as a ledger books it whose account has this adjacency.

    A ledger takes a subject who is added or removed to move a sum by one clip. A whole update may move by two; in such
    an account the noise therefore counts for half. Either way the ledger comes to ``mu = 2 * sqrt(T) / sigma``.

    Parameters
    ----------
    noise_multiplier : float
        > 0.
    adjacency : Adjacency
        Of the ledger's account.
    """
    return Gaussian(noise_multiplier if adjacency is Adjacency.REPLACE else noise_multiplier / _MOVED)


def update_release(
    *, noise_multiplier: float, rounds: int, delta: float, subjects: int, release_model: str = HUB_SEES_ALL
) -> ReleaseEvent:
    """Return what all rounds together may claim for one subject.

    dp-accounting's privacy loss distribution, checked against the closed form. "Replace one subject" covers one that is
    added or left out as well, since the distance between neighbors is two clips in each case.

    Parameters
    ----------
    noise_multiplier : float
        > 0; the same in all rounds.
    rounds : int
        Whose noised result may have been seen, at least 1; a round that was lost or computed again counts too.
    delta : float
        At most 1 / (10 * subjects).
    subjects : int
        Distinct training subjects of the site.
    release_model : str
        `HUB_SEES_ALL` if sites noise their own updates, `MODELS_ONLY` if a trusted hub does.

    Raises
    ------
    ConfigError
        If delta is too large for so many subjects, the release model is none of the two, or a number is out of range.
    PrivacyError
        If two accountants disagree.
    """
    if release_model not in _ADDED_AT:
        raise ConfigError(f"whole updates are released as one of {list(_ADDED_AT)}, found {release_model!r}.")
    check_delta(delta, subjects)
    phase = SampledGaussian(noise_multiplier, 1.0, rounds)
    ceiling = gaussian_ceiling(gaussian_mu([noise_multiplier] * rounds, Adjacency.REPLACE))
    note = (
        f"{_ADDED_AT[release_model]}: {rounds} rounds, every site in each of them, noise multiplier "
        f"{noise_multiplier:g}. One subject who is added, left out or replaced may change the whole update, by up to "
        f"two clips. No attacker exceeds a true-positive rate {ceiling.true_positive_rate:.3f} at a "
        f"false-positive rate of 1 %, or an advantage of {ceiling.advantage:.3f}. "
    )
    if release_model == MODELS_ONLY:
        whole = epsilon_of([phase], delta, Adjacency.ADD_OR_REMOVE)
        note += (
            f"A whole site against nothing in its place: epsilon {whole:.3g}, which is none for a subject of a site "
            "that takes part either way. The hub sees updates without noise. "
        )
    return ReleaseEvent(
        GaussianDpEvent.__name__,
        epsilon_of([phase], delta, Adjacency.REPLACE),
        delta,
        Adjacency.REPLACE.value,
        "dp-accounting PLD, checked against the analytic Gaussian mechanism",
        release_model,
        note + "Counts of subjects and studies, measures, who replied and when are outside of this guarantee.",
    )
