"""The treatment explainer's versions: published once, never changed, remembered by every booking."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from scheduler.errors import Invalid
from scheduler.models import ExplainerVersion

ACCEPTED_AFTER_REPLACEMENT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Wording:
    """A text as it stands in its file; `sections` are {"id", "heading", "html"}."""

    version: str
    language: str
    title: str
    source: str
    sections: Sequence[dict[str, str]]

    @property
    def content_sha256(self) -> str:
        content = [self.title, *([s["id"], s["heading"], s["html"]] for s in self.sections)]
        return sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


class WordingChanged(Exception):
    """A published version's file was edited; patients were shown other words, so it needs a new version."""


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
    raise Invalid("consent.explainer_version", "This is not the explainer that patients are shown now; read it again.")


def unchanged(version: ExplainerVersion) -> bool:
    """Whether a stored version still hashes to what was published."""
    wording = Wording(version.version, version.language, version.title, version.source, version.sections)
    return wording.content_sha256 == version.content_sha256


def _versions(language: str) -> Select[ExplainerVersion]:
    return (
        select(ExplainerVersion)
        .where(ExplainerVersion.language == language)
        .order_by(ExplainerVersion.published_at.desc(), ExplainerVersion.id.desc())
    )
