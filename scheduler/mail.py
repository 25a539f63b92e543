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
from functools import lru_cache
from typing import Any

from babel import dates
from flask import Flask, render_template
from flask_babel import force_locale, gettext
from icalendar import STATUS, Calendar, Event, Timezone, vCalAddress

from config import Settings
from scheduler.channels import Parcel, Refused
from scheduler.models import Kind
from scheduler.services.letters import Letter
from scheduler.timeline import zone_of

# The older of the two policies: the newer one parses every header it is given, which took most of the time of a
# message, and on Python 3.11 decodes what is injected into one.
ON_THE_WIRE = policy.compat32.clone(linesep="\r\n")
UTF8 = Charset("utf-8")
UTF8.body_encoding, UTF8.header_encoding = QP, BASE64
LONGEST_LINE = 900
DAY_AND_HOUR = {"en": "EEEE, MMMM d, y, h:mm a zzzz", "es": "EEEE d 'de' MMMM 'de' y, h:mm a, zzzz"}
SHORT = {"en": "EEEE, MMMM d, h:mm a", "es": "EEEE d 'de' MMMM, h:mm a"}
PLAIN_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[a-zA-Z0-9.-]+", re.ASCII)
# A header decodes "=?…?=" wherever it stands, and what it decodes may end the line (measured on Python 3.11).
ENCODED_WORD = "=?"


@dataclass(frozen=True, slots=True)
class Mailer:
    """Writes mail with the application's templates and languages."""

    app: Flask
    settings: Settings

    def write(self, letter: Letter, *, now: datetime) -> Parcel:
        """Give a letter the form in which it travels; raises Refused for an address that no header can hold."""
        recipient = _address(letter.recipient)
        sender = self.settings.mail_from
        domain = sender.partition("@")[2]
        language = letter.language if letter.language in DAY_AND_HOUR else "en"
        message = MIMEMultipart("alternative", policy=ON_THE_WIRE)
        with self.app.app_context(), force_locale(language):
            subject = _subject(letter, language)
            for form in ("text", "html"):
                message.attach(_part(self._body(form, letter, language, subject), "plain" if form == "text" else form))
            message.attach(_calendar_part(letter, sender, now))
        for name, value in {
            "Subject": subject if subject.isascii() else Header(subject, UTF8).encode(),
            "From": formataddr((_harmless(letter.clinic), sender)),
            "To": recipient,
            "Date": format_datetime(now),
            "Message-ID": f"<{letter.message_id.hex}@{domain}>",
            "Content-Language": language,
            "Auto-Submitted": "auto-generated",  # RFC 3834: so that no absence notice answers it
        }.items():
            message[name] = value
        return Parcel(letter.message_id, sender, recipient, message.as_bytes())

    def _body(self, form: str, letter: Letter, language: str, subject: str) -> str:
        base_url = self.settings.base_url
        return render_template(
            "mail/visit.html",
            form=form,
            letter=letter,
            language=language,
            subject=subject,
            when=_local(letter, DAY_AND_HOUR[language], language),
            link=f"{base_url}/appointments/{letter.token}" if letter.token is not None else None,
            base_url=base_url,
        )


def _subject(letter: Letter, language: str) -> str:
    when = _local(letter, SHORT[language], language)
    said = {
        Kind.CONFIRMATION: gettext("Booked: physical therapy visit, %(when)s", when=when),
        Kind.REMINDER: gettext("Reminder: physical therapy visit, %(when)s", when=when),
        Kind.CANCELLATION: gettext("Canceled: physical therapy visit, %(when)s", when=when),
    }
    return str(said[letter.kind])


def _part(text: str, subtype: str, **parameters: str) -> MIMEText:
    """A part as it is where every program can read it so, else quoted."""
    plain = text.isascii() and max(map(len, text.splitlines())) < LONGEST_LINE
    charset: Any = "us-ascii" if plain else UTF8  # typeshed knows names only
    part = MIMEText(text, subtype, charset, policy=ON_THE_WIRE)
    for name, value in parameters.items():
        part.set_param(name, value)
    return part


def _calendar_part(letter: Letter, sender: str, now: datetime) -> MIMEText:
    """The visit for the patient's calendar (RFC 5546): always the same UID, SEQUENCE rising, REQUEST or CANCEL."""
    cancelled = letter.kind == Kind.CANCELLATION
    zone = zone_of(letter.time_zone)
    start = letter.starts_at.astimezone(zone)
    event = Event.new(
        uid=f"{letter.visit_id.hex}@{sender.partition('@')[2]}",
        sequence=letter.sequence,
        stamp=now,
        start=start,
        end=letter.ends_at.astimezone(zone),
        summary=gettext("Physical therapy visit"),
        location=f"{letter.place}, {letter.address}",
        description=f"{letter.clinic}, {letter.phone}",
        status=STATUS.CANCELLED if cancelled else STATUS.CONFIRMED,
        organizer=vCalAddress.new(sender, cn=_harmless(letter.clinic)),
        attendees=[vCalAddress.new(letter.recipient, partstat="ACCEPTED", rsvp=False)],
    )
    method = "CANCEL" if cancelled else "REQUEST"
    calendar = Calendar()
    for name, value in {"prodid": "-//Scheduler//visits//EN", "version": "2.0", "method": method}.items():
        calendar.add(name, value)
    calendar.add_component(event)
    rules = _zone_rules(letter.time_zone, start.year)
    text = str(calendar.to_ical().decode()).replace("BEGIN:VEVENT", f"{rules}BEGIN:VEVENT", 1)
    return _part(text, "calendar", method=method, name="visit.ics")


@lru_cache(maxsize=256)
def _zone_rules(name: str, year: int) -> str:
    """A zone's VTIMEZONE for the year of a visit and the next, for programs that know no zones."""
    return str(Timezone.from_tzinfo(zone_of(name), name, date(year, 1, 1), date(year + 2, 1, 1)).to_ical().decode())


def _local(letter: Letter, pattern: str, language: str) -> str:
    """The start on the location's wall clock, with plain blanks, which every header and phone can show."""
    words = dates.format_datetime(letter.starts_at, pattern, tzinfo=zone_of(letter.time_zone), locale=language)
    return " ".join(words.split())


def _address(text: str) -> str:
    if not PLAIN_ADDRESS.fullmatch(text) or ENCODED_WORD in text:
        raise Refused("the address cannot be written in a header")
    return text


def _harmless(name: str) -> str:
    """A name that a header can hold: on one line, with nothing to decode."""
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", name).replace(ENCODED_WORD, "= ?")
