"""The access goal's history."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
HOURS = sa.Numeric(precision=8, scale=2, asdecimal=False)
ON_GRID = {"sqlite": "quarter % 900000000 = 0", "postgresql": "EXTRACT(epoch FROM quarter) % 900 = 0"}
THIRD_NOT_BEFORE_NEXT = (
    "third_next_available_hours IS NULL"
    " OR (next_available_hours IS NOT NULL AND third_next_available_hours >= next_available_hours)"
)
VERDICT_FOLLOWS = "within_goal = (next_available_hours IS NOT NULL AND next_available_hours <= goal_hours)"


def upgrade() -> None:
    op.create_table(
        "access_sample",
        sa.Column("appointment_type_id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("quarter", INSTANT, nullable=False),
        sa.Column("next_available_hours", HOURS, nullable=True),
        sa.Column("third_next_available_hours", HOURS, nullable=True),
        sa.Column("goal_hours", sa.Integer(), nullable=False),
        sa.Column("within_goal", sa.Boolean(), nullable=False),
        sa.CheckConstraint(ON_GRID[op.get_bind().dialect.name], name=op.f("ck_access_sample_on_grid")),
        sa.CheckConstraint("goal_hours > 0", name=op.f("ck_access_sample_goal_positive")),
        sa.CheckConstraint("next_available_hours >= 0", name=op.f("ck_access_sample_hours_not_negative")),
        sa.CheckConstraint(THIRD_NOT_BEFORE_NEXT, name=op.f("ck_access_sample_third_not_before_next")),
        sa.CheckConstraint(VERDICT_FOLLOWS, name=op.f("ck_access_sample_verdict_follows")),
        sa.ForeignKeyConstraint(
            ["appointment_type_id"], ["appointment_type.id"], name=op.f("fk_access_sample_appointment_type_id")
        ),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_access_sample_location_id")),
        sa.PrimaryKeyConstraint("appointment_type_id", "location_id", "quarter", name=op.f("pk_access_sample")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_access_sample_appointment_type_id_quarter_within_goal"),
        "access_sample",
        ["appointment_type_id", "quarter", "within_goal"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_table("access_sample")
