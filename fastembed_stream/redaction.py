"""
What may stand in a log, an error or a dead letter: no password, no key, no signed query.

One function, `redacted`, is used wherever a text may have come from somewhere else: an error of a
library, a URL of a stranger, a setting. It knows secrets by where they stand (a URL's user and
query, `password=`, `Authorization:`) and by what they are, where `keep_secret` was told.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

__all__ = ["MASK", "is_secret_name", "keep_secret", "redacted", "shown_options", "shown_url"]

MASK = "***"

_SHORTEST_SECRET = 4
"""Shorter ones are no secrets, and would be found in every other word."""

_NAMES = (
    r"passwo?r?d|passwd|passphrase|secret|api[-_.]?key|access[-_.]?key|private[-_.]?key"
    r"|signature|credentials?|authorization|jaas\.config|oauthbearer\.config|key\.pem|kinit\.cmd"
)
_SECRET_NAME = re.compile(rf"{_NAMES}|token$|(?:^|[-_.])(?:sig|pwd|auth)$", re.IGNORECASE)

_QUOTED_URL = re.compile(
    r"(?P<start>(?P<quote>\\?['\"])(?:[a-z][a-z0-9+.\-]{0,20}:)?//)"
    r"(?P<rest>(?:(?!(?P=quote))(?:\\.|[^\n\\])){0,4000})(?P=quote)",
    re.IGNORECASE,
)
"""A repr keeps what else would end a URL: spaces, the other quote, and its own behind a `\\`."""
_URL = re.compile(r"(?P<start>//)(?P<rest>[^\s\"'<>`?#]*(?:[?#](?!\*)[^\s<>]*)?)")
_USER = re.compile(r"(?<![\w/@:.\-])[^\s/@:\"'<>]{1,100}:[^\s/@\"'<>]{1,200}@(?=[\w\[])")
_OF_TOKENIZERS = ("pad_", "unk_", "bos_", "eos_", "cls_", "sep_", "mask_", "max_", "per_")
"""Tokenizers have tokens too, and `pad_token`, `token_type_ids` or `max_token` are no secrets."""
_TOKEN = "".join(f"(?<!{word})" for word in _OF_TOKENIZERS) + r"token\d*(?![\w.\-])"
_SECRET = rf"[\w.\-]{{0,60}}(?:(?:{_NAMES})[\w.\-]{{0,60}}|{_TOKEN})"
_VALUE = r"(?:\\\"(?:[^\"\\]|\\[^\"])*\\\"|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;&)}\]\"']+)"
_SET = re.compile(
    rf"(?P<name>(?P<quote>\\?['\"]){_SECRET}(?P=quote)\s*[:=]\s*|(?<![\w.\-]){_SECRET}\s*=\s*)"
    rf"{_VALUE}",
    re.IGNORECASE,
)
_PERHAPS_SET = re.compile(rf"(?:{_NAMES}|token)[\w.\-]{{0,60}}\\?['\"]?\s*[:=]", re.IGNORECASE)
"""A part of all that `_SET` finds, looked for first: it takes a tenth of the time."""
_HEADER = re.compile(
    r"(?P<name>\b(?:(?:proxy-)?authorization|(?:x-)?api-key|(?:set-)?cookie)['\"]?\s*:\s*)"
    r"(?P<value>['\"][^'\"\n]*['\"]|[^\n,}'\"]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(
    r"\b(?P<kind>bearer|basic)\s+(?!(?:auth|credential|token)[a-z]*(?![\w+/=.~\-]))"
    r"[\w+/=.~\-]{8,}",
    re.IGNORECASE,
)
"""What follows may be a word of the sentence: 'Basic authentication failed'."""


_SIGNS = (
    "passw",
    "passphrase",
    "secret",
    "key.pem",
    *(f"{of}{by}key" for of in ("api", "access", "private") for by in ("", "-", "_", ".")),
    "signature",
    "credential",
    "authorization",
    "jaas.config",
    "oauthbearer",
    "kinit.cmd",
    "token",
    "cookie",
    "bearer",
    "basic",
)
"""Without one of these no name of a secret is there: most texts are done here."""


class _Known:
    """Secrets of this process, whatever text they turn up in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spelled: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        spelled = {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
        spelled.add(repr(secret)[1:-1])
        with self._lock:
            if spelled <= self._spelled:
                return
            self._spelled |= spelled
            longest_first = sorted(map(re.escape, self._spelled), key=len, reverse=True)
            self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)")

    def hidden(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)


