"""Every family of attacks."""

from collections.abc import Mapping

from medfl.results.attack import Family
from pipelines.audit_attributes import attributes
from pipelines.audit_gradients import gradient_inversion
from pipelines.audit_input import Attack
from pipelines.audit_inversion import inversion
from pipelines.audit_keys import key_hygiene
from pipelines.audit_linkage import linkage
from pipelines.audit_membership import membership
from pipelines.audit_reidentification import reidentification
from pipelines.audit_sums import released_sums

ATTACKS: Mapping[Family, Attack] = {
    "re-identification": reidentification,
    "linkage": linkage,
    "inversion": inversion,
    "membership": membership,
    "gradient inversion": gradient_inversion,
    "attributes": attributes,
    "released sums": released_sums,
    "key hygiene": key_hygiene,
}
