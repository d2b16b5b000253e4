"""
Long texts in parts that a model can read whole.

A model cuts a text at its limit and what follows is never found. Here a document becomes parts
within the limit, split where the text itself is split (paragraphs, lines, sentences, words), each
a record of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bytewax.dataflow import operator

from fastembed_stream import Fetching, Model, catalog, locate
from fastembed_stream.errors import SettingError
from fastembed_stream.tokens import Tokens
from operators.metrics import FAILURES
from operators.omitting import payloads_of_parts
from operators.records import Batch, Batches, Failure, Part, Record, Split
from operators.splitting import BoundedSplitter
from operators.stages import StageLimits, is_outage, run_stages

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ChunkStage", "chunk"]

_WINDOW_CHARS_PER_TOKEN = 16
"""
Characters that are split at once, for each token of the limit.

The splitter's time grows with the square of what it is given where there is no white space. So
much holds four parts of English; less, and too many last parts are found twice.
"""

_TIMES_READ = 3
"""Times that a text may be split, since the last part of each window is found twice."""

_LEAST_ROOM = 4
"""Tokens of a part besides the special ones: one character can be as many."""


@dataclass(frozen=True, slots=True)
class _Splitter:
    """
    A tokenizer and what splits by it.

    limit  most tokens of a part, special ones and the prompt included
    """

    tokenizer: Tokenizer
    split: BoundedSplitter
    limit: int
    prompt: str

    def spans(self, text: str, most: int) -> list[tuple[int, int]]:
        """
        Give start and end of each part; one for a text within the limit.

        raises  ValueError for more than `most` parts, found without splitting the rest
        """
        if not text or self._fits(text):
            return [(0, len(text))]
        spans = list(islice(self._found(text), most + 1))
        if not spans:  # white space alone, and more of it than the limit
            return [(0, 0)]
        if len(spans) > most:
            msg = (
                f"The text of {len(text):,} characters has more than max_parts={most:,} parts of "
                f"{self.limit} tokens. Split it into documents, or raise the limit."
            )
            raise ValueError(msg)
        for start, end in spans:
            self._check(text[start:end], start)
        return spans

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """
        Split window by window; the last part of each is found again as the first of the next.

        So no part ends where a window happens to end, unless most of too many windows is in their
        last parts. Time grows with the length alone.
        """
        n_window = _WINDOW_CHARS_PER_TOKEN * self.limit
        at, n_read = 0, 0
        while at < len(text):
            window = text[at : at + n_window]
            parts = self.split.chunk_indices(window)
            n_read += len(window)
            after = at + len(window)
            if after < len(text) and len(parts) > 1 and n_read <= _TIMES_READ * (at + n_window):
                after = at + parts.pop()[0]
            yield from ((at + start, at + start + len(part)) for start, part in parts)
            at = after

    def _fits(self, text: str) -> bool:
        return (
            len(text) <= _WINDOW_CHARS_PER_TOKEN * self.limit and self._length(text) <= self.limit
        )

    def _length(self, text: str) -> int:
        return len(self.tokenizer.encode(self.prompt + text).ids)

    def _check(self, part: str, start: int) -> None:
        n_tokens = self._length(part)
        if n_tokens > self.limit:
            msg = (
                f"The text at character {start} cannot be split into parts of {self.limit} tokens: "
                f"{part[:20]!r} has {n_tokens}. Raise max_tokens."
            )
            raise ValueError(msg)


class _Opened:
    """A splitter made once for each process, whichever thread comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._splitter: _Splitter | None = None

    def splitter(self, stage: ChunkStage) -> _Splitter:
        with self._lock:
            if self._splitter is None:
                self._splitter = _open(stage)
            return self._splitter


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkStage:
    """
    A record for each part of a text that is too long for a model.

    model       whose tokenizer counts: a catalog name, or a row of your own
    reads       name of the field that is split
    stored_as   name of the same text in the payload, dots go into nested objects: a part's payload
                then has the part's text. None leaves payloads as they are
    max_tokens  most tokens of one part, special tokens included; None takes the model's limit. The
                stage that embeds the parts needs the same limit or a higher one
    overlap     most tokens that a part repeats of the one before. A text whose own ends are too
                much work to find is cut by tokens, and a part then repeats half of it at most
    prompted    whether the embedding stage puts the model's passage prompt before each part
    max_parts   a document of more parts is a failure: it is one batch for all that follows
    max_bytes   most bytes that the payloads of a document's parts have together, as JSON. Where
                they would have more, each part leaves out the largest fields, and says so under
                `_stream.omitted`; its own text stays
    folder      take the model's files from here

    Parts keep their document's key and origin, stand together in one batch, in order, and say
    which they are (`Record.part`). White space around parts is left out. A text within the limit
    stays one part, as it is; so does an empty one. A text of more than 16 characters for each
    token of the limit counts as longer than it, whatever its tokens are.

    Time grows with the length of a text, whatever it is made of, up to `max_parts`: about 4 s for a
    megabyte of prose and 15 s for one without white space (Chinese, digits), on one core, off the
    worker's thread.
    """

    model: Model | str
    reads: str = "text"
    stored_as: str | None = "text"
    max_tokens: int | None = None
    overlap: int = 0
    prompted: bool = False
    max_parts: int = 10_000
    max_bytes: int = 16 << 20
    folder: Path | None = None
    fetching: Fetching = Fetching()  # noqa: RUF009  frozen
    _opened: _Opened = field(default_factory=_Opened, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.reads:
            msg = "ChunkStage(reads=''): expected the name of a field."
            raise SettingError(msg)
        if self.overlap < 0 or (self.max_tokens is not None and self.overlap >= self.max_tokens):
            most = "the limit" if self.max_tokens is None else f"max_tokens={self.max_tokens}"
            msg = f"ChunkStage(overlap={self.overlap}): expected 0 or more, and less than {most}."
            raise SettingError(msg)
        for name in ("max_parts", "max_bytes"):
            if getattr(self, name) < 1:
                msg = f"ChunkStage({name}={getattr(self, name)}): expected at least 1."
                raise SettingError(msg)
        _ = self.row  # an unknown name fails here, while the flow is built

    @property
    def name(self) -> str:
        """Name the stage in failures and metrics."""
        return f"chunk {self.reads}"

    @property
    def row(self) -> Model:
        """Give the model's row; the kinds of one name share their tokenizer."""
        return catalog.named(self.model)[0] if isinstance(self.model, str) else self.model

    def open(self) -> int:
        """
        Load the tokenizer now, and give the most tokens of one part.

        raises  SettingError where limit, prompt and overlap leave no room for text
        """
        return self._opened.splitter(self).limit

    def __call__(self, batch: Batch) -> Batch:
        """Split all texts of a batch; one that cannot be split fails alone."""
        splitter = self._opened.splitter(self)
        records: list[Record] = []
        failures: list[Failure] = []
        for record in batch.records:
            try:
                records += self._parts(record, splitter)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a panic of the splitter is no Exception
                if is_outage(error):
                    raise
                FAILURES.labels(self.name).inc()
                failures.append(Failure.of(record.origin, self.name, error))
        return Batch(records=tuple(records), failures=batch.failures + tuple(failures))

    def _parts(self, record: Record, splitter: _Splitter) -> list[Record]:
        text = record.fields.get(self.reads)
        if not isinstance(text, str):
            found = ", ".join(record.fields) or "none"
            msg = f"Field {self.reads!r} of record {record.key!r} is no text; it has {found}."
            raise TypeError(msg)
        spans = splitter.spans(text, self.max_parts)
        owns = [text[start:end] for start, end in spans]
        payloads = payloads_of_parts(
            record.payload, text, owns, path=self.stored_as, most=self.max_bytes
        )
        return [
            replace(
                record,
                fields={**record.fields, self.reads: own},
                payload=payload,
                part=Part(number=number, count=len(spans), start=start, end=end),
            )
            for number, ((start, end), own, payload) in enumerate(
                zip(spans, owns, payloads, strict=True)
            )
        ]


@operator
def chunk(
    step_id: str,
    up: Batches,
    *,
    stage: ChunkStage,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Split long texts into parts, each a record.

    Use it after the window: a window would part what belongs together. Or put the stage before
    the embedding one in the tuple of `run_stages`: a crash then keeps the short way.

    Delivery: that of `run_stages`. The same text always gives the same parts.
    """
    return run_stages("run", up, stages=(stage,), limits=limits)


def _open(stage: ChunkStage) -> _Splitter:
    row = stage.row
    files = locate(row, folder=stage.folder, fetching=stage.fetching)
    tokens = Tokens.open(files, row, max_tokens=stage.max_tokens)
    tokenizer = tokens.untruncated()
    prompt = row.passage_prompt if stage.prompted else ""
    room = tokens.limit - len(tokenizer.encode(prompt).ids)  # [CLS] and the like are in it
    if room < _LEAST_ROOM or stage.overlap >= room:
        msg = (
            f"A limit of {tokens.limit} tokens for {row.name!r} leaves {room} for text, besides "
            f"special tokens and the prompt; expected at least {_LEAST_ROOM}, and more than "
            f"overlap={stage.overlap}."
        )
        raise SettingError(msg)
    split = BoundedSplitter(tokenizer, room, stage.overlap)
    return _Splitter(tokenizer, split, tokens.limit, prompt)
