"""What a name, an address or a number must be, wherever it comes from: its clean form, or ValueError."""

import re
from datetime import date

import phonenumbers
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

# Control characters, line ends, what turns the direction of text or has no width, and the start of an encoded word,
# which Python's mail headers would decode (a newline inside it adds a recipient).
CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\u200b\u200e\u200f\u061c\u00ad\u3164\u202a-\u202e\u2060\u2066-\u2069]|=\?"
)
CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
# Reserved domains such as .test are taken: mail to them goes nowhere, and who tries the clinic out uses them.
SPECIAL_USE_DOMAIN_NAMES.clear()
OLDEST = date(1900, 1, 1)


def one_line(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("must be one line of plain text")
    return text


def name(text: str) -> str:
    if not any(character.isalnum() for character in text):
        raise ValueError("must have a letter")
    return one_line(text)


def plain_text(text: str) -> str:
    if CONTROL_BUT_LINES.search(text):
        raise ValueError("must not contain control characters")
    return text


def email(text: str) -> str:
    try:
        found = validate_email(text, check_deliverability=False, allow_smtputf8=False, strict=True)
    except EmailNotValidError as error:
        raise ValueError(f"is no e-mail address: {error}") from error
    return found.ascii_email or found.normalized


def phone(text: str) -> str:
    """Numbers without a country are read as of the United States; stored as E.164."""
    try:
        number = phonenumbers.parse(text, "US")
    except phonenumbers.NumberParseException as error:
        raise ValueError("is no phone number") from error
    whole = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
    if not whole or number.extension:
        raise ValueError("is no phone number with its area code")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def birth_date(on: date) -> date:
    if on < OLDEST:
        raise ValueError("lies too far back")
    return on
