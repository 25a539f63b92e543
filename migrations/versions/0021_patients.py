"""Likely twins among patients are found by name, e-mail address and phone; patients who are erased."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
LOOKED_FOR = ("folded_name", "email", "phone")


def upgrade() -> None:
    for column in LOOKED_FOR:
        op.create_index(op.f(f"ix_patient_{column}"), "patient", [column])


def downgrade() -> None:
    for column in LOOKED_FOR:
        op.drop_index(op.f(f"ix_patient_{column}"), "patient")
