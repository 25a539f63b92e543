"""A location's own words on how to find it and what to bring."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("location") as table:
        table.add_column(sa.Column("directions", sa.String(), nullable=True))
        table.create_check_constraint(op.f("ck_location_directions_length"), "length(directions) BETWEEN 1 AND 2000")


def downgrade() -> None:
    with op.batch_alter_table("location") as table:
        table.drop_constraint(op.f("ck_location_directions_length"), type_="check")
        table.drop_column("directions")
