"""`text_to_qdrant`, with a stage before the model that hangs or dies on what a text says."""

from __future__ import annotations

import os
import signal
import threading

from bytewax.dataflow import Dataflow

from flows.searchable import searchable
from flows.settings import TextSettings
from flows.starting import started
from operators import Batch

__all__ = ["build", "flow"]


def flow() -> Dataflow:
    return started(TextSettings, build)


def build(settings: TextSettings) -> Dataflow:
    stage = settings.stage
    stage.open()
    return searchable("text_to_qdrant", settings, (hostile, stage), settings.spaces(stage))


def hostile(batch: Batch) -> Batch:
    for record in batch.records:
        match record.fields["text"]:
            case "hang":
                threading.Event().wait()
            case "die":  # as of a fault in native code, or of too much memory
                os.kill(os.getpid(), signal.SIGKILL)
    return batch
