"""`rerank_queries`: questions on a topic, and their answers on another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from flows import hybrid_to_qdrant, rerank_queries
from flows.demo.asking import settings_of
from flows.demo.documents import QUESTIONS, docstrings
from flows.demo.hybrid import settings_for
from flows.demo.place import Place
from flows.demo.tables import listed
from flows.local_broker import create_topic
from flows.settings import QuerySettings
from operators import Hit

__all__ = ["COLLECTION", "show"]

COLLECTION = "standard_library_answers"

_DOCUMENTS = "docstrings"
_QUESTIONS = "questions"
_ANSWERS = "answers"
_N_QUESTIONS = 40
_HITS = 3
_MODEL = "Xenova/ms-marco-MiniLM-L-6-v2"


def show(place: Place, n_documents: int) -> None:
    """Make docstrings searchable, put questions on a topic, and read the answers from another."""
    documents = docstrings(n_documents)
    n_sent = place.send(_DOCUMENTS, "docstrings", (document.message() for document in documents))
    hybrid = settings_for(place, _DOCUMENTS, COLLECTION, late_model=None)
    place.fill(hybrid_to_qdrant.build(hybrid), COLLECTION, "documents", n_sent)

    others = [document.text.strip().partition("\n")[0] for document in docstrings(_N_QUESTIONS)]
    questions = [*QUESTIONS, *others][:_N_QUESTIONS]
    messages = (_message(number, question) for number, question in enumerate(questions))
    n_asked = place.send(_QUESTIONS, "questions", messages)
    create_topic(place.brokers, _ANSWERS, 1)
    with _reading(place.brokers) as answers:
        flow = rerank_queries.build(_settings(place))
        seconds = place.run(flow, "answering", answers.count, n_asked)
    place.console.print(
        f"{n_asked} answers in topic {_ANSWERS!r} in {seconds:.1f} s: "
        f"{n_asked / seconds:.0f} questions a second, from the topic to the topic"
    )
    place.console.print(_how(place))
    for number, question in enumerate(QUESTIONS):
        place.console.print(listed(question, answers.of(number)))


def _settings(place: Place) -> QuerySettings:
    model = None if place.rerank_folder is None else _MODEL
    asking = settings_of(
        place.folder,
        COLLECTION,
        "hybrid",
        limit=_HITS,
        rerank_model=model,
        rerank_folder=place.rerank_folder,
    )
    told = {
        "kafka_brokers": place.brokers,
        "kafka_topics": (_QUESTIONS,),
        "results_topic": _ANSWERS,
        "dead_letter_file": place.dead_letters,
    }
    return asking.model_copy(update=told)


def _how(place: Place) -> str:
    if place.rerank_folder is None:
        return (
            "The answers stand as the search found them: no cross-encoder comes as a package. "
            f"--rerank-folder DIR takes the files of {_MODEL}, and ranks them."
        )
    return f"The cross-encoder in {place.rerank_folder} put the answers in order."


class _Answers:
    """What has come on the topic of answers, by the number of its question."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._hits: dict[str, list[Hit]] = {}

    def count(self) -> float:
        """Take what has come since, and tell how many questions are answered."""
        while (message := self._consumer.poll(0)) is not None:
            if message.error() is None:
                answer = json.loads(message.value() or b"{}")
                self._hits[answer["id"]] = [Hit(**hit) for hit in answer["hits"]]
        return len(self._hits)

    def of(self, number: int) -> list[Hit]:
        return self._hits[_key(number)]


@contextmanager
def _reading(brokers: str) -> Iterator[_Answers]:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "demo", "log_level": 0})
    try:
        consumer.assign([TopicPartition(_ANSWERS, 0, OFFSET_BEGINNING)])
        yield _Answers(consumer)
    finally:
        consumer.close()


def _message(number: int, question: str) -> tuple[bytes, bytes]:
    return _key(number).encode(), json.dumps({"text": question}).encode()


def _key(number: int) -> str:
    return f"question-{number}"
