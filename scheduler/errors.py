"""What can go wrong, in the words of the clinic. The edge turns each into an answer; nothing below knows HTTP."""


class ClinicError(Exception):
    """The root of every error that a caller is meant to see."""


class Invalid(ClinicError):
    """A value that cannot be used; `field` names it in the request's own words."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class NotFound(ClinicError):
    """Nothing has this name, or it is not the caller's to see."""


class LinkReplaced(NotFound):
    """An older link of a visit, which got a new one since."""


class Unavailable(ClinicError):
    """The database cannot do this now; the same request may succeed later.

    Nothing of it is stored, unless only the answer to the commit was lost: repeating with the same key tells.
    """


class TooMany(ClinicError):
    """A limit on how often; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Conflict(ClinicError):
    """The request is sound, but the calendar as it stands says no; `code` is stable for programs."""

    code = "conflict"


class ConstraintViolated(Conflict):
    """A rule of the schema refused a write that no check foresaw; `name` is the constraint's."""

    def __init__(self, name: str) -> None:
        super().__init__("This cannot be stored: it contradicts what is stored already.")
        self.name = name


class VisitClosed(Conflict):
    """The visit has begun or is over, so its link no longer changes it."""

    code = "visit-closed"


class NotBookable(Conflict):
    """A known time that cannot be booked now; the edge adds the nearest others."""


class SlotTaken(NotBookable):
    code = "slot-taken"


class NotOffered(SlotTaken):
    """Its therapist, or its location, does not offer this kind of visit: for it the time is as good as taken."""


class SlotHeld(NotBookable):
    """Somebody else keeps it for some minutes while they book; it may be free again after."""

    code = "slot-held"


class TooSoon(NotBookable):
    code = "too-soon"


class TooLate(NotBookable):
    code = "too-late"


class Protected(NotBookable):
    """It is kept back for short notice, and can be booked in the last hours of the access goal only."""

    code = "protected"


class NotLicensed(NotBookable):
    code = "not-licensed"
