"""What each calendar was last made from; and an index of the cells where more than one is free."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
FREE_TWO = sa.text("fit > 1")


def upgrade() -> None:
    op.create_table(
        "calendar_plan",
        sa.Column("therapist_id", sa.Integer(), nullable=False),
        sa.Column("basis", sa.String(), nullable=False),
        sa.Column("until", INSTANT, nullable=False),
        sa.Column("compared_at", INSTANT, nullable=False),
        sa.CheckConstraint("length(basis) > 0", name=op.f("ck_calendar_plan_basis_given")),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_calendar_plan_therapist_id")),
        sa.PrimaryKeyConstraint("therapist_id", name=op.f("pk_calendar_plan")),
    )
    op.create_index(
        "ix_slot_free_two_anywhere",
        "slot",
        ["starts_at", "therapist_id", "location_id", "fit", "needling"],
        unique=False,
        sqlite_where=FREE_TWO,
        postgresql_where=FREE_TWO,
    )


def downgrade() -> None:
    op.drop_index("ix_slot_free_two_anywhere", table_name="slot")
    op.drop_table("calendar_plan")
