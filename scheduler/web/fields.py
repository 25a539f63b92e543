"""Fields of the administrators' forms: each keeps what was typed, and says in plain words what it wants."""

import re
from datetime import date, time
from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _
from wtforms import BooleanField, DateField, Field, SelectField, SelectMultipleField, StringField, TimeField
from wtforms.validators import InputRequired, Optional, StopValidation, ValidationError
from wtforms.widgets import CheckboxInput, ListWidget

from scheduler import words
from scheduler.web.language import language

EARLIEST, LATEST = date(2000, 1, 1), date(2199, 12, 31)
QUARTER = 15


class Whole(StringField):  # type: ignore[misc] # WTForms has no types
    """A whole number from `least` to `most`, in steps."""

    data: Any

    def __init__(
        self,
        label: Any,  # noqa: ANN401 a lazy text
        least: int,
        most: int,
        *,
        step: int = 1,
        optional: bool = False,
        **more: Any,  # noqa: ANN401 what WTForms takes
    ) -> None:
        super().__init__(label, render_kw={"inputmode": "numeric"}, **more)
        self.least, self.most, self.step, self.optional = least, most, step, optional

    def pre_validate(self, _form: object) -> None:
        text = str(self.data if self.data is not None else "").strip()
        if not text and self.optional:
            self.data = None
            raise StopValidation
        number = int(text) if re.fullmatch("[0-9]{1,6}", text) else -1
        if not self.least <= number <= self.most or number % self.step:
            raise StopValidation(self._wish())
        self.data = number

    def _wish(self) -> str:
        if self.step > 1:
            return str(
                gettext(
                    "Write a number from %(least)d to %(most)d that %(step)d goes into.",
                    least=self.least,
                    most=self.most,
                    step=self.step,
                )
            )
        return str(gettext("Write a whole number from %(least)d to %(most)d.", least=self.least, most=self.most))


class Day(DateField):  # type: ignore[misc]
    """A date of somebody's calendar."""

    def __init__(self, label: Any, *, optional: bool = False, **more: Any) -> None:  # noqa: ANN401
        wish = _("Write a day like 2026-11-23.")
        super().__init__(label, [Optional() if optional else InputRequired(wish)], invalid_value_message=wish, **more)

    def pre_validate(self, _form: object) -> None:
        if self.data is not None and not EARLIEST <= self.data <= LATEST:
            raise ValidationError(gettext("Write a day between 2000 and 2199."))


class Clock(TimeField):  # type: ignore[misc]
    """A time on the wall, on the quarter hour."""

    def __init__(self, label: Any, *, optional: bool = False, **more: Any) -> None:  # noqa: ANN401
        wish = _("Write a time like 09:00.")
        wanted = [Optional() if optional else InputRequired(wish)]
        super().__init__(label, wanted, invalid_value_message=wish, render_kw={"step": QUARTER * 60}, **more)

    def pre_validate(self, _form: object) -> None:
        if self.data is not None and self.data.minute % QUARTER:
            raise ValidationError(gettext("Times begin and end on the quarter hour, like 09:15."))

    @property
    def minutes(self) -> int:
        """Since midnight."""
        return int(self.data.hour * 60 + self.data.minute)


class OneOf(SelectField):  # type: ignore[misc]
    """One of a list."""

    def __init__(self, label: Any, wish: Any = None, **more: Any) -> None:  # noqa: ANN401
        wish = wish or _("Choose one of the list.")
        super().__init__(label, invalid_choice_message=wish, invalid_value_message=wish, **more)
        self.wish = wish
        self.type = "SelectField"  # it looks like one


class Ticks(SelectMultipleField):  # type: ignore[misc]
    """Any of a few, each with a box to tick."""

    widget = ListWidget(prefix_label=False)
    option_widget = CheckboxInput()

    def pre_validate(self, _form: object) -> None:
        known = {self.coerce(choice.value) for choice in self.choices}
        if self.process_errors or not set(self.data or ()) <= known:
            raise StopValidation(gettext("Choose from the list."))


class Matches:
    """Accept a text that a pattern describes as a whole, without blanks around it."""

    def __init__(self, pattern: str, wish: Any) -> None:  # noqa: ANN401 a lazy text
        self.pattern, self.wish = re.compile(pattern), wish

    def __call__(self, _form: object, field: Field) -> None:
        text = (field.data or "").strip()
        if not self.pattern.fullmatch(text):
            raise StopValidation(str(self.wish))
        field.data = text


def time_of(minutes: int) -> time:
    """The time on the wall so many minutes after some midnight."""
    return time(minutes // 60 % 24, minutes % 60)


def told(field: Field) -> str:
    """What a field holds, in words."""
    value = field.data
    if isinstance(field, BooleanField):
        return str(gettext("yes") if value else gettext("no"))
    if isinstance(field, SelectField):
        chosen = {value} if not isinstance(field, SelectMultipleField) else set(value or ())
        labels = [str(choice.label) for choice in field.iter_choices() if field.coerce(choice.value) in chosen]
        return ", ".join(labels) or "–"
    if isinstance(value, date):
        return words.plain_date(value, language())
    if isinstance(value, time):
        return words.wall_time(value.hour * 60 + value.minute, language())
    return str(value) if value not in {None, ""} else "–"
