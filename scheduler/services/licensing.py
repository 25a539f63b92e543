"""Who may treat where, and who may needle there: licences and state rules, day by day on the location's calendar.

A visit needs a `pt` licence of the location's state. One that includes needling needs in addition what that state's
rule names, and is not offered where the rule forbids it or where no rule is known. Rules are data with sources.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.errors import NotLicensed
from scheduler.models import License, StateRule

PT = "pt"


@dataclass(frozen=True, slots=True)
class Licences:
    """Pure answers over the rows of some therapists."""

    periods: dict[tuple[int, str, str], list[tuple[date, date]]]
    rules: dict[str, list[StateRule]]

    def may_treat(self, therapist_id: int, state: str, day: date) -> bool:
        return self._holds(therapist_id, PT, state, day)

    def may_needle(self, therapist_id: int, state: str, day: date) -> bool:
        """Whether a visit with needling may start that day: the rule then in force and the licences it asks for."""
        begun = [rule for rule in self.rules.get(state, []) if rule.valid_from <= day]
        if not begun or begun[-1].needling == "forbidden" or not self.may_treat(therapist_id, state, day):
            return False
        qualification = begun[-1].qualification
        return qualification is None or self._holds(therapist_id, qualification, state, day)

    def _holds(self, therapist_id: int, kind: str, state: str, day: date) -> bool:
        return any(first <= day <= last for first, last in self.periods.get((therapist_id, kind, state), ()))


def licences_of(session: Session, therapist_ids: Collection[int]) -> Licences:
    periods: dict[tuple[int, str, str], list[tuple[date, date]]] = defaultdict(list)
    for held in session.scalars(select(License).where(License.therapist_id.in_(therapist_ids))):
        periods[held.therapist_id, held.kind, held.state].append((held.valid_from, held.valid_until))
    rules: dict[str, list[StateRule]] = defaultdict(list)
    for rule in session.scalars(select(StateRule).order_by(StateRule.valid_from)):
        rules[rule.state].append(rule)
    return Licences(periods, rules)


def require_license(session: Session, therapist_id: int, state: str, *, needling: bool, on: date) -> None:
    """Raise NotLicensed unless this therapist may give such a visit in this state on this local day."""
    licences = licences_of(session, [therapist_id])
    if not licences.may_treat(therapist_id, state, on):
        raise NotLicensed("The therapist holds no licence of this state that is valid on that day.")
    if needling and not licences.may_needle(therapist_id, state, on):
        raise NotLicensed("Dry needling cannot be offered by this therapist at this location on that day.")
