"""
Settings that are right each for itself, and wrong together.

A flow that reads what it writes never ends: each dead letter would fail again.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

from pydantic_settings import BaseSettings

from operators.files.folder import IMAGE_SUFFIXES

__all__ = ["conflicts"]

_LONGEST_SHOWN = 100
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")

_READ, _DEAD, _RESULTS = "kafka_topics", "dead_letter_topic", "results_topic"
_WRITTEN = ("output_file", "results_file", "dead_letter_file")
_PLACES = ("input_file", "input_folder", "qdrant_path", *_WRITTEN)

_OF_RECOVERY = re.compile(r"part-\d+\.sqlite3(-wal|-shm)?")


def conflicts(settings: BaseSettings) -> list[str]:
    """Tell what of a flow's settings cannot be together, in a sentence each."""
    return [*_of_topics(settings), *_of_places(settings), *_of_keys(settings)]


def _of_keys(settings: BaseSettings) -> Iterator[str]:
    """Lines and files of a folder have keys of text: their numbers, their paths."""
    key_format = getattr(settings, "key_format", "text")
    for name in ("input_file", "input_folder"):
        if getattr(settings, name, None) is not None and key_format not in {"text", "none"}:
            yield (
                f"{_variable(settings, 'key_format')}={key_format} reads keys of Kafka's messages, "
                f"and {_variable(settings, name)} has none; leave it out"
            )


def _of_topics(settings: BaseSettings) -> Iterator[str]:
    read: tuple[str, ...] = getattr(settings, _READ, ())
    dead: str | None = getattr(settings, _DEAD, None)
    results: str | None = getattr(settings, _RESULTS, None)
    named = [(_READ, topic) for topic in read]
    named += [(name, topic) for name, topic in ((_DEAD, dead), (_RESULTS, results)) if topic]
    for name, topic in dict.fromkeys(named):
        if not _TOPIC.fullmatch(topic) or topic in {".", ".."}:
            several = "; several have commas between them" if name == _READ else ""
            yield (
                f"{_variable(settings, name)}: {_shown(topic)} cannot be a topic. Expected "
                "letters, digits, '.', '_' and '-', at most 249; patterns are not read"
                f"{several}"
            )
    twice = [topic for topic, n_times in Counter(read).items() if n_times > 1]
    if twice:
        yield f"{_variable(settings, _READ)} names {_shown(twice[0])} twice; name it once"
    if dead in read:
        yield _same_topic(settings, _DEAD, _READ, dead, "each dead letter would be read, and fail")
    if results in read:
        yield _same_topic(settings, _RESULTS, _READ, results, "each answer would be read again")
    if dead and dead == results:
        yield _same_topic(settings, _DEAD, _RESULTS, dead, "readers could not tell them apart")


def _same_topic(settings: BaseSettings, one: str, other: str, topic: str | None, why: str) -> str:
    names = f"{_variable(settings, one)} and {_variable(settings, other)}"
    return f"{names} both name {_shown(topic or '')}: {why}. Name another topic"


def _shown(topic: str) -> str:
    return repr(topic if len(topic) <= _LONGEST_SHOWN else f"{topic[:_LONGEST_SHOWN]}...")


def _of_places(settings: BaseSettings) -> Iterator[str]:
    told = {name: getattr(settings, name, None) for name in _PLACES}
    places = {_variable(settings, name): path for name, path in told.items() if path is not None}
    if (dead := told["dead_letter_file"]) is not None:
        variable = _variable(settings, "dead_letter_file")
        places[f"the lock of {variable}"] = Path(f"{os.path.realpath(dead)}.lock")
    for (one, path), (other, its_path) in combinations(places.items(), 2):
        if _is_same(path, its_path):
            yield (
                f"{one} and {other} are one place ({path}): what is written would be read, or "
                "replace the other. Name another"
            )
    yield from _inside_the_input(settings, told)
    for name in _WRITTEN:
        path = told[name]
        if path is not None and _OF_RECOVERY.fullmatch(Path(os.path.realpath(path)).name):
            yield f"{_variable(settings, name)}: {path} is of a recovery store. Name another"


def _inside_the_input(settings: BaseSettings, told: Mapping[str, Path | None]) -> Iterator[str]:
    folder = told["input_folder"]
    if folder is None:
        return
    for name in _WRITTEN:
        path = told[name]
        if path is None or not Path(os.path.realpath(path)).is_relative_to(
            os.path.realpath(folder)
        ):
            continue
        # By default, dead letters are in the working folder: whoever reads that reads no JSONL.
        if name in settings.model_fields_set or path.suffix.lower() in IMAGE_SUFFIXES:
            yield (
                f"{_variable(settings, name)}: {path} is inside "
                f"{_variable(settings, 'input_folder')} ({folder}), which is read. Name another"
            )


def _is_same(one: Path, other: Path) -> bool:
    """Tell two names of one place: links of both kinds, and ways around."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there yet
        return False


def _variable(settings: BaseSettings, name: str) -> str:
    return f"{settings.model_config.get('env_prefix', '')}{name}".upper()
