"""The core: practice, calendar, visits, messages, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
ON_GRID = {"sqlite": "starts_at % 900000000 = 0", "postgresql": "EXTRACT(epoch FROM starts_at) % 900 = 0"}
STATES = (
    "AK AL AR AS AZ CA CO CT DC DE FL GA GU HI IA ID IL IN KS KY "
    "LA MA MD ME MI MN MO MP MS MT NC ND NE NH NJ NM NV NY OH OK "
    "OR PA PR RI SC SD TN TX UT VA VI VT WA WI WV WY"
)
STATE_KNOWN = f"state IN {tuple(STATES.split())}"
TRIGGERS = {
    "tr_slot_taken_once": (
        "slot",
        "UPDATE OF appointment_id",
        "OLD.appointment_id <> NEW.appointment_id",  # with a NULL on either side this is not true
    ),
    "tr_slot_taken_kept": ("slot", "DELETE", "OLD.appointment_id IS NOT NULL"),
    "tr_audit_event_not_updated": ("audit_event", "UPDATE", None),
    "tr_audit_event_not_deleted": ("audit_event", "DELETE", None),
    "tr_explainer_version_not_updated": ("explainer_version", "UPDATE", None),
    "tr_explainer_version_not_deleted": ("explainer_version", "DELETE", None),
}
# On PostgreSQL a trigger calls a function; this one tells the trigger's name as the violated constraint's.
REFUSE = """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% refuses this', TG_NAME USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
    END $$
