"""The one script of a page: inline, and allowed by its hash alone."""

import base64
from hashlib import sha256
from importlib.resources import files

from markupsafe import Markup


def page_script() -> Markup:
    """The script that sorts tables and opens details for printing, as the page holds it."""
    text = (files("synthdp.pages") / "templates" / "page.js").read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 (a file of this package)


def content_policy(script: str) -> str:
    """A policy by which a page fetches nothing and runs this script alone."""
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        f"form-action 'none'; script-src 'sha256-{digest}'"
    )
