"""JSON by orjson: quick, and strict where the standard library is lenient (NaN, lone surrogates, endless nesting)."""

from typing import Any

import orjson
from flask.json.provider import JSONProvider


class StrictJson(JSONProvider):
    def dumps(self, obj: Any, **_kwargs: Any) -> str:  # noqa: ANN401 Flask's signature
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:  # noqa: ANN401
        return orjson.loads(s)
