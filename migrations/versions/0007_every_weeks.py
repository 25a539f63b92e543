"""Hours that are worked in every second week, or in every third and so on."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("working_hours", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(sa.Column("every_weeks", sa.Integer(), server_default=sa.text("1"), nullable=False))
        table.create_check_constraint(op.f("ck_working_hours_every_weeks_few"), "every_weeks BETWEEN 1 AND 8")


def downgrade() -> None:
    """Hours of every second week become those of every week: the times stay known, if not when they are worked."""
    with op.batch_alter_table("working_hours") as table:
        table.drop_constraint(op.f("ck_working_hours_every_weeks_few"), type_="check")
        table.drop_column("every_weeks")