"""


def upgrade() -> None:
    op.create_table(
        "appointment_type",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("buffer_minutes", sa.Integer(), nullable=False),
        sa.Column("new_patient", sa.Boolean(), nullable=False),
        sa.Column("includes_needling", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "buffer_minutes BETWEEN 0 AND 240 AND buffer_minutes % 15 = 0",
            name=op.f("ck_appointment_type_buffer_on_grid"),
        ),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_appointment_type_name_length")),
        sa.CheckConstraint(
            "minutes BETWEEN 15 AND 480 AND minutes % 15 = 0", name=op.f("ck_appointment_type_minutes_on_grid")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appointment_type")),
        sa.UniqueConstraint("name", name=op.f("uq_appointment_type_name")),
        sa.UniqueConstraint("position", name=op.f("uq_appointment_type_position")),
    )
    op.create_table(
        "audit_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("happened_at", INSTANT, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("entity_id", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.CheckConstraint("length(action) > 0", name=op.f("ck_audit_event_action_given")),
        sa.CheckConstraint("length(actor) > 0", name=op.f("ck_audit_event_actor_given")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
    )
    op.create_index(op.f("ix_audit_event_entity_entity_id"), "audit_event", ["entity", "entity_id"], unique=False)
    op.create_table(
        "booking_count",
        sa.Column("address_hash", sa.String(), nullable=False),
        sa.Column("hour", INSTANT, nullable=False),
        sa.Column("booked", sa.Integer(), nullable=False),
        sa.CheckConstraint("booked >= 0", name=op.f("ck_booking_count_booked_not_negative")),
        sa.PrimaryKeyConstraint("address_hash", "hour", name=op.f("pk_booking_count")),
    )
    op.create_index(op.f("ix_booking_count_hour"), "booking_count", ["hour"], unique=False)
    op.create_table(
        "clinic_policy",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("clinic_name", sa.String(), nullable=False),
        sa.Column("access_goal_hours", sa.Integer(), nullable=False),
        sa.Column("access_target", sa.Numeric(precision=4, scale=3, asdecimal=False), nullable=False),
        sa.Column("booking_notice_minutes", sa.Integer(), nullable=False),
        sa.Column("booking_horizon_days", sa.Integer(), nullable=False),
        sa.Column("hold_minutes", sa.Integer(), nullable=False),
        sa.Column("reminders", sa.String(), nullable=False),
        sa.CheckConstraint("access_goal_hours > 0", name=op.f("ck_clinic_policy_goal_positive")),
        sa.CheckConstraint("access_target > 0 AND access_target <= 1", name=op.f("ck_clinic_policy_target_is_share")),
        sa.CheckConstraint("booking_horizon_days > 0", name=op.f("ck_clinic_policy_horizon_positive")),
        sa.CheckConstraint("booking_notice_minutes >= 0", name=op.f("ck_clinic_policy_notice_not_negative")),
        sa.CheckConstraint("hold_minutes > 0", name=op.f("ck_clinic_policy_hold_positive")),
        sa.CheckConstraint("id = 1", name=op.f("ck_clinic_policy_single_row")),
        sa.CheckConstraint("length(clinic_name) BETWEEN 1 AND 200", name=op.f("ck_clinic_policy_clinic_name_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clinic_policy")),
    )
    op.create_table(
        "explainer_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("sections", sa.JSON(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("content_sha256", sa.String(), nullable=False),
        sa.Column("published_at", INSTANT, nullable=False),
        sa.CheckConstraint("length(content_sha256) = 64", name=op.f("ck_explainer_version_hash_given")),
        sa.CheckConstraint("length(source) > 0", name=op.f("ck_explainer_version_source_given")),
        sa.CheckConstraint("length(version) > 0", name=op.f("ck_explainer_version_version_given")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_explainer_version")),
        sa.UniqueConstraint("version", "language", name=op.f("uq_explainer_version_version_language")),
    )
    op.create_table(
        "heartbeat",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("beat_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heartbeat")),
    )
    op.create_table(
        "location",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("area", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("time_zone", sa.String(), nullable=False),
        sa.Column("phone", sa.String(), nullable=False),
        sa.CheckConstraint(STATE_KNOWN, name=op.f("ck_location_state_known")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_location_name_length")),
        sa.CheckConstraint("length(time_zone) > 0", name=op.f("ck_location_time_zone_given")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_location")),
        sa.UniqueConstraint("name", name=op.f("uq_location_name")),
    )
    op.create_table(
        "patient",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("phone", sa.String(), nullable=True),
        sa.Column("birth_date", sa.Date(), nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("remind_by_email", sa.Boolean(), nullable=False),
        sa.Column("remind_by_sms", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint("email IS NOT NULL OR phone IS NOT NULL", name=op.f("ck_patient_reachable")),
        sa.CheckConstraint("length(email) BETWEEN 3 AND 254", name=op.f("ck_patient_email_length")),
        sa.CheckConstraint(
            "length(language) = 2 AND language = lower(language)", name=op.f("ck_patient_language_code")
        ),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_patient_name_length")),
        sa.CheckConstraint("length(phone) BETWEEN 3 AND 20", name=op.f("ck_patient_phone_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient")),
    )
    op.create_table(
        "state_rule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("needling", sa.String(), nullable=False),
        sa.Column("qualification", sa.String(), nullable=True),
        sa.Column("training_hours", sa.Integer(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("review_on", sa.Date(), nullable=False),
        sa.CheckConstraint(
            "needling IN ('permitted', 'silent', 'forbidden')", name=op.f("ck_state_rule_needling_known")
        ),
        sa.CheckConstraint(STATE_KNOWN, name=op.f("ck_state_rule_state_known")),
        sa.CheckConstraint("length(source) > 0", name=op.f("ck_state_rule_source_given")),
        sa.CheckConstraint("training_hours >= 0", name=op.f("ck_state_rule_training_hours_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_state_rule")),
        sa.UniqueConstraint("state", "valid_from", name=op.f("uq_state_rule_state_valid_from")),
    )
    op.create_table(
        "therapist",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("credentials", sa.String(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_therapist_name_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_therapist")),
    )
    op.create_table(
        "appointment",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("therapist_id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("appointment_type_id", sa.Integer(), nullable=False),
        sa.Column("explainer_version_id", sa.Integer(), nullable=True),
        sa.Column("starts_at", INSTANT, nullable=False),
        sa.Column("ends_at", INSTANT, nullable=False),
        sa.Column("buffer_minutes", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("needling", sa.String(), nullable=False),
        sa.Column("note_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("visit_version", sa.Integer(), nullable=False),
        sa.Column("link_generation", sa.Integer(), nullable=False),
        sa.Column("booked_at", INSTANT, nullable=False),
        sa.Column("cancelled_at", INSTANT, nullable=True),
        sa.Column("cancel_reason_sealed", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "(status = 'cancelled') = (cancelled_at IS NOT NULL)",
            name=op.f("ck_appointment_cancelled_at_goes_with_status"),
        ),
        sa.CheckConstraint("needling IN ('open', 'talk_first', 'none')", name=op.f("ck_appointment_needling_known")),
        sa.CheckConstraint(
            "status IN ('booked', 'arrived', 'fulfilled', 'cancelled', 'noshow')",
            name=op.f("ck_appointment_status_known"),
        ),
        sa.CheckConstraint(
            "buffer_minutes >= 0 AND buffer_minutes % 15 = 0", name=op.f("ck_appointment_buffer_on_grid")
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_appointment_ends_after_start")),
        sa.CheckConstraint("link_generation >= 1", name=op.f("ck_appointment_link_generation_positive")),
        sa.CheckConstraint("visit_version >= 1", name=op.f("ck_appointment_visit_version_positive")),
        sa.ForeignKeyConstraint(
            ["appointment_type_id"], ["appointment_type.id"], name=op.f("fk_appointment_appointment_type_id")
        ),
        sa.ForeignKeyConstraint(
            ["explainer_version_id"], ["explainer_version.id"], name=op.f("fk_appointment_explainer_version_id")
        ),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_appointment_location_id")),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name=op.f("fk_appointment_patient_id")),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_appointment_therapist_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appointment")),
        sa.UniqueConstraint(
            "id", "therapist_id", "location_id", name=op.f("uq_appointment_id_therapist_id_location_id")
        ),
    )
    op.create_index(op.f("ix_appointment_patient_id"), "appointment", ["patient_id"], unique=False)
    op.create_index(
        op.f("ix_appointment_therapist_id_starts_at"), "appointment", ["therapist_id", "starts_at"], unique=False
    )
    op.create_table(
        "license",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("therapist_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=True),
        sa.Column("verified_by", sa.String(), nullable=True),
        sa.Column("verified_at", INSTANT, nullable=True),
        sa.CheckConstraint(STATE_KNOWN, name=op.f("ck_license_state_known")),
        sa.CheckConstraint("length(kind) > 0", name=op.f("ck_license_kind_given")),
        sa.CheckConstraint("length(number) > 0", name=op.f("ck_license_number_given")),
        sa.CheckConstraint("valid_until >= valid_from", name=op.f("ck_license_dates_in_order")),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_license_therapist_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_license")),
        sa.UniqueConstraint(
            "therapist_id", "kind", "state", "number", name=op.f("uq_license_therapist_id_kind_state_number")
        ),
    )
    op.create_table(
        "therapist_language",
        sa.Column("therapist_id", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.CheckConstraint(
            "length(language) = 2 AND language = lower(language)", name=op.f("ck_therapist_language_language_code")
        ),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_therapist_language_therapist_id")),
        sa.PrimaryKeyConstraint("therapist_id", "language", name=op.f("pk_therapist_language")),
    )
    op.create_table(
        "working_hours",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("therapist_id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("weekday", sa.Integer(), nullable=False),
        sa.Column("opens_minute", sa.Integer(), nullable=False),
        sa.Column("closes_minute", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.CheckConstraint(
            "closes_minute > opens_minute AND closes_minute <= opens_minute + 1440 AND closes_minute % 15 = 0",
            name=op.f("ck_working_hours_closes_on_grid"),
        ),
        sa.CheckConstraint(
            "opens_minute BETWEEN 0 AND 1425 AND opens_minute % 15 = 0", name=op.f("ck_working_hours_opens_on_grid")
        ),
        sa.CheckConstraint(
            "valid_until IS NULL OR valid_until >= valid_from", name=op.f("ck_working_hours_dates_in_order")
        ),
        sa.CheckConstraint("weekday BETWEEN 0 AND 6", name=op.f("ck_working_hours_weekday_known")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_working_hours_location_id")),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_working_hours_therapist_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_working_hours")),
    )
    op.create_index(
        op.f("ix_working_hours_therapist_id_location_id"),
        "working_hours",
        ["therapist_id", "location_id"],
        unique=False,
    )
    op.create_table(
        "idempotency_key",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint("length(key) BETWEEN 8 AND 255", name=op.f("ck_idempotency_key_key_length")),
        sa.ForeignKeyConstraint(
            ["appointment_id"],
            ["appointment.id"],
            name=op.f("fk_idempotency_key_appointment_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_key")),
        sa.UniqueConstraint("appointment_id", name=op.f("uq_idempotency_key_appointment_id")),
    )
    op.create_index(op.f("ix_idempotency_key_created_at"), "idempotency_key", ["created_at"], unique=False)
    op.create_table(
        "manage_link",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["appointment_id"], ["appointment.id"], name=op.f("fk_manage_link_appointment_id")),
        sa.PrimaryKeyConstraint("appointment_id", "generation", name=op.f("pk_manage_link")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_manage_link_token_sha256")),
    )
    op.create_table(
        "outbox_message",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("offset_minutes", sa.Integer(), nullable=False),
        sa.Column("visit_version", sa.Integer(), nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("sent_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "(kind = 'reminder') = (offset_minutes > 0)", name=op.f("ck_outbox_message_offset_goes_with_reminder")
        ),
        sa.CheckConstraint(
            "(status = 'sent') = (sent_at IS NOT NULL)", name=op.f("ck_outbox_message_sent_at_goes_with_status")
        ),
        sa.CheckConstraint("channel IN ('email', 'sms')", name=op.f("ck_outbox_message_channel_known")),
        sa.CheckConstraint(
            "kind IN ('confirmation', 'reminder', 'cancellation')", name=op.f("ck_outbox_message_kind_known")
        ),
        sa.CheckConstraint(
            "status IN ('owed', 'sent', 'suppressed', 'failed')", name=op.f("ck_outbox_message_status_known")
        ),
        sa.CheckConstraint(
            "status NOT IN ('suppressed', 'failed') OR reason IS NOT NULL", name=op.f("ck_outbox_message_reason_given")
        ),
        sa.ForeignKeyConstraint(["appointment_id"], ["appointment.id"], name=op.f("fk_outbox_message_appointment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_message")),
        sa.UniqueConstraint(
            "appointment_id", "kind", "channel", "offset_minutes", "visit_version", name="uq_outbox_message_owed_once"
        ),
    )
    op.create_index(
        "ix_outbox_message_owed",
        "outbox_message",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("status = 'owed'"),
        postgresql_where=sa.text("status = 'owed'"),
    )
    op.create_table(
        "slot",
        sa.Column("therapist_id", sa.Integer(), nullable=False),
        sa.Column("starts_at", INSTANT, nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("appointment_id", sa.Uuid(), nullable=True),
        sa.Column("fit", sa.Integer(), nullable=False),
        sa.Column("needling", sa.Boolean(), nullable=False),
        sa.CheckConstraint("(appointment_id IS NULL) = (fit > 0)", name=op.f("ck_slot_free_fits_something")),
        sa.CheckConstraint(ON_GRID[op.get_bind().dialect.name], name=op.f("ck_slot_on_grid")),
        sa.CheckConstraint("fit >= 0", name=op.f("ck_slot_fit_not_negative")),
        sa.ForeignKeyConstraint(
            ["appointment_id", "therapist_id", "location_id"],
            ["appointment.id", "appointment.therapist_id", "appointment.location_id"],
            name="fk_slot_appointment",
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_slot_location_id")),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_slot_therapist_id")),
        sa.PrimaryKeyConstraint("therapist_id", "starts_at", name=op.f("pk_slot")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_slot_appointment",
        "slot",
        ["appointment_id"],
        unique=False,
        sqlite_where=sa.text("appointment_id IS NOT NULL"),
        postgresql_where=sa.text("appointment_id IS NOT NULL"),
    )
    op.create_index(
        "ix_slot_free_anywhere",
        "slot",
        ["starts_at", "therapist_id", "location_id", "fit", "needling"],
        unique=False,
        sqlite_where=sa.text("fit > 0"),
        postgresql_where=sa.text("fit > 0"),
    )
    op.create_index(
        "ix_slot_free_at",
        "slot",
        ["location_id", "starts_at", "therapist_id", "fit", "needling"],
        unique=False,
        sqlite_where=sa.text("fit > 0"),
        postgresql_where=sa.text("fit > 0"),
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.CheckConstraint("(finished_at IS NULL) = (outcome IS NULL)", name=op.f("ck_attempt_outcome_goes_with_end")),
        sa.CheckConstraint("finished_at IS NULL OR finished_at >= started_at", name=op.f("ck_attempt_times_in_order")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_attempt_number_positive")),
        sa.ForeignKeyConstraint(["message_id"], ["outbox_message.id"], name=op.f("fk_attempt_message_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        sa.UniqueConstraint("message_id", "number", name=op.f("uq_attempt_message_id_number")),
    )

    if op.get_bind().dialect.name == "postgresql":
        op.execute(REFUSE)
    for name, (table, change, condition) in TRIGGERS.items():
        _refuse(name, table, change, condition)


def _refuse(name: str, table: str, change: str, condition: str | None) -> None:
    if op.get_bind().dialect.name == "postgresql":
        when = f"WHEN ({condition})" if condition else ""
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {change} ON {table} FOR EACH ROW {when} EXECUTE FUNCTION refuse_change()"
        )
    else:
        when = f"WHEN {condition}" if condition else ""
        op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON {table} {when} BEGIN SELECT RAISE(ABORT, '{name}'); END")


def downgrade() -> None:
    op.drop_table("attempt")
    op.drop_table("slot")
    op.drop_table("outbox_message")
    op.drop_table("manage_link")
    op.drop_table("idempotency_key")
    op.drop_table("working_hours")
    op.drop_table("therapist_language")
    op.drop_table("license")
    op.drop_table("appointment")
    op.drop_table("therapist")
    op.drop_table("state_rule")
    op.drop_table("patient")
    op.drop_table("location")
    op.drop_table("heartbeat")
    op.drop_table("explainer_version")
    op.drop_table("clinic_policy")
    op.drop_table("booking_count")
    op.drop_table("audit_event")
    op.drop_table("appointment_type")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")
