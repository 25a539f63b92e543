"""What the staff's forms have in common: a token that only our own pages hold, and nothing but text from a form."""

from flask_babel import gettext
from flask_babel import lazy_gettext as _
from wtforms import PasswordField
from wtforms.validators import DataRequired

from scheduler.errors import Invalid
from scheduler.models import Account
from scheduler.services import accounts
from scheduler.web.forms import Form


class StaffForm(Form):
    """A form of somebody who is signed in; its `csrf_token` goes with every page that shows it."""


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
