"""Links to the visits of an e-mail address, and the address as they look for it."""

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0019"
down_revision = "0018"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
TO_STAFF = (
    "'set-password', 'locked-out', 'day-changed', 'test', 'address-changed', 'ways-in-changed', 'license-ends', "
    "'time-off-decided', 'goal-foreseen', 'goal-missed', 'goal-kept'"
)
TO_PATIENTS = "'confirmation', 'reminder', 'cancellation', 'moved'"
SOMEBODY = {
    "0018": "(appointment_id IS NULL) = (account_id IS NOT NULL)",
    "0019": "(appointment_id IS NULL) = (account_id IS NOT NULL OR visits_request_id IS NOT NULL)",
}


def upgrade() -> None:
    op.add_column("patient", sa.Column("folded_email", sa.String(), nullable=True))
    op.execute("UPDATE patient SET folded_email = lower(email) WHERE email IS NOT NULL")
    op.create_index(op.f("ix_patient_folded_email"), "patient", ["folded_email"], unique=False)
    op.create_table(
        "visits_request",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("address_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("address_hash", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "length(language) = 2 AND language = lower(language)", name=op.f("ck_visits_request_language_code")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_visits_request")),
    )
    op.create_index(
        op.f("ix_visits_request_address_hash_asked_at"), "visits_request", ["address_hash", "asked_at"], unique=False
    )
    op.create_index(op.f("ix_visits_request_asked_at"), "visits_request", ["asked_at"], unique=False)
    with op.batch_alter_table("outbox_message") as table:
        table.add_column(sa.Column("visits_request_id", sa.Uuid(), nullable=True))
        table.create_foreign_key(
            op.f("fk_outbox_message_visits_request_id"), "visits_request", ["visits_request_id"], ["id"]
        )
        table.create_unique_constraint(op.f("uq_outbox_message_visits_request_id"), ["visits_request_id"])
        _say(table, kinds=f"{TO_PATIENTS}, 'my-visits', {TO_STAFF}", somebody=SOMEBODY["0019"])
        table.create_check_constraint(
            op.f("ck_outbox_message_request_goes_with_kind"),
            "(kind = 'my-visits') = (visits_request_id IS NOT NULL)",
        )


def downgrade() -> None:
    """What was asked for is forgotten, with the messages and the tries to send them."""
    message = sa.table("outbox_message", sa.column("id"), sa.column("kind"))
    of_these = message.c.kind == "my-visits"
    attempt = sa.table("attempt", sa.column("message_id"))
    op.execute(sa.delete(attempt).where(attempt.c.message_id.in_(sa.select(message.c.id).where(of_these))))
    op.execute(sa.delete(message).where(of_these))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a table whose deferred keys still wait cannot be altered
    with op.batch_alter_table("outbox_message") as table:
        table.drop_constraint(op.f("ck_outbox_message_request_goes_with_kind"), type_="check")
        table.drop_constraint(op.f("uq_outbox_message_visits_request_id"), type_="unique")
        table.drop_constraint(op.f("fk_outbox_message_visits_request_id"), type_="foreignkey")
        _say(table, kinds=f"{TO_PATIENTS}, {TO_STAFF}", somebody=SOMEBODY["0018"])
        table.drop_column("visits_request_id")
    op.drop_table("visits_request")
    op.drop_index(op.f("ix_patient_folded_email"), table_name="patient")
    with op.batch_alter_table("patient") as table:
        table.drop_column("folded_email")


def _say(table: BatchOperations, *, kinds: str, somebody: str) -> None:
    for name, rule in (("kind_known", f"kind IN ({kinds})"), ("to_patient_or_staff", somebody)):
        table.drop_constraint(op.f(f"ck_outbox_message_{name}"), type_="check")
        table.create_check_constraint(op.f(f"ck_outbox_message_{name}"), rule)
