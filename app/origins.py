"""Recognises cross-site request forgery: a request by which a page of another site would change something.

Without API keys everybody who reaches the port may queue jobs. So may every page that such a user opens: a browser
sends a form or a plain POST to any site, and only hides the answer. But the browser names the page's origin. Other
programs do not, and a page cannot make them send requests.
"""

from __future__ import annotations

from collections.abc import Iterable

READING = frozenset({"GET", "HEAD", "OPTIONS"})
OWN = frozenset({b"same-origin", b"none"})  # from this server's page, or from the address bar


def is_forged(method: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Returns whether a page of another origin tries to change something here, according to the browser.

    Sec-Fetch-Site decides if it is present: then the browser has compared the origins, and a proxy's changes to the
    Host header do not matter. Browsers omit it if the address is neither HTTPS nor this machine. Then Origin must name
    the host and port of the Host header.

    Args:
        headers: names in lower case and values, as in ASGI.
    """
    if method in READING:
        return False
    sent = dict(headers)
    site = sent.get(b"sec-fetch-site")
    if site is not None:
        return site not in OWN
    origin = sent.get(b"origin")
    return origin is not None and origin.lower().partition(b"://")[2] != sent.get(b"host", b"").lower()
