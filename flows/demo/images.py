"""`images_to_qdrant`: pictures that are drawn here, and those that look like another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastembed_stream import catalog
from fastembed_stream.errors import SettingError
from flows import images_to_qdrant
from flows.demo.asking import asked
from flows.demo.image_model import image_model
from flows.demo.kept import NO_ENVIRONMENT, store_in
from flows.demo.pictures import drawn
from flows.demo.place import Place
from flows.demo.tables import listed
from flows.settings import ImageSettings
from operators import Collection, Hit, ImageStage, Nearest, RetrieveStage, Server

__all__ = ["COLLECTION", "alike", "show"]

COLLECTION = "pictures"

_TOPIC = "pictures"
_N_QUESTIONS = 4
_BETWEEN = 7
"""Of shapes and colours, so that questions differ in both."""
_HITS = 3


def show(place: Place, n_documents: int) -> None:
    """Make pictures searchable, and ask for those that are like four more."""
    n_questions = _N_QUESTIONS * _BETWEEN
    pictures = drawn(n_documents + n_questions, place.folder / "pictures")
    questions = pictures[n_documents::_BETWEEN]
    n_sent = place.send(_TOPIC, "pictures", (one.message() for one in pictures[:n_documents]))
    row = image_model(_model_in(place.folder))
    catalog.add(row)
    settings = ImageSettings(
        _env_prefix=NO_ENVIRONMENT,
        kafka_brokers=place.brokers,
        kafka_topics=(_TOPIC,),
        format="json",
        image_as="path",
        image_folders=(place.folder / "pictures",),
        model=row.name,
        qdrant_path=place.store,
        collection=COLLECTION,
        dead_letter_file=place.dead_letters,
    )
    place.fill(images_to_qdrant.build(settings), COLLECTION, "pictures", n_sent)
    found = alike(place.folder, [question.path for question in questions], _HITS)
    for question, hits in zip(questions, found, strict=True):
        place.console.print(listed(f"like {question.path.name}, {question.shows}", hits))


def alike(folder: Path, pictures: Sequence[Path], limit: int) -> list[tuple[Hit, ...]]:
    """
    Give the pictures of a kept folder that look like others.

    raises  SettingError where one of them is no file
    """
    embed = ImageStage(model=image_model(_model_in(folder)))
    retrieve = RetrieveStage(
        server=Server(path=store_in(folder)),
        collection=Collection(name=COLLECTION, vectors={embed.vector: embed.space()}),
        search=Nearest(vector=embed.vector),
        limit=limit,
    )
    return asked((embed, retrieve), [{"image": _content(path)} for path in pictures])


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path} is no picture that can be read: {error.strerror}. Name a file."
        raise SettingError(msg) from error


def _model_in(folder: Path) -> Path:
    return folder / "image-model"
