"""The treatment explainer, as patients were shown it."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.db import Base


class ExplainerVersion(Base):
    """One immutable wording in one language (triggers refuse UPDATE and DELETE); the newest published is shown.

    `sections` is a list of {"id", "heading", "html"}; `content_sha256` covers title and sections.
    """

    __tablename__ = "explainer_version"
    __table_args__ = (
        UniqueConstraint("version", "language"),
        CheckConstraint("length(version) > 0", name="version_given"),
        CheckConstraint("length(content_sha256) = 64", name="hash_given"),
        CheckConstraint("length(source) > 0", name="source_given"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[str]
    language: Mapped[str]
    title: Mapped[str]
    sections: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    source: Mapped[str]
    content_sha256: Mapped[str]
    published_at: Mapped[datetime]
