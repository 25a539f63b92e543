"""The forms of the patients' pages. A field accepts what the API accepts, and says in plain words what it wants."""

import re
from hashlib import sha256
from typing import Any, TypeGuard
from uuid import uuid4

import orjson
from flask import request
from flask_babel import lazy_gettext as _
from flask_wtf import FlaskForm
from pydantic import TypeAdapter, ValidationError
from wtforms import BooleanField, EmailField, Field, HiddenField, RadioField, StringField, TelField, TextAreaField
from wtforms.fields import SelectChoice, SelectField
from wtforms.validators import DataRequired, StopValidation

from scheduler.models import Needling
from scheduler.services.booking import Repeatable
from scheduler.services.holds import Keeper
from scheduler.web import schemas
from scheduler.words import LANGUAGES

NEEDLES = {
    Needling.OPEN: _("Happy to"),
    Needling.TALK_FIRST: _("Talk to me first"),
    Needling.NONE: _("No needles"),
}


KEY = re.compile(r"[0-9a-f]{32}")
HOLDER = re.compile(schemas.HOLDER)


def new_key() -> str:
    """A key for a form that is shown for the first time."""
    return uuid4().hex


def is_ours(key: str | None) -> TypeGuard[str]:
    """Whether this looks like the key of a form that was shown."""
    return KEY.fullmatch(key or "") is not None


def repeatable(form: str, key: str | None, *typed: object) -> Repeatable:
    """The same form with the same words, which JSON can write, is one booking; a key that is not ours repeats none."""
    known = key if is_ours(key) else new_key()
    body = sha256(orjson.dumps([known, *typed])).hexdigest()
    return Repeatable(f"{form}-{body}", body)


class Like:
    """Accept what a type of the API accepts, as that type leaves it; say `message` for anything else."""

    def __init__(self, accepted: Any, message: Any, *, optional: bool = False) -> None:  # noqa: ANN401 a type, a lazy text
        self.adapter: TypeAdapter[Any] = TypeAdapter(accepted)
        self.message = message
        self.optional = optional

    def __call__(self, _form: object, field: Field) -> None:
        text = (field.data or "").strip().replace("\r\n", "\n")
        if not text and self.optional:
            field.data = None
            return
        try:
            field.data = self.adapter.validate_python(text)
        except ValidationError as error:
            raise StopValidation(str(self.message)) from error


A_NAME = Like(schemas.Name, _("Write a name of at most 200 characters."))
AN_EMAIL = Like(schemas.Email, _("Write an e-mail address like name@example.com."))
EMAIL_IF_ANY = Like(schemas.Email, AN_EMAIL.message, optional=True)
PHONE_IF_ANY = Like(schemas.Phone, _("Write a phone number with its area code, like 217 555 0142."), optional=True)
NOTE_IF_ANY = Like(schemas.Text, _("Write plain text of at most 500 characters."), optional=True)


class Form(FlaskForm):  # type: ignore[misc] # Flask-WTF has no types
    """What every form of ours has in common."""

    class Meta:
        def wrap_formdata(self, _form: object, formdata: object) -> Any:  # noqa: ANN401 as WTForms has it
            """Read what a page's form sends, which is text; never a file or JSON, which Flask-WTF would read too."""
            return request.form if formdata is not None and request.method == "POST" else None


def language_field() -> SelectField:
    return SelectField(
        _("Language of our messages"), choices=[SelectChoice(code, name) for code, name in LANGUAGES.items()]
    )


def is_within_reach(form: Any, message: Any) -> bool:  # noqa: ANN401 a form with both fields, a lazy text
    """One of e-mail and phone is enough, none is not; say `message` at the first of them then."""
    if form.email.data or form.phone.data or form.email.errors or form.phone.errors:
        return True
    form.email.errors = [str(message)]
    return False


class BookingForm(Form):
    """Who comes. It reads no cookie, so there is nothing that another site could make a browser misuse."""

    class Meta:
        csrf = False

    key = HiddenField()
    hold = HiddenField()
    holder = HiddenField()
    explainer_version = HiddenField()
    name = StringField(_("Your name"), [Like(schemas.Name, _("Write your name."))])
    email = EmailField(
        _("E-mail"),
        [EMAIL_IF_ANY],
        description=_("We send the confirmation and reminders here."),
    )
    phone = TelField(
        _("Phone"),
        [PHONE_IF_ANY],
        description=_("If you have no e-mail address, give us a number."),
    )
    note = TextAreaField(
        _("What hurts? (optional)"),
        [NOTE_IF_ANY],
        description=_("Only the clinic's staff can read this."),
    )
    needling = RadioField(
        _("Needles?"),
        choices=[SelectChoice(word.value, label) for word, label in NEEDLES.items()],
        default=Needling.TALK_FIRST.value,
        description=_("Dry needling is a part of some treatments, never without your consent in the clinic."),
    )
    language = language_field()
    acknowledged = BooleanField(
        _("I was shown what dry needling is. This is not consent to treatment."),
        [DataRequired(_("Please read the short text above and tick this box."))],
    )

    def keeper(self) -> Keeper:
        """Who fills this in, as far as holds know them: where no script named the browser session, this form's key."""
        holder = next((name for name in (self.holder.data, self.key.data) if HOLDER.fullmatch(name or "")), None)
        return Keeper(self.hold.data or None, holder)

    def was_shown(self) -> bool:
        return is_ours(self.key.data)

    def typed(self) -> list[Any]:
        """What makes the same form twice one booking: a time that is kept anew makes no other one."""
        return [field.data for field in self if field not in (self.key, self.hold, self.holder)]

    def read_again(self) -> None:
        """Ask for the tick anew: the text has changed since it was shown."""
        self.acknowledged.data = False
        self.acknowledged.errors = [str(_("This text has changed meanwhile: please read it again and tick this box."))]

    def validate(self, extra_validators: Any = None) -> bool:  # noqa: ANN401 as WTForms has it
        sound: bool = super().validate(extra_validators)
        return (
            is_within_reach(self, _("Write an e-mail address or a phone number, so that we can reach you.")) and sound
        )
