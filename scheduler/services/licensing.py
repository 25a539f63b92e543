"""Who may treat where, and who may needle there: licences and state rules, day by day on the location's calendar.

A visit needs a `pt` licence of the location's state. One that includes needling needs in addition what that state's
rule names, and is not offered where the rule forbids it or where no rule is known. Rules are data with sources.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from sqlalchemy import select, true
from sqlalchemy.orm import Session

from scheduler.errors import NotLicensed
from scheduler.models import License, StateRule, Therapist
from scheduler.timeline import DAY

PT = "pt"
WARNED_AHEAD = timedelta(days=60)


class Allows(StrEnum):
    """What a licence, while it is valid, lets its holder do in its state, as the rule in force there has it."""

    VISITS = "visits"
    NEEDLING_TOO = "visits-and-needling"
    NEEDLING = "needling-beside-pt"
    FORBIDDEN = "forbidden"
    NO_RULE = "no-rule"
    NOT_ASKED_FOR = "not-asked-for"


class Validity(StrEnum):
    """How the dates of a licence stand on a day."""

    NOT_YET = "not-yet"
    VALID = "valid"
    ENDS_SOON = "ends-soon"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Held:
    """A licence on some day; `rule` is the state's rule then in force."""

    license: License
    validity: Validity
    allows: Allows
    rule: StateRule | None


@dataclass(frozen=True, slots=True)
class Licences:
    """Pure answers over the rows of some therapists."""

    periods: dict[tuple[int, str, str], list[tuple[date, date]]]
    rules: dict[str, list[StateRule]]

    def may_treat(self, therapist_id: int, state: str, day: date) -> bool:
        return self._holds(therapist_id, PT, state, day)

    def may_treat_from(self, therapist_id: int, state: str, day: date) -> bool:
        """Whether they may treat there on that day or on any later one."""
        return any(last >= day for _, last in self.periods.get((therapist_id, PT, state), ()))

    def may_needle(self, therapist_id: int, state: str, day: date) -> bool:
        """Whether a visit with needling may start that day: the rule then in force and the licences it asks for."""
        return self.lacking(therapist_id, state, day) is None

    def lacking(self, therapist_id: int, state: str, day: date) -> str | None:
        """What keeps visits with needling from starting that day: the kind of licence that is not held.

        Allows.NO_RULE or Allows.FORBIDDEN where no licence would help; None where nothing is lacking.
        """
        rule = self.rule_on(state, day)
        if rule is None:
            return Allows.NO_RULE
        if rule.needling == "forbidden":
            return Allows.FORBIDDEN
        if not self.may_treat(therapist_id, state, day):
            return PT
        if rule.qualification is None or self._holds(therapist_id, rule.qualification, state, day):
            return None
        return rule.qualification

    def rule_on(self, state: str, day: date) -> StateRule | None:
        """The state's rule in force that day."""
        begun = [rule for rule in self.rules.get(state, []) if rule.valid_from <= day]
        return begun[-1] if begun else None

    def _holds(self, therapist_id: int, kind: str, state: str, day: date) -> bool:
        return any(first <= day <= last for first, last in self.periods.get((therapist_id, kind, state), ()))


def licences_of(session: Session, therapist_ids: Collection[int], states: Collection[str] | None = None) -> Licences:
    """The licences of some therapists, with the rules of these states, or of all. Two queries."""
    whose, what = License.therapist_id, (License.kind, License.state, License.valid_from, License.valid_until)
    theirs = select(whose, *what).where(whose.in_(therapist_ids))
    periods: dict[tuple[int, str, str], list[tuple[date, date]]] = defaultdict(list)
    for therapist_id, kind, state, first, last in session.execute(theirs):
        periods[therapist_id, kind, state].append((first, last))
    rules: dict[str, list[StateRule]] = defaultdict(list)
    asked = select(StateRule).where(true() if states is None else StateRule.state.in_(states))
    for rule in session.scalars(asked.order_by(StateRule.valid_from)):
        rules[rule.state].append(rule)
    return Licences(periods, rules)


def require_license(session: Session, therapist_id: int, state: str, *, needling: bool, on: date) -> None:
    """Raise NotLicensed unless this therapist may give such a visit in this state on this local day."""
    licences = licences_of(session, [therapist_id])
    if not licences.may_treat(therapist_id, state, on):
        raise NotLicensed("The therapist holds no licence of this state that is valid on that day.")
    if needling and not licences.may_needle(therapist_id, state, on):
        raise NotLicensed("Dry needling cannot be offered by this therapist at this location on that day.")


def held_by(session: Session, therapist_id: int, *, on: date) -> list[Held]:
    """Every licence of a therapist, what it allows by the rules of `on`, and whether it ends within 60 days."""
    rules = licences_of(session, [therapist_id])
    own = select(License).where(License.therapist_id == therapist_id)
    in_order = session.scalars(own.order_by(License.state, License.kind.desc(), License.valid_from))
    return [_held(held, rules.rule_on(held.state, on), on) for held in in_order]


def _held(held: License, rule: StateRule | None, on: date) -> Held:
    if on > held.valid_until:
        validity = Validity.ENDED
    elif on < held.valid_from:
        validity = Validity.NOT_YET
    else:
        validity = Validity.ENDS_SOON if held.valid_until <= on + WARNED_AHEAD else Validity.VALID
    return Held(held, validity, _allows(held.kind, rule), rule)


def _allows(kind: str, rule: StateRule | None) -> Allows:
    if kind == PT:
        may_needle = rule is not None and rule.needling != "forbidden" and rule.qualification is None
        return Allows.NEEDLING_TOO if may_needle else Allows.VISITS
    if rule is None:
        return Allows.NO_RULE
    if rule.needling == "forbidden":
        return Allows.FORBIDDEN
    return Allows.NEEDLING if rule.qualification == kind else Allows.NOT_ASKED_FOR


def unfollowed(held: Iterable[tuple[License, Therapist]]) -> list[tuple[License, Therapist]]:
    """Of licences those after whose last day comes a day without one of the same therapist, kind and state."""
    each = list(held)
    valid: dict[tuple[int, str, str], list[License]] = defaultdict(list)
    for licence, _ in each:
        valid[licence.therapist_id, licence.kind, licence.state].append(licence)
    return [
        (licence, whose)
        for licence, whose in each
        if not any(
            other.valid_from <= licence.valid_until + DAY and other.valid_until > licence.valid_until
            for other in valid[licence.therapist_id, licence.kind, licence.state]
        )
    ]
