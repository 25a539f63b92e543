"""What the hours alone would have kept of the access goal, and its days for years."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

OLD_INDEX = "ix_access_sample_appointment_type_id_quarter_within_goal"
INDEX = "ix_access_sample_quarters"
SAMPLE_CHECKS = {
    "kept_is_possible": "possible OR NOT within_goal",
    "open_days_need_a_start": "NOT within_open_days OR next_available_hours IS NOT NULL",
    "known_together": "(possible IS NULL) = (within_open_days IS NULL)",
}
DAY_CHECKS = {
    "measured_positive": "measured > 0",
    "kept_within_measured": "kept BETWEEN 0 AND measured",
    "possible_between": "possible BETWEEN kept AND measured",
    "open_days_within_measured": "within_open_days BETWEEN 0 AND measured",
    "known_together": "(possible IS NULL) = (within_open_days IS NULL)",
    "goal_positive": "goal_hours > 0",
}
WITHOUT_ROWID = {"sqlite_with_rowid": False}


def upgrade() -> None:
    op.drop_index(op.f(OLD_INDEX), table_name="access_sample")
    with op.batch_alter_table("access_sample", table_kwargs=WITHOUT_ROWID) as table:
        table.add_column(sa.Column("possible", sa.Boolean(), nullable=True))
        table.add_column(sa.Column("within_open_days", sa.Boolean(), nullable=True))
        for name, rule in SAMPLE_CHECKS.items():
            table.create_check_constraint(op.f(f"ck_access_sample_{name}"), rule)
    op.create_index(
        op.f(INDEX),
        "access_sample",
        ["appointment_type_id", "quarter", "within_goal", "possible", "within_open_days"],
        unique=False,
    )
    op.create_table(
        "access_day",
        sa.Column("appointment_type_id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("measured", sa.Integer(), nullable=False),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.Column("possible", sa.Integer(), nullable=True),
        sa.Column("within_open_days", sa.Integer(), nullable=True),
        sa.Column("goal_hours", sa.Integer(), nullable=False),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_access_day_{name}")) for name, rule in DAY_CHECKS.items()),
        sa.ForeignKeyConstraint(
            ["appointment_type_id"], ["appointment_type.id"], name=op.f("fk_access_day_appointment_type_id")
        ),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_access_day_location_id")),
        sa.PrimaryKeyConstraint("appointment_type_id", "location_id", "day", name=op.f("pk_access_day")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_access_day_day"), "access_day", ["day"], unique=False)


def downgrade() -> None:
    op.drop_table("access_day")
    op.drop_index(op.f(INDEX), table_name="access_sample")
    with op.batch_alter_table("access_sample", table_kwargs=WITHOUT_ROWID) as table:
        for name in SAMPLE_CHECKS:
            table.drop_constraint(op.f(f"ck_access_sample_{name}"), type_="check")
        table.drop_column("within_open_days")
        table.drop_column("possible")
    op.create_index(op.f(OLD_INDEX), "access_sample", ["appointment_type_id", "quarter", "within_goal"], unique=False)
