"""Whether a text that an agent returned is a web page in the place of an answer."""

from __future__ import annotations

import re
from typing import Any

from greenroom.actors.reading.answer_shapes import Fault
from greenroom.messages.status import FailureKind

_LOOKED_AT = 4096
"""Characters of a text in which a page says what it is."""
_GATEWAY_LIMIT = 8192
"""The page of a gateway is not longer than this."""

_DOCUMENT = re.compile(
    r"[\s\ufeff]*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b",
    re.IGNORECASE | re.DOTALL,
)
_STATUS = re.compile(
    r"<(title|h1)>\s*(?:[\w.-]+ \| )?(?:error |http(?:/1\.1)? )?(?:status )?"
    r"(?P<code>[45]\d\d)[\s:-]+"
    r"(?:bad gateway|bad request|forbidden|gateway time-?out|internal server error|"
    r"not found|payload too large|proxy authentication required|request entity too large|"
    r"service (?:temporarily )?unavailable|too many requests|unauthorized|"
    r"authorization required|web server is down|origin is unreachable)",
    re.IGNORECASE,
)
_GATES = (
    "<title>attention required! | cloudflare</title>",
    "<title>error: the request could not be satisfied</title>", "<title>just a moment...</title>",
    "accounts.google.com/", "cloudflareaccess.com", "login.microsoftonline.com", "/oauth2/sign_in",
    "/oauth2/start", 'name="samlrequest"',
)  # fmt: skip
"""What stands only in the pages of a gateway that lets nobody through."""


def document_in(value: Any) -> str:
    """The beginning of an HTML document, in lower case; "" for what is none."""
    kind = type(value)
    if issubclass(kind, str):
        text = str.__getitem__(value, slice(_LOOKED_AT))
    elif issubclass(kind, bytes):
        start: bytes = bytes.__getitem__(value, slice(_LOOKED_AT))
        text = start.decode("utf-8", "replace")
    else:
        return ""
    return text.lower() if _DOCUMENT.match(text) else ""


def gateway_page(value: str) -> Fault | None:
    """Whether a text is the error page of a gateway or a proxy, or the page behind which it wants
    to see a person. A page that an agent might have written is none.
    """
    if len(value) > _GATEWAY_LIMIT and "cloudflare" not in value[:_LOOKED_AT].lower():
        return None
    page = document_in(value)
    if not page:
        return None
    status = _STATUS.search(page)
    if status is not None:
        return Fault(f"the page of a gateway that says {status['code']}", kind_of(status["code"]))
    if any(gate in page for gate in _GATES):
        return Fault("the page of a gateway that wants to see a person", FailureKind.UNAVAILABLE)
    return None


def kind_of(code: str) -> FailureKind:
    """What the status in the title of a page means. The client has seen a 200, and whoever wrote
    the page stands between the two: it is no word on the request or the key.
    """
    if code == "429":
        return FailureKind.RATE_LIMITED
    return FailureKind.TIMEOUT if code in ("408", "504") else FailureKind.UNAVAILABLE
