"""The form with which somebody writes to the clinic, and what keeps programs from using it. It reads no cookie."""

from datetime import datetime, timedelta
from secrets import randbits
from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _
from wtforms import EmailField, HiddenField, StringField, TelField, TextAreaField
from wtforms.fields import SelectChoice
from wtforms.validators import StopValidation

from scheduler.keys import Keyring, fingerprint
from scheduler.services.questions import Ask, Reached
from scheduler.web import schemas
from scheduler.web.fields import OneOf
from scheduler.web.forms import EMAIL_IF_ANY, PHONE_IF_ANY, Form, Like, is_within_reach

PURPOSE = "contact form"
QUICKEST, LONGEST = timedelta(seconds=3), timedelta(hours=12)  # from when the form is shown until it is sent
NONCE_BITS = 53


class ContactForm(Form):
    """Who asks what of whom. `shown` is signed: when the form was shown, and a number of its own."""

    class Meta:
        csrf = False

    shown = HiddenField()
    website = StringField(_("Leave this field empty"))  # nobody sees it; programs fill it in
    to = OneOf(_("Whom would you like to reach?"))
    name = StringField(_("Your name"), [Like(schemas.Name, _("Write your name."))])
    email = EmailField(_("E-mail"), [EMAIL_IF_ANY], description=_("The answer goes there."))
    phone = TelField(_("Phone"), [PHONE_IF_ANY], description=_("Without an e-mail address we call you."))
    message = TextAreaField(
        _("Your question"),
        [Like(schemas.Text, _("Write plain text of at most 500 characters."))],
        description=_("At most 500 characters. Please leave out what only your therapist should know."),
    )

    def offer(self, reached: list[Reached]) -> None:
        """Whom one can choose: each location, and each therapist there."""
        self.to.choices = [
            choice
            for one in reached
            for choice in (
                SelectChoice(str(one.location.id), gettext("Anybody in %(place)s", place=one.location.name)),
                *(
                    SelectChoice(f"{one.location.id}-{who.id}", f"{who.name}, {one.location.name}")
                    for who in one.therapists
                ),
            )
        ]

    def validate_message(self, field: Any) -> None:  # noqa: ANN401 a field of WTForms
        if not (field.data or "").strip():
            raise StopValidation(gettext("Write your question."))

    def validate(self, extra_validators: Any = None) -> bool:  # noqa: ANN401 as WTForms has it
        sound: bool = super().validate(extra_validators)
        return (
            is_within_reach(self, _("Write an e-mail address or a phone number, so that we can reach you.")) and sound
        )

    def show(self, keys: Keyring, *, now: datetime) -> None:
        """Sign that the form is shown now; one that is not ours any more may be sent at once, and has no trap in it."""
        again = self.shown.data is not None
        self.shown.data = keys.sign(
            PURPOSE, int(((now - QUICKEST) if again else now).timestamp()), randbits(NONCE_BITS)
        )
        self.website.data = ""

    def comes_from_people(self, keys: Keyring, *, now: datetime) -> bool:
        """Whether it was shown a while ago, not too long, and what nobody sees is empty."""
        signed = keys.signed(PURPOSE, self.shown.data or "")
        if signed is None or self.website.data:
            return False
        return QUICKEST.total_seconds() <= now.timestamp() - signed[0] <= LONGEST.total_seconds()

    def ask(self, *, language: str, address: str | None) -> Ask:
        """What was typed, once it is valid: the same form with the same words is one question."""
        place, _stroke, therapist = self.to.data.partition("-")
        typed = (self.shown.data, self.to.data, self.name.data, self.email.data, self.phone.data, self.message.data)
        return Ask(
            form_sha256=fingerprint("\0".join(part or "" for part in typed)),
            name=self.name.data,
            email=self.email.data,
            phone=self.phone.data,
            message=self.message.data,
            language=language,
            location_id=int(place),
            therapist_id=int(therapist) if therapist else None,
            address=address,
        )
