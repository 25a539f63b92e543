"""What the staff's forms have in common: a token that only our own pages hold, and nothing but text from a form."""

from dataclasses import asdict, fields
from typing import Any, ClassVar, Self

from flask_babel import gettext
from flask_babel import lazy_gettext as _
from wtforms import HiddenField, PasswordField, StringField
from wtforms.validators import DataRequired

from scheduler.errors import Invalid
from scheduler.models import Account
from scheduler.services import accounts, edits
from scheduler.services.time_away import OffDetails
from scheduler.timeline import DAY_MINUTES
from scheduler.web import schemas
from scheduler.web.fields import Clock, Day, time_of
from scheduler.web.forms import Form, Like


class StaffForm(Form):
    """A form of somebody who is signed in; its `csrf_token` goes with every page that shows it."""


class DetailsForm(StaffForm):
    """A form whose fields are those of some details."""

    kind: ClassVar[type[Any]]
    seal = HiddenField()

    @classmethod
    def of(cls, details: Any, **more: Any) -> Self:  # noqa: ANN401 details of its kind; further fields
        """The form that shows these details."""
        return cls(formdata=None, data=cls.values(details) | more | {"seal": edits.seal_of(details)})

    @classmethod
    def values(cls, details: Any) -> dict[str, Any]:  # noqa: ANN401
        """What the fields show of details."""
        return asdict(details)

    def details(self) -> Any:  # noqa: ANN401
        """What was filled in, once it is valid."""
        return self.kind(**{field.name: self[field.name].data for field in fields(self.kind)})


class AwayForm(DetailsForm):
    """A time away on the wall clock: whole days, unless a time of the first or the last day is given."""

    starts_on = Day(_("First day"))
    starts = Clock(_("From (optional)"), optional=True)
    ends_on = Day(_("Last day"))
    ends = Clock(
        _("Until (optional)"),
        optional=True,
        description=_("Without times it is whole days, the first and the last included."),
    )

    @classmethod
    def values(cls, details: Any) -> dict[str, Any]:  # noqa: ANN401 of its kind
        return asdict(details) | {
            "starts": time_of(details.starts_minute) if details.starts_minute else None,
            "ends": time_of(details.ends_minute) if details.ends_minute < DAY_MINUTES else None,
        }

    def details(self) -> Any:  # noqa: ANN401
        walls = {"starts_minute", "ends_minute"}
        others = {field.name: self[field.name].data for field in fields(self.kind) if field.name not in walls}
        starts = self.starts.minutes if self.starts.data else 0
        return self.kind(starts_minute=starts, ends_minute=self._ends_minute(), **others)

    def _ends_minute(self) -> int:
        """Midnight is the end of the day."""
        return (self.ends.minutes or DAY_MINUTES) if self.ends.data else DAY_MINUTES


class OffForm(AwayForm):
    kind = OffDetails
    note = StringField(
        _("Note (optional)"),
        [Like(schemas.Name, _("Write at most 200 characters."), optional=True)],
        description=_("Administrators read it. Patients never do."),
    )


class NewPasswordForm(StaffForm):
    password = PasswordField(
        _("New password"),
        [DataRequired(_("Write a password."))],
        description=_("At least 12 characters. Several words that do not belong together are best."),
    )
    again = PasswordField(_("The same again"), [DataRequired(_("Write the password again."))])

    def is_good(self, account: Account) -> bool:
        """Whether the password is one that nobody guesses; says what to do when it is not."""
        try:
            accounts.require_good(self.password.data, account)
        except Invalid:
            self.password.errors = [
                gettext(
                    "Too easy to guess, or shorter than 12 characters. Use several words that do not belong together."
                )
            ]
            return False
        return True

    def validate(self, extra_validators: object = None) -> bool:
        """Both are the same."""
        sound: bool = super().validate(extra_validators)
        if sound and self.password.data != self.again.data:
            self.again.errors = [gettext("This is not the same password.")]
            return False
        return sound
