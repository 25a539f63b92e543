"""What was on offer when somebody new booked."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
HOURS = sa.Numeric(8, 2, asdecimal=False)


def upgrade() -> None:
    op.create_table(
        "access_request",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_type_id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("here_hours", HOURS, nullable=False),
        sa.Column("anywhere_hours", HOURS, nullable=False),
        sa.Column("taken_hours", HOURS, nullable=False),
        sa.Column("goal_hours", sa.Integer(), nullable=False),
        sa.CheckConstraint("goal_hours > 0", name=op.f("ck_access_request_goal_positive")),
        sa.CheckConstraint("here_hours <= taken_hours", name=op.f("ck_access_request_taken_not_before_here")),
        sa.CheckConstraint("anywhere_hours <= here_hours", name=op.f("ck_access_request_here_not_before_anywhere")),
        sa.ForeignKeyConstraint(["appointment_id"], ["appointment.id"], name=op.f("fk_access_request_appointment_id")),
        sa.ForeignKeyConstraint(
            ["appointment_type_id"], ["appointment_type.id"], name=op.f("fk_access_request_appointment_type_id")
        ),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_access_request_location_id")),
        sa.PrimaryKeyConstraint("appointment_id", name=op.f("pk_access_request")),
    )
    op.create_index(
        op.f("ix_access_request_appointment_type_id_asked_at"),
        "access_request",
        ["appointment_type_id", "asked_at"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_table("access_request")
