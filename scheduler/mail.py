"""Letters as e-mail: text, HTML and calendar in the patient's language, every header checked.

Nothing in it is clinical, and it does not name the patient: it says "physical therapy visit" (invariant 9).
"""

import re
from dataclasses import dataclass
from datetime import date, datetime
from email import policy
from email.charset import BASE64, QP, Charset
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, formataddr
from typing import Any

from flask import Flask, render_template
from flask_babel import force_locale, gettext
from flask_babel import lazy_gettext as _

from config import Settings
from scheduler import calendars, words
from scheduler.calendars import Entry, Invitation
from scheduler.channels import Parcel, Refused
from scheduler.models import Kind
from scheduler.services.letters import AnyLetter, Letter, OneOfSeries, QuestionLetter, StaffLetter, VisitsLetter

# The older of the two policies: the newer one parses every header it is given, which took most of the time of a
# message, and on Python 3.11 decodes what is injected into one.
ON_THE_WIRE = policy.compat32.clone(linesep="\r\n", max_line_length=75)
UTF8 = Charset("utf-8")
UTF8.body_encoding, UTF8.header_encoding = QP, BASE64
LONGEST_LINE = 900
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
PLAIN_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[a-zA-Z0-9.-]+", re.ASCII)
# A header decodes "=?…?=" wherever it stands, and what it decodes may end the line (measured on Python 3.11).
ENCODED_WORD = "=?"
# The subjects of messages that are not about one visit: to the clinic's own people, and to whoever asked for theirs.
PLAIN_SUBJECTS = {
    Kind.MY_VISITS: _("The link to your visits"),
    Kind.SET_PASSWORD: _("Set your password"),
    Kind.LOCKED_OUT: _("Your account was locked for a while"),
    Kind.DAY_CHANGED: _("Your day changed"),
    Kind.TEST: _("A test of your clinic's messages"),
    Kind.ADDRESS_CHANGED: _("Your account has another e-mail address now"),
    Kind.WAYS_IN_CHANGED: _("How you sign in has changed"),
    Kind.LICENSE_ENDS: _("A license ends soon"),
    Kind.TIME_OFF_DECIDED: _("Your time off was decided"),
    Kind.GOAL_FORESEEN: _("A wait beyond your goal is foreseen"),
    Kind.GOAL_MISSED: _("The wait for a first visit is beyond your goal"),
    Kind.GOAL_KEPT: _("Your goal for first visits is kept again"),
    Kind.QUESTION_ASKED: _("Somebody has a question"),
    Kind.QUESTION_WAITS: _("A question waits for an answer"),
    Kind.QUESTION_RECEIVED: _("We have your question"),
    Kind.QUESTION_ANSWERED: _("The answer to your question"),
}


@dataclass(frozen=True, slots=True)
class Mailer:
    """Writes mail with the application's templates and languages."""

    app: Flask
    settings: Settings

    def write(self, letter: AnyLetter, *, now: datetime) -> Parcel:
        """Give a letter the form in which it travels; raises Refused for an address that no header can hold."""
        recipient = _address(letter.recipient)
        sender = self.settings.mail_from
        domain = sender.partition("@")[2]
        language = letter.language if letter.language in words.LANGUAGES else words.DEFAULT_LANGUAGE
        message = MIMEMultipart("alternative", boundary=letter.message_id.hex, policy=ON_THE_WIRE)
        with self.app.app_context(), force_locale(language):
            subject = _subject(letter, language) if isinstance(letter, Letter) else str(PLAIN_SUBJECTS[letter.kind])
            for form in ("text", "html"):
                body = self._body(form, letter, language, subject)
                message.attach(_part(body, "plain" if form == "text" else form))
            if isinstance(letter, Letter):
                message.attach(_calendar_part(letter, sender, now))
        headers: dict[str, Any] = {
            "Subject": subject if subject.isascii() else Header(subject, UTF8).encode(),
            "From": _mailbox(letter.clinic, sender),
            "To": recipient,
            "Date": format_datetime(now),
            "Message-ID": f"<{letter.message_id.hex}@{domain}>",
            "Content-Language": language,
            "Auto-Submitted": "auto-generated",  # RFC 3834: so that no absence notice answers it
        }
        for name, value in headers.items():
            message[name] = value
        return Parcel(letter.message_id, sender, recipient, message.as_bytes())

    def _body(self, form: str, letter: AnyLetter, language: str, subject: str) -> str:
        if isinstance(letter, StaffLetter):
            return self._body_for_staff(form, letter, language, subject)
        if isinstance(letter, VisitsLetter):
            return self._body_with_visits(form, letter, language, subject)
        if isinstance(letter, QuestionLetter):
            said = {"form": form, "letter": letter, "language": language, "subject": subject}
            return render_template("mail/question.html", **said, lines=(letter.answer or "").splitlines())
        return self._body_for_patient(form, letter, language, subject)

    def _body_for_patient(self, form: str, letter: Letter, language: str, subject: str) -> str:
        base_url = self.settings.base_url
        asked = f"?lang={language}" if language != words.DEFAULT_LANGUAGE else ""  # whatever the browser prefers
        return render_template(
            "mail/visit.html",
            form=form,
            letter=letter,
            language=language,
            subject=subject,
            when=words.when(letter.starts_at, letter.time_zone, language, year=True),
            link=f"{base_url}/appointments/{letter.token}{asked}" if letter.token is not None else None,
            series=[
                (
                    words.when(one.starts_at, one.time_zone, language, year=True),
                    one,
                    f"{base_url}/appointments/{one.token}{asked}",
                )
                for one in letter.series
            ],
            asked=asked,
            base_url=base_url,
        )

    def _body_with_visits(self, form: str, letter: VisitsLetter, language: str, subject: str) -> str:
        asked = f"?lang={language}" if language != words.DEFAULT_LANGUAGE else ""
        link = f"{self.settings.base_url}/my-visits/{letter.token}{asked}"
        return render_template(
            "mail/my_visits.html", form=form, letter=letter, language=language, subject=subject, link=link
        )

    def _body_for_staff(self, form: str, letter: StaffLetter, language: str, subject: str) -> str:
        return render_template(
            "mail/staff.html",
            form=form,
            letter=letter,
            language=language,
            subject=subject,
            day=_day(letter, language),
            time_off=words.range_in_words(letter.decision, language) if letter.decision is not None else None,
            alerts=[(alert, words.when(alert.at, alert.time_zone, language)) for alert in letter.alerts],
            base_url=self.settings.base_url,
        )


