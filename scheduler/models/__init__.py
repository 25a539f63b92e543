"""Tables and their constraints. Importing this package makes all of them known to `Base.metadata`."""

from scheduler.models.access import AccessRequest, AccessSample, Lever, LeverUse, Promise
from scheduler.models.accounts import (
    Account,
    AccountLocation,
    CalendarFeed,
    Passkey,
    RecoveryCode,
    Role,
    SignInAttempt,
    StaffSession,
    UsedChallenge,
)
from scheduler.models.audit import AuditEvent
from scheduler.models.booking import Appointment, Hold, IdempotencyKey, ManageLink, Needling, Patient, Status
from scheduler.models.explainer import ExplainerVersion
from scheduler.models.messaging import Attempt, Channel, ChannelState, Fate, Kind, OutboxMessage, Told
from scheduler.models.operations import BookingCount, Heartbeat
from scheduler.models.practice import (
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    ClinicPolicy,
    License,
    Location,
    StateRule,
    Therapist,
    TherapistLanguage,
)
from scheduler.models.schedule import Closure, Slot, StandbyOpening, TimeOff, Wish, WorkingHours

__all__ = [
    "AccessRequest",
    "AccessSample",
    "Account",
    "AccountLocation",
    "Appointment",
    "AppointmentType",
    "AppointmentTypeLocation",
    "AppointmentTypeTherapist",
    "Attempt",
    "AuditEvent",
    "BookingCount",
    "CalendarFeed",
    "Channel",
    "ChannelState",
    "ClinicPolicy",
    "Closure",
    "ExplainerVersion",
    "Fate",
    "Heartbeat",
    "Hold",
    "IdempotencyKey",
    "Kind",
    "Lever",
    "LeverUse",
    "License",
    "Location",
    "ManageLink",
    "Needling",
    "OutboxMessage",
    "Passkey",
    "Patient",
    "Promise",
    "RecoveryCode",
    "Role",
    "SignInAttempt",
    "Slot",
    "StaffSession",
    "StandbyOpening",
    "StateRule",
    "Status",
    "Therapist",
    "TherapistLanguage",
    "TimeOff",
    "Told",
    "UsedChallenge",
    "Wish",
    "WorkingHours",
]
