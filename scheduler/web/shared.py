"""Pages alike for everybody, or for one reader: written once for as long as no row changes and no minute passes.

That is exact, not a guess at how old a page may be: the database says whether anything was committed, and every rule
that time alone changes does so with a whole minute's beginning or just after it, or where hours are rounded to it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from hashlib import sha256
from threading import Condition
from typing import cast

from cachetools import LRUCache, cached
from flask import Response, g, request
from sqlalchemy import Engine
from werkzeug.wrappers import Response as BaseResponse

from scheduler.db import MICROSECOND, change_counter
from scheduler.timeline import EPOCH, MINUTE
from scheduler.web.context import context
from scheduler.web.language import language

PAGES_KEPT = 256
SECOND = timedelta(seconds=1)
ROUNDED_OFF = 18 * SECOND  # half of the hundredth of an hour that the access goal is measured in
State = tuple[Engine, str, tuple[int, ...], str, str, str]
View = Callable[[], str]
Answer = Callable[[], BaseResponse]


def shared(view: View) -> Answer:
    """Answer with what the view wrote in the same state; a browser that has it already is only told so."""
    return kept_for(lambda: "")(view)


def kept_for(reader: Callable[[], str | None]) -> Callable[[View], Answer]:
    """Keep the pages of a view for each reader, by their name; for one without a name it is written each time."""

    def keep(view: View) -> Answer:
        kept: LRUCache[State, tuple[bytes, str]] = LRUCache(PAGES_KEPT)

        def written(_state: State) -> tuple[bytes, str]:
            page = view().encode()
            return page, sha256(page).hexdigest()[:32]

        # Who asks for a page that is being written waits for it.
        once = cached(kept, key=lambda state: state, condition=Condition())(written)

        @wraps(view)
        def answer() -> BaseResponse:
            name = reader()
            page, etag = (written if name is None else once)(_state(context().clock.now(), name or ""))
            response = Response(page, mimetype="text/html")
            response.headers["Cache-Control"] = "no-cache"
            response.set_etag(etag)
            return response.make_conditional(request)

        return answer

    return keep


def state_of_rows() -> str:
    """What the database said of its changes when this request first asked: nothing that it reads is older."""
    if "state_of_rows" not in g:
        g.state_of_rows = change_counter(context().engine)
    return cast("str", g.state_of_rows)


def _state(now: datetime, reader: str) -> State:
    """All that such a page depends on; read before the page is written, so that it is never older than this."""
    second = now.replace(microsecond=0)
    moments = (now, now - MICROSECOND, second + ROUNDED_OFF, second + ROUNDED_OFF - SECOND)
    minutes = tuple((moment - EPOCH) // MINUTE for moment in moments)
    return context().engine, state_of_rows(), minutes, request.script_root + request.full_path, language(), reader
