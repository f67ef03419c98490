"""What one family of attacks adds to a report."""

from medfl.audit.pictures import Picture
from medfl.results.metrics import ResultModel
from medfl.results.report import Curve, FamilyOutcome, SubjectRisk


class Findings(ResultModel):
    """A family with the curves and the risks that belong to it.

    Attributes
    ----------
    outcome : FamilyOutcome
    curves : tuple of Curve
    subject_risk : tuple of SubjectRisk
    pictures : tuple of Picture
    """

    outcome: FamilyOutcome
    curves: tuple[Curve, ...] = ()
    subject_risk: tuple[SubjectRisk, ...] = ()
    pictures: tuple[Picture, ...] = ()
