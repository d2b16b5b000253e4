"""
A labelled retrieval set that any machine has: questions and the docstrings that answer them.

Origin: the docstrings of the installed CPython's standard library (PSF licence). A question is a
docstring's first sentence, its answer the rest of the same docstring; the first sentence stands in
no document. Docstrings without a rest are documents that answer nothing.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass

from flows.demo import docstrings

__all__ = ["Labelled", "Question", "labelled"]

_FEWEST_WORDS = 5
_FEWEST_CHARS = 60
_SENTENCE = re.compile(r"(.+?[.!?])\s+(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and the number of the document that answers."""

    text: str
    answer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Documents and questions; `chosen_on` and `held_out` share no question."""

    documents: tuple[str, ...]
    chosen_on: tuple[Question, ...]
    held_out: tuple[Question, ...]


def labelled(n_documents: int = 1_500, n_questions: int = 400, *, seed: int = 3) -> Labelled:
    """
    Make the set, the same each time on one version of Python.

    n_questions  half of them to choose settings on, half to report
    """
    documents: list[str] = []
    questions: list[Question] = []
    for document in docstrings(100_000):
        found = _SENTENCE.fullmatch(document.text)
        first, rest = (found[1], found[2]) if found else ("", document.text)
        asks = len(first.split()) >= _FEWEST_WORDS and len(rest) >= _FEWEST_CHARS
        if asks:
            questions.append(Question(text=" ".join(first.split()), answer=len(documents)))
        documents.append(rest if asks else document.text)
    times = Counter(question.text for question in questions)
    answers = Counter(documents)
    clear = [q for q in questions if times[q.text] == 1 and answers[documents[q.answer]] == 1]
    shuffle = random.Random(seed)  # noqa: S311  no secret
    asked = shuffle.sample(clear, min(n_questions, len(clear)))
    wanted = {question.answer for question in asked}
    others = [number for number in range(len(documents)) if number not in wanted]
    kept = sorted([*wanted, *shuffle.sample(others, min(n_documents - len(wanted), len(others)))])
    place = {number: at for at, number in enumerate(kept)}
    placed = [Question(text=q.text, answer=place[q.answer]) for q in asked]
    half = len(placed) // 2
    return Labelled(
        documents=tuple(documents[number] for number in kept),
        chosen_on=tuple(placed[:half]),
        held_out=tuple(placed[half:]),
    )
