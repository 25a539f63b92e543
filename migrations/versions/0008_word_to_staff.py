"""Two more messages to the clinic's people: a licence ends, and what became of time off."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

TO_STAFF = {
    "0007": "'set-password', 'locked-out', 'day-changed', 'test', 'address-changed', 'ways-in-changed'",
    "0008": (
        "'set-password', 'locked-out', 'day-changed', 'test', 'address-changed', 'ways-in-changed', 'license-ends', "
        "'time-off-decided'"
    ),
}


def upgrade() -> None:
    _know("0008")


def downgrade() -> None:
    """Messages of these kinds are forgotten, with the tries to send them."""
    message = sa.table("outbox_message", sa.column("id"), sa.column("kind"))
    of_these = message.c.kind.in_(["license-ends", "time-off-decided"])
    attempt = sa.table("attempt", sa.column("message_id"))
    op.execute(sa.delete(attempt).where(attempt.c.message_id.in_(sa.select(message.c.id).where(of_these))))
    op.execute(sa.delete(message).where(of_these))
    _know("0007")


def _know(revision: str) -> None:
    to_staff = TO_STAFF[revision]
    rules = {
        "kind_known": f"kind IN ('confirmation', 'reminder', 'cancellation', {to_staff})",
        "staff_kinds_go_to_staff": f"kind IN ({to_staff}) = (account_id IS NOT NULL)",
    }
    with op.batch_alter_table("outbox_message") as table:
        for name, rule in rules.items():
            table.drop_constraint(op.f(f"ck_outbox_message_{name}"), type_="check")
            table.create_check_constraint(op.f(f"ck_outbox_message_{name}"), rule)
