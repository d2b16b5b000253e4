"""
One vector for each text without a network: the mean of its tokens' stored vectors (model2vec).

Source: model2vec, https://github.com/MinishLab/model2vec. Unknown tokens carry no meaning here,
so they are left out of the mean; a text without known tokens is the zero vector.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastembed_stream.counts import is_count
from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.graphs import Expected, check_shape
from fastembed_stream.kinds import DENSE_TEXT
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.plain_embedder import PlainEmbedder
from fastembed_stream.pooling import normalized
from fastembed_stream.rows import checked_texts
from fastembed_stream.threads import native_call
from fastembed_stream.tokens import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from fastembed_stream.values import Floats, Ints

__all__ = ["StaticText", "StaticTextFamily"]

_DEFAULT_LIMIT = 512
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # numpy has none: read as bits, widened to float32
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticText:
    """One vector for each text as the mean of its tokens' stored vectors (model2vec), no ONNX."""

    kind: ClassVar = DENSE_TEXT
    files: ClassVar[tuple[str, ...]] = ()

    def open(self, located: LocatedModel) -> OpenModel[str, str, Floats]:
        """Load the table and the tokenizer of a model folder."""
        from tokenizers import Tokenizer

        path = located.folder / "tokenizer.json"
        if not path.is_file():
            msg = f"No tokenizer.json in model folder {located.folder}; a static model needs it."
            raise ModelFilesError(msg)
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the binding raises bare Exception
            msg = f"Cannot read {path}: {error}. Fetch the model again."
            raise ModelFilesError(msg) from error
        if located.max_tokens is not None and not is_count(located.max_tokens):
            msg = (
                f"max_tokens={located.max_tokens!r} for {located.model.name!r}: expected 1 or more."
            )
            raise SettingError(msg)
        limit = located.max_tokens or located.model.max_tokens or _DEFAULT_LIMIT
        tokenizer.no_padding()
        tokenizer.enable_truncation(limit)
        weights = located.folder / located.model.model_file
        tensors = _safetensors(weights)
        if "embeddings" not in tensors:
            msg = f"{weights} has no tensor 'embeddings'; it has {list(tensors)}."
            raise ModelFilesError(msg)
        dim = located.model.dim
        expected = Expected(what=f"A table of vectors should have dim {dim}", ranks=(2,), width=dim)
        check_shape(located, "embeddings", tensors["embeddings"].shape, expected)
        family = StaticTextFamily(
            tokenizer,
            tensors["embeddings"],
            rows=tensors.get("mapping"),
            weights=tensors.get("weights"),
            unknown=_unknown_id(json.loads(path.read_text(encoding="utf-8"))["model"]),
        )
        embedder = PlainEmbedder(family)
        return OpenModel(documents=embedder, queries=embedder, max_tokens=limit)


class StaticTextFamily:
    """
    Texts to vectors from a table.

    table      float[n_rows_of_table, dim], one vector for each token or group of tokens
    rows       int64[vocabulary], which row of the table a token has; None where they are the same
    weights    float[vocabulary], how much a token counts; None where all count the same
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        table: Floats,
        *,
        rows: Ints | None,
        weights: Floats | None,
        unknown: int | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._table = table
        self._rows = rows
        self._weights = weights
        self._unknown = unknown

    def read(self, rows: Sequence[str]) -> Reading:
        """Turn texts into token ids, unknown tokens included."""
        texts = checked_texts(rows)
        with native_call():
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids = tuple(np.array(encoding.ids, dtype=np.int64) for encoding in encodings)
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        lost = [sum(len(part.ids) for part in encoding.overflowing) for encoding in encodings]
        return Reading(
            ids=ids,
            lengths=lengths,
            truncated_rows=sum(count > 0 for count in lost),
            truncated_tokens=sum(lost),
        )

    def answers(self, reading: Reading) -> list[Floats]:
        """Give one float32[dim] of length one for each text."""
        return list(normalized(np.stack([self._sum(row) for row in reading.ids])))

    def _sum(self, ids: Ints) -> Floats:
        """Add up one text's vectors; the mean has the same direction, which is all that stays."""
        known = ids if self._unknown is None else ids[ids != self._unknown]
        vectors = self._table[known if self._rows is None else self._rows[known]]
        if self._weights is not None:
            vectors = vectors * self._weights[known, None]
        total: Floats = vectors.sum(axis=0, dtype=np.float32)
        return total


def _unknown_id(model: dict[str, Any]) -> int | None:
    if model.get("type") == "Unigram":
        unknown = model.get("unk_id")
    else:
        vocabulary = model.get("vocab")
        unknown = vocabulary.get(model.get("unk_token")) if isinstance(vocabulary, dict) else None
    return unknown if isinstance(unknown, int) else None


def _safetensors(path: Path) -> dict[str, Any]:
    """
    Map the tensors of a safetensors file, so that only the rows in use are read.

    The format is a length (8 bytes, little endian), a JSON header, and the tensors.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                msg = f"its header would be {size} bytes long"
                raise ValueError(msg)  # noqa: TRY301  one message for all damage, below
            header = json.loads(file.read(size))
        return {
            name: _tensor(path, 8 + size, entry)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} is not a whole safetensors file: {error}. Fetch the model again."
        raise ModelFilesError(msg) from error


def _tensor(path: Path, start: int, entry: dict[str, Any]) -> NDArray[Any]:
    dtype = entry["dtype"]
    if dtype not in _DTYPES:
        msg = f"numbers of type {dtype} are not read here, only {', '.join(_DTYPES)}"
        raise ValueError(msg)
    offset = start + entry["data_offsets"][0]
    tensor: NDArray[Any] = np.memmap(
        path, _DTYPES[dtype], "r", offset=offset, shape=tuple(entry["shape"])
    )
    return (tensor.astype("<u4") << 16).view("<f4") if dtype == "BF16" else tensor
