"""The treatment explainer's versions: published once, never changed, remembered by every booking.

A section is {"id", "heading", "html"}. It may have `claims`, a list of {"id", "holds", "fails"}: what stands at its end
while that claim of `claims.RULES` is true, and what stands there while it is not. A claim may have words for what is
true in between, by the names of `Saying`; a text without them says that it fails. In all of them `{hours}` is the
clinic's goal, `{working_days}` the same in working days, `{soonest}` the soonest time for a new patient and `{place}`
where that is. A section may have `review`: what the text still waits for, told to its readers by the section itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from html import escape
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from scheduler import words
from scheduler.errors import Invalid
from scheduler.models import ExplainerVersion, Saying
from scheduler.services import access_rules, claims
from scheduler.services.claims import Present

ACCEPTED_AFTER_REPLACEMENT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Wording:
    """A text as it stands in its file, with the words of its claims for either case."""

    version: str
    language: str
    title: str
    source: str
    sections: Sequence[dict[str, Any]]

    @property
    def content_sha256(self) -> str:
        """Covers every word that readers may be shown. A section of nothing but words hashes as it always did."""
        content = [self.title, *map(_hashed, self.sections)]
        return sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


class WordingChanged(Exception):
    """A published version's file was edited; patients were shown other words, so it needs a new version."""


class NotShownNow(Invalid):
    """A version that was never shown, or is no longer."""

    def __init__(self) -> None:
        super().__init__(
            "consent.explainer_version", "This is not the explainer that patients are shown now; read it again."
        )


def publish(session: Session, wordings: Sequence[Wording], *, now: datetime) -> None:
    """Store wordings not stored yet. Raise WordingChanged when a version's text is no longer what was published."""
    for wording in wordings:
        known = session.scalars(_versions(wording.language).where(ExplainerVersion.version == wording.version)).first()
        if known is None:
            session.add(
                ExplainerVersion(
                    version=wording.version,
                    language=wording.language,
                    title=wording.title,
                    sections=list(wording.sections),
                    source=wording.source,
                    content_sha256=wording.content_sha256,
                    published_at=now,
                )
            )
        elif known.content_sha256 != wording.content_sha256:
            raise WordingChanged(
                f"The explainer {wording.version} ({wording.language}) was published with other words: "
                "give the new text a new version."
            )


def current(session: Session, language: str) -> ExplainerVersion:
    found = session.scalars(_versions(language).limit(1)).first()
    if found is None:
        raise Invalid("language", "The explainer is not available in this language.")
    return found


def sections(version: ExplainerVersion, present: Present) -> list[dict[str, str]]:
    """Return what is to be shown, as {"id", "heading", "html"}: of each claim, the words that are true at present."""
    return [
        {
            "id": section["id"],
            "heading": section["heading"],
            "html": section["html"] + "".join(told(section, present, version.language).values()),
        }
        for section in version.sections
    ]


def told(section: Mapping[str, Any], present: Present, language: str) -> dict[str, str]:
    """A section's claims by their ids, each in its sentence for what is the case. Nothing but placeholders is filled.

    Names of places are the clinic's own words: they are escaped, and filled in last, so that nothing in them is filled.
    """
    fillings = _fillings(present, language)
    sentences = {}
    for claim in section.get("claims", ()):
        sentence = claim.get(claims.judged(claim["id"], present).says, claim[Saying.FAILS])
        for name, filling in fillings.items():
            sentence = sentence.replace(name, filling)
        sentences[claim["id"]] = sentence
    return sentences


def shown(session: Session, version: str, language: str, *, now: datetime) -> ExplainerVersion:
    """Find the version that a patient says they were shown: the current one, or one replaced less than a day ago."""
    versions = session.scalars(_versions(language)).all()
    if not versions:
        raise Invalid("consent.language", "The explainer is not available in this language.")
    replaced_at: datetime | None = None
    for candidate in versions:
        if replaced_at is not None and replaced_at <= now - ACCEPTED_AFTER_REPLACEMENT:
            break
        if candidate.version == version:
            return candidate
        replaced_at = candidate.published_at
    raise NotShownNow


def unchanged(version: ExplainerVersion) -> bool:
    """Whether a stored version still hashes to what was published."""
    wording = Wording(version.version, version.language, version.title, version.source, version.sections)
    return wording.content_sha256 == version.content_sha256


def _fillings(present: Present, language: str) -> dict[str, str]:
    goal = present.policy.access_goal_hours
    filled = {"{hours}": str(goal), "{working_days}": words.working_days(access_rules.working_days(goal), language)}
    openings = present.access.locations if present.access is not None else ()
    soonest = min((start for at in openings for start in at.starts), key=lambda start: start.starts_at, default=None)
    if soonest is None:
        return filled
    place = present.places[soonest.location_id]
    when = words.when(soonest.starts_at, place.time_zone, language)
    return filled | {"{soonest}": when, "{place}": escape(place.name)}


def _hashed(section: Mapping[str, Any]) -> list[Any]:
    hashed: list[Any] = [section["id"], section["heading"], section["html"]]
    if section.get("claims"):
        hashed.append([[claim["id"], claim["holds"], claim["fails"], *_between(claim)] for claim in section["claims"]])
    if section.get("review"):
        hashed.append(section["review"])
    return hashed


def _between(claim: Mapping[str, str]) -> list[str]:
    """The words for what is neither: names and sentences, so that none passes for another."""
    between = (Saying.WORKING_DAYS, Saying.SOONEST)
    return [part for name in between if name in claim for part in (name.value, claim[name])]


def _versions(language: str) -> Select[ExplainerVersion]:
    return (
        select(ExplainerVersion)
        .where(ExplainerVersion.language == language)
        .order_by(ExplainerVersion.published_at.desc(), ExplainerVersion.id.desc())
    )
