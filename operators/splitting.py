"""
Where a text is cut: at its own ends where that is cheap, and always in time that its length bounds.

A splitter that looks for ends of paragraphs, sentences and words tries many of them, and with an
overlap it goes back after each part. On some texts (characters that are no token, an overlap near
the limit) it then gains one character at a time. So its work is counted, and what would take too
much is cut by tokens instead. Counted, not timed: the same text always gives the same parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["BoundedSplitter"]

_MOST_WORK = 128
"""
Times that each character may be counted.

Prose takes 5, a table of short lines whose parts repeat half of one another up to 100. Parts that
repeat more than three quarters may take a quarter of it: no text is cheap enough.
"""

_CALL_CHARS = 32
"""What one question to the tokenizer costs besides its text, in characters."""

_TRIES = 3
"""What is too long loses its share of what is too much; after so many tries, half."""


class _TooMuchWorkError(Exception):
    """A text whose ends are too dear to find."""


@dataclass(slots=True)
class _Meter:
    """
    A tokenizer that counts what it is asked.

    left  characters that may still be counted; None sets no bound
    """

    tokenizer: Tokenizer
    left: int | None = None

    def tokens(self, text: str) -> int:
        """
        Count the tokens of a text, without special ones.

        raises  _TooMuchWorkError where too much was counted before
        """
        if self.left is not None:
            self.left -= len(text) + _CALL_CHARS
            if self.left < 0:
                raise _TooMuchWorkError
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)


@dataclass(frozen=True, slots=True)
class BoundedSplitter:
    """
    Parts of a text, each with its offset, in work that grows with the text alone.

    room     most tokens of a part, without special ones
    overlap  most tokens that a part repeats of the one before; where the text is cut by tokens, no
             more than half of the room, so that each part gains as much
    """

    tokenizer: Tokenizer
    room: int
    overlap: int

    def chunk_indices(self, text: str) -> list[tuple[int, str]]:
        """Give offset and text of each part, without white space around it."""
        from semantic_text_splitter import TextSplitter

        most = _MOST_WORK if 4 * self.overlap <= 3 * self.room else _MOST_WORK // 4
        meter = _Meter(self.tokenizer, left=most * (len(text) + _CALL_CHARS))
        try:
            splitter = TextSplitter.from_callback(meter.tokens, self.room, self.overlap)
            return splitter.chunk_indices(text)
        except _TooMuchWorkError:
            spans = _Tokens(self, text).spans()
            return [(start, text[start:end]) for start, end in spans]


class _Tokens:
    """A text cut by its tokens: at a word's start if one is near, else between any two."""

    def __init__(self, how: BoundedSplitter, text: str) -> None:
        self._room = how.room
        self._overlap = min(how.overlap, how.room // 2)
        self._text = text
        self._count = _Meter(how.tokenizer).tokens
        self._starts = list(_starts(how.tokenizer, text)) or [0]

    def spans(self) -> Iterator[tuple[int, int]]:
        first, end = 0, 0
        while end < len(self._starts):
            end = self._end(first)
            if (span := self._span(first, end))[0] < span[1]:
                yield span
            first = self._next(first, end)

    def _end(self, first: int) -> int:
        """Give the token after a part's last one."""
        last = len(self._starts)
        end = min(first + self._room, last)
        if end < last:
            end = self._word_start(end, down_to=end - self._room // 4)
        n_tries = 0
        while end > first + 1 and (n_tokens := self._tokens(first, end)) > self._room:
            n_tries += 1
            end = first + max(_fewer(end - first, self._room / n_tokens, n_tries), 1)
        return end

    def _next(self, first: int, end: int) -> int:
        """Give the first token of the next part: it repeats the end of this one."""
        start = max(end - self._overlap, first + 1)
        n_tries = 0
        while start < end and (n_tokens := self._tokens(start, end)) > self._overlap:
            n_tries += 1
            start = end - _fewer(end - start, self._overlap / n_tokens, n_tries)
        return start

    def _word_start(self, token: int, *, down_to: int) -> int:
        """Give the last token up to here that stands after white space; else this one."""
        for near in range(token, max(down_to, 1), -1):
            if self._text[self._starts[near] - 1].isspace():
                return near
        return token

    def _tokens(self, first: int, end: int) -> int:
        start, stop = self._span(first, end)
        return self._count(self._text[start:stop])

    def _span(self, first: int, end: int) -> tuple[int, int]:
        """Give the characters from one token up to another, what is no token among them."""
        start = self._starts[first] if first else 0
        stop = self._starts[end] if end < len(self._starts) else len(self._text)
        own = self._text[start:stop]
        start += len(own) - len(own.lstrip())
        return start, start + len(own.strip())


def _fewer(n: int, share: float, n_tries: int) -> int:
    """Give a smaller number, near that share of it; what was tried often is halved."""
    return n // 2 if n_tries > _TRIES else min(int(n * share), n - 1)


def _starts(tokenizer: Tokenizer, text: str) -> Iterator[int]:
    """Give where tokens start: several of one character count once, since none is cut in two."""
    before = -1
    for start, end in tokenizer.encode(text, add_special_tokens=False).offsets:
        if start > before and end > start:
            yield start
            before = start
