"""Queries in a stream: what is stored is found, put in order, and sent as an answer."""

from operators.retrieval.answers import AnswerSplit, answer_of, answered, as_lines, to_answers
from operators.retrieval.reader import Asking
from operators.retrieval.reranking import RerankStage, rerank
from operators.retrieval.retrieving import RetrieveStage, retrieve
from operators.retrieval.searches import Fused, Nearest, Rescored, Search

__all__ = [
    "AnswerSplit",
    "Asking",
    "Fused",
    "Nearest",
    "RerankStage",
    "Rescored",
    "RetrieveStage",
    "Search",
    "answer_of",
    "answered",
    "as_lines",
    "rerank",
    "retrieve",
    "to_answers",
]
