"""`text_to_qdrant`: docstrings by one dense model, and questions to them."""

from __future__ import annotations

from flows import text_to_qdrant
from flows.demo.asking import MODEL, ask, settings_of
from flows.demo.documents import QUESTIONS, docstrings
from flows.demo.kept import NO_ENVIRONMENT
from flows.demo.place import Place
from flows.demo.tables import listed
from flows.settings import TextSettings

__all__ = ["COLLECTION", "show"]

COLLECTION = "standard_library"

_TOPIC = "docstrings"
_HITS = 3


def show(place: Place, n_documents: int) -> None:
    """Make docstrings searchable and ask four questions."""
    documents = docstrings(n_documents)
    n_sent = place.send(_TOPIC, "docstrings", (document.message() for document in documents))
    settings = TextSettings(
        _env_prefix=NO_ENVIRONMENT,
        kafka_brokers=place.brokers,
        kafka_topics=(_TOPIC,),
        model=MODEL,
        qdrant_path=place.store,
        collection=COLLECTION,
        dead_letter_file=place.dead_letters,
    )
    place.fill(text_to_qdrant.build(settings), COLLECTION, "documents", n_sent)
    asking = settings_of(place.folder, COLLECTION, "dense", limit=_HITS)
    for question, hits in zip(QUESTIONS, ask(asking, QUESTIONS), strict=True):
        place.console.print(listed(question, hits))
