"""A stage of your own: pages of HTML become plain text before they are embedded."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from typing_extensions import override

from operators import (
    Batch,
    DenseStage,
    Failure,
    Message,
    Record,
    Schema,
    decode,
    run_stages,
    window,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainText:
    """
    Replace the HTML in a field by its text; a page without text fails alone.

    A stage has no state of its own: several batches pass through it at once, on several threads,
    and a batch that was under way in a crash passes through it again.
    """

    field: str = "text"
    name: str = "plain text"  # stands in the dead letters and in the metrics

    def __call__(self, batch: Batch) -> Batch:
        """Return the records in their order, and a failure for each that has no text."""
        records: list[Record] = []
        failures: list[Failure] = []
        for record in batch.records:
            text = " ".join(words_of(str(record.fields[self.field])))
            if text:
                records.append(replace(record, fields={**record.fields, self.field: text}))
            else:
                error = ValueError(f"Field {self.field!r} is HTML without text. Send a page.")
                failures.append(Failure.of(record.origin, self.name, error))
        return Batch(records=tuple(records), failures=tuple(failures))


def words_of(page: str) -> Iterator[str]:
    """Yield the words of a page, without those of scripts and styles."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    for text in parser.texts:
        yield from text.split()


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden = 0

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in {"script", "style"}

    @override
    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style"} and self._hidden > 0

    @override
    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)


pages = [
    "<h1>Bread</h1><p>It is baked in the morning.</p>",
    "<style>p { color: red }</style><p></p>",
    "<p>The train leaves at noon.</p>",
]
messages = [
    Message(
        topic="pages",
        partition=0,
        offset=number,
        key=f"page-{number}".encode(),
        value=json.dumps({"text": page}).encode(),
    )
    for number, page in enumerate(pages)
]
stages = (PlainText(), DenseStage(model="fastembed-stream/all-MiniLM-L6-v2-int8"))

flow = Dataflow("pages")
source = op.input("messages", flow, TestingSource(messages))
read = decode("decode", source, schema=Schema())
embedded = run_stages("embed", window("window", read.oks), stages=stages)
batches: list[tuple[str, Batch]] = []
refused: list[tuple[str, tuple[Failure, ...]]] = []
op.output("embedded", embedded.oks, TestingSink(batches))
op.output("refused", op.merge("failures", read.errs, embedded.errs), TestingSink(refused))

if __name__ == "__main__":
    run_main(flow)
    for _, batch in batches:
        for record in batch.records:
            print(record.key, record.fields["text"], list(record.vectors))
    for _, failures in refused:
        for failure in failures:
            print(failure.origin.key, failure.stage, failure.reason)