_KNOWN = _Known()


def keep_secret(*secrets: str | None) -> None:
    """Hide these wherever `redacted` meets them, for as long as the process lives."""
    for secret in secrets:
        if secret is not None and len(secret.strip()) >= _SHORTEST_SECRET:
            _KNOWN.add(secret)


def redacted(text: str) -> str:
    """
    Hide what is secret in a text.

    >>> redacted("GET https://me:secret@s3.example.org/cat.jpg?X-Amz-Signature=af0 failed")
    'GET https://s3.example.org/cat.jpg?*** failed'
    >>> redacted('{"sasl.username": "me", "sasl.password": "hunter2"}')
    '{"sasl.username": "me", "sasl.password": ***}'
    """
    text = _KNOWN.hidden(text)
    if "//" in text:
        text = _QUOTED_URL.sub(_shown_quoted, text)
        text = _URL.sub(_shown, text)
    if "@" in text:
        text = _USER.sub(f"{MASK}@", text)
    small = text.lower()
    if not any(sign in small for sign in _SIGNS):
        return text
    text = _HEADER.sub(rf"\g<name>{MASK}", text)
    if _PERHAPS_SET.search(text):
        text = _SET.sub(rf"\g<name>{MASK}", text)
    return _BEARER.sub(rf"\g<kind> {MASK}", text)


def shown_url(url: str) -> str:
    """
    Give a URL as it may stand in a log: without user, password, query and fragment.

    >>> shown_url("https://me:secret@example.org/model.tar.gz#part")
    'https://example.org/model.tar.gz#***'
    """
    scheme, slashes, rest = url.partition("//")
    if not slashes:
        return _KNOWN.hidden(_cut(url))
    return _KNOWN.hidden(f"{scheme}//{_without_user(rest)}")


def is_secret_name(name: str) -> bool:
    """
    Tell whether a setting of this name holds a secret.

    >>> [name for name in ("sasl.password", "sasl.username", "ssl.key.pem") if is_secret_name(name)]
    ['sasl.password', 'ssl.key.pem']
    """
    return _SECRET_NAME.search(name) is not None


def shown_options(options: Mapping[str, object]) -> dict[str, object]:
    """Give settings as they may be shown: what is secret by its name is hidden."""
    return {
        name: MASK if is_secret_name(name) else _shown_value(value)
        for name, value in options.items()
    }


def _shown_value(value: object) -> object:
    return redacted(value) if isinstance(value, str) else value


def _shown_quoted(found: re.Match[str]) -> str:
    return f"{_shown(found)}{found['quote']}"


def _shown(found: re.Match[str]) -> str:
    return found["start"] + _without_user(found["rest"])


def _without_user(rest: str) -> str:
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    if at:
        shown = _cut(rest[len(user) + 1 :])
        # A password may have this in it too, and then ends no one knows where.
        return MASK if ":" in user and (shown[:1] in {"/", ""} or "@" in shown) else shown
    _, colon, port = authority.rpartition(":")
    is_port = port.isascii() and port.isdecimal()
    is_address = authority.startswith("[") and authority.endswith("]")
    if colon and not is_port and not is_address and "@" in rest:
        return MASK  # a password with a slash or question mark in it
    return _cut(rest)


def _cut(text: str) -> str:
    bare = re.split(r"[?#]", text, maxsplit=1)[0]
    return text if len(bare) == len(text) else f"{bare}{text[len(bare)]}{MASK}"
