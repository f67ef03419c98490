"""Every family of attacks."""

from collections.abc import Mapping

from medfl.results.attack import Family
from pipelines.audit_attributes import attributes
from pipelines.audit_gradients import gradient_inversion
from pipelines.audit_input import Attack
from pipelines.audit_inversion import inversion
from pipelines.audit_keys import key_hygiene
from pipelines.audit_linkage import linkage
from pipelines.audit_reidentification import reidentification

ATTACKS: Mapping[Family, Attack] = {
    "re-identification": reidentification,
    "linkage": linkage,
    "inversion": inversion,
    "gradient inversion": gradient_inversion,
    "attributes": attributes,
    "key hygiene": key_hygiene,
}
