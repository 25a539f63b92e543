"""Static files under addresses that change with their content, so that browsers keep them for good; text compressed."""

from functools import cache
from hashlib import sha256
from pathlib import Path

from flask import Flask, Response, current_app, request, url_for
from flask_bootstrap import Bootstrap5
from flask_compress import Compress

BOOTSTRAP = "bootstrap.static"
COMPRESSED = ["text/html", "text/css", "image/svg+xml"]
FOREVER = "public, max-age=31536000, immutable"


def install(app: Flask) -> None:
    app.config.update(
        BOOTSTRAP_SERVE_LOCAL=True,
        COMPRESS_ALGORITHM=["br", "gzip"],
        COMPRESS_MIMETYPES=COMPRESSED,
        COMPRESS_MIN_SIZE=1000,
        COMPRESS_REGISTER=False,  # it would look at every answer, whatever it is
    )
    Bootstrap5(app)
    app.jinja_env.globals["asset"] = asset
    compress = Compress(app)

    @app.after_request
    def finish(response: Response) -> Response:
        return compress.after_request(_kept(response)) if response.mimetype in COMPRESSED else _kept(response)


def asset(filename: str, endpoint: str = "static") -> str:
    """The address of a static file, with its content's hash."""
    folder = current_app.static_folder if endpoint == "static" else current_app.blueprints["bootstrap"].static_folder
    return url_for(endpoint, filename=filename, v=_hash(Path(str(folder)) / filename))


@cache
def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:12]


def _kept(response: Response) -> Response:
    if request.endpoint in {"static", BOOTSTRAP} and "v" in request.args and response.status_code < 400:  # noqa: PLR2004
        response.headers["Cache-Control"] = FOREVER
    return response
