"""Whether a request that changes something comes from a page of another site (cross-site request forgery).

Without keys whoever reaches the port may queue jobs, and so may every page that its user opens: a browser sends a form
or a plain POST anywhere, and only hides the answer. But it says whose page asks. Programs that are no browser say
nothing of the kind, and cannot be made to send what their user did not mean.
"""

from __future__ import annotations

from collections.abc import Iterable

READING = frozenset({"GET", "HEAD", "OPTIONS"})
OWN = frozenset({b"same-origin", b"none"})  # a page of ours, or the user's own doing


def is_forged(method: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """True if a browser says that a page of another origin wants to change something here.

    Sec-Fetch-Site decides where it is sent, for then the browser has compared the origins, whatever a proxy has made of
    the Host header. Browsers leave it out where the address is neither HTTPS nor this machine; there Origin must name
    the host and port that the request is for.

    Args:
        headers: names in lower case, as ASGI has them.
    """
    if method in READING:
        return False
    sent = dict(headers)
    site = sent.get(b"sec-fetch-site")
    if site is not None:
        return site not in OWN
    origin = sent.get(b"origin")
    return origin is not None and origin.lower().partition(b"://")[2] != sent.get(b"host", b"").lower()
