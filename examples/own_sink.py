"""A sink of your own: vectors in a table of SQLite, at least once, and a repeat changes nothing."""

import json
import sqlite3
from pathlib import Path

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.testing import TestingSource, run_main
from typing_extensions import override

from operators import (
    Batch,
    DeadLetterFile,
    DenseStage,
    Message,
    Record,
    Schema,
    decode,
    run_stages,
    window,
)

TABLE = """
CREATE TABLE IF NOT EXISTS vectors (
    key TEXT PRIMARY KEY, source TEXT, "offset" INTEGER, payload TEXT, vector BLOB
)
"""

# The fence: an older message of the same partition never replaces a newer one.
WRITE = """
INSERT INTO vectors VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    source = excluded.source, "offset" = excluded."offset",
    payload = excluded.payload, vector = excluded.vector
WHERE vectors.source <> excluded.source OR vectors."offset" <= excluded."offset"
"""


class SqliteSink(FixedPartitionedSink[Batch, None]):
    """
    Batches to a table, a row for each key.

    Delivery: at least once. `snapshot` commits: when an epoch counts as done, its rows are on
    disk. A crash loses what was not committed, and the resume brings it again. A repeat writes
    the same row under the same key, and an older version never replaces a newer one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @override
    def list_parts(self) -> list[str]:
        # Called while the workers start: a wrong path fails here, before the first message.
        with sqlite3.connect(self._path) as table:
            table.execute(TABLE)
        table.close()
        return ["vectors"]  # one writer, whatever the number of workers

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[Batch, None]:
        return _Partition(self._path)

    @override
    def part_fn(self, item_key: str) -> int:
        return 0


class _Partition(StatefulSinkPartition[Batch, None]):
    def __init__(self, path: Path) -> None:
        self._table = sqlite3.connect(path, timeout=30)

    @override
    def write_batch(self, values: list[Batch]) -> None:
        self._table.executemany(WRITE, [row_of(one) for batch in values for one in batch.records])

    @override
    def snapshot(self) -> None:
        # After all writes of an epoch, and before its offsets are committed. Wait here for the
        # acknowledgement of whatever `write_batch` has sent; raise where it does not come.
        self._table.commit()

    @override
    def close(self) -> None:
        self._table.close()


def row_of(record: Record) -> tuple[str, str, int, str, bytes]:
    """Return a record as a row of the table."""
    origin = record.origin
    vector = record.vectors["dense"]
    if not isinstance(vector, np.ndarray):
        msg = f"The vector 'dense' of {record.key!r} is sparse; the table holds dense ones."
        raise TypeError(msg)
    payload = json.dumps(record.payload)
    return str(record.key), origin.source, origin.offset, payload, vector.tobytes()


texts = ["Bread is baked in the morning.", "The train leaves at noon."]
messages = [
    Message(topic="notes", partition=0, offset=n, key=f"note-{n}".encode(), value=text.encode())
    for n, text in enumerate(texts)
]
stages = (DenseStage(model="fastembed-stream/all-MiniLM-L6-v2-int8"),)

flow = Dataflow("notes")
source = op.input("messages", flow, TestingSource(messages))
records = decode("decode", source, schema=Schema(format="text"))
embedded = run_stages("embed", window("window", records.oks), stages=stages)
op.output("sqlite", embedded.oks, SqliteSink(Path("vectors.sqlite")))
failures = op.merge("failures", records.errs, embedded.errs)
op.output("dead_letters", failures, DeadLetterFile(Path("dead_letters.jsonl")))

if __name__ == "__main__":
    run_main(flow)
    with sqlite3.connect("vectors.sqlite") as table:
        for key, n_bytes in table.execute("SELECT key, length(vector) FROM vectors ORDER BY key"):
            print(key, n_bytes)