def _day(letter: StaffLetter, language: str) -> str | None:
    """The day that a message is about, if it is about one."""
    if letter.license is not None:
        return words.plain_date(letter.license.on, language)
    return words.date_in_words(date.fromisoformat(letter.about), language) if letter.kind == Kind.DAY_CHANGED else None


def _subject(letter: Letter, language: str) -> str:
    at = (letter.starts_at, letter.time_zone, language)
    when = f"{words.day(*at)}, {words.hour(*at)}"
    if letter.series:
        first = letter.series[0]
        at = (first.starts_at, first.time_zone, language)
        when = f"{words.day(*at)}, {words.hour(*at)}"
        count = len(letter.series)
        return str(gettext("Booked: %(count)d physical therapy visits from %(when)s", count=count, when=when))
    match letter.kind:
        case Kind.CONFIRMATION:
            return str(gettext("Booked: physical therapy visit, %(when)s", when=when))
        case Kind.REMINDER:
            return str(gettext("Reminder: physical therapy visit, %(when)s", when=when))
        case Kind.MOVED:
            return str(gettext("New time: physical therapy visit, %(when)s", when=when))
        case _:
            return str(gettext("Canceled: physical therapy visit, %(when)s", when=when))


def _part(text: str, subtype: str, **parameters: str) -> MIMEText:
    """A part as it is where every program can read it so, else quoted; without what no mail may hold."""
    text = CONTROL.sub("", text)
    plain = text.isascii() and max(map(len, text.splitlines())) < LONGEST_LINE
    charset: Any = "us-ascii" if plain else UTF8  # typeshed knows names only
    part = MIMEText(text, subtype, charset, policy=ON_THE_WIRE)
    for name, value in parameters.items():
        part.set_param(name, value)
    return part


def _calendar_part(letter: Letter, sender: str, now: datetime) -> MIMEText:
    if letter.series:
        text = calendars.write_several([_entry(one, letter.clinic, sender) for one in letter.series], now=now)
        return _part(text, "calendar", method="PUBLISH", name="visits.ics")
    cancelled = letter.kind == Kind.CANCELLATION
    invitation = Invitation(sender, _harmless(letter.clinic), letter.recipient, cancelled=cancelled)
    text = calendars.write(_entry(letter, letter.clinic, sender), invitation, now=now)
    return _part(text, "calendar", method=invitation.method, name="visit.ics")


def _entry(visit: Letter | OneOfSeries, clinic: str, sender: str) -> Entry:
    return Entry(
        visit_id=visit.visit_id,
        sender=sender,
        sequence=visit.sequence,
        starts_at=visit.starts_at,
        ends_at=visit.ends_at,
        summary=gettext("Physical therapy visit"),
        clinic=clinic,
        place=visit.place,
        address=visit.address,
        phone=visit.phone,
    )


def _address(text: str) -> str:
    if not PLAIN_ADDRESS.fullmatch(text) or ENCODED_WORD in text:
        raise Refused("the address cannot be written in a header")
    return text


def _mailbox(name: str, address: str) -> str | Header:
    """The sender as a header: a name beyond ASCII in encoded words no longer than they may be (RFC 2047)."""
    name = _harmless(name)
    if name.isascii():
        return formataddr((name, address))
    header = Header(name, UTF8)
    header.append(f"<{address}>", "us-ascii")
    return header


def _harmless(name: str) -> str:
    """A name that a header can hold: on one line, with nothing to decode."""
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", name).replace(ENCODED_WORD, "= ?")
