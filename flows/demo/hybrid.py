"""`hybrid_to_qdrant`: docstrings by four kinds of vectors, and what each of them finds."""

from __future__ import annotations

from typing import get_args

from flows import hybrid_to_qdrant
from flows.demo.asking import LATE_MODEL, MODEL, SPARSE_MODEL, ask, settings_of
from flows.demo.documents import QUESTIONS, docstrings
from flows.demo.kept import NO_ENVIRONMENT
from flows.demo.place import Place
from flows.demo.tables import side_by_side
from flows.settings import HybridSettings
from flows.settings.queries import Mode
from operators import Hit

__all__ = ["COLLECTION", "settings_for", "show"]

COLLECTION = "standard_library_hybrid"

_TOPIC = "docstrings"
_HITS = 3


def show(place: Place, n_documents: int) -> None:
    """Make docstrings searchable by words and by meaning, and show what each mode finds."""
    documents = docstrings(n_documents)
    n_sent = place.send(_TOPIC, "docstrings", (document.message() for document in documents))
    settings = settings_for(place, _TOPIC, COLLECTION, late_model=LATE_MODEL)
    place.fill(hybrid_to_qdrant.build(settings), COLLECTION, "documents", n_sent)
    modes: tuple[Mode, ...] = get_args(Mode)
    found: dict[str, list[tuple[Hit, ...]]] = {
        mode: ask(settings_of(place.folder, COLLECTION, mode, limit=_HITS), QUESTIONS)
        for mode in modes
    }
    for number, question in enumerate(QUESTIONS):
        hits = {mode: answers[number] for mode, answers in found.items()}
        place.console.print(side_by_side(question, hits))


def settings_for(
    place: Place, topic: str, collection: str, *, late_model: str | None
) -> HybridSettings:
    """Say what the flow is told; without a late model it writes dense and sparse vectors."""
    return HybridSettings(
        _env_prefix=NO_ENVIRONMENT,
        kafka_brokers=place.brokers,
        kafka_topics=(topic,),
        dense_model=MODEL,
        sparse_model=SPARSE_MODEL,
        late_model=late_model,
        qdrant_path=place.store,
        collection=collection,
        dead_letter_file=place.dead_letters,
    )
