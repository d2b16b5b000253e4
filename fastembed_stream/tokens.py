"""
Text to ragged token ids.

A tokenizer is set once when it is loaded and never changed: what `tokenizer.json` ships of
truncation and padding is dropped, the limit is the one that `tokenizer_config.json` states, and
padding is the packer's business. So threads share it, and a row never depends on its neighbours.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastembed_stream.counts import is_count
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.kinds import LATE_MULTIMODAL
from fastembed_stream.positions import Positions, stated
from fastembed_stream.rows import checked_texts
from fastembed_stream.threads import native_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokenizers import Encoding, Tokenizer

    from fastembed_stream.model import Model
    from fastembed_stream.values import Ints

__all__ = ["Reading", "Tokens"]

_LOG = logging.getLogger(__name__)

_PREFIX_CHARS_PER_TOKEN = 16
"""A text longer than this many characters for each token of the limit is first read in part."""

_TEXTS_AT_ONCE = 256
"""Texts between which Ctrl-C is heard, and the end of the program: one call may have a million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    Rows as they were read: ragged, in the order given.

    ids               one int64[n_tokens] for each row, special tokens included
    lengths           int64[n_rows], tokens of each row
    truncated_rows    rows that lost tokens to the limit
    truncated_tokens  tokens lost (a lower bound where a very long text was read in part)
    """

    ids: tuple[Ints, ...]
    lengths: Ints
    truncated_rows: int = 0
    truncated_tokens: int = 0

    @property
    def n_rows(self) -> int:
        """Count the rows."""
        return len(self.ids)


class Tokens:
    """
    One model's tokenizer with its limit and its way to pad.

    limit           most tokens of one row, special tokens included
    pad_id          id that fills short rows
    pad_left        whether fill goes before the text
    first_position  position of a row's first token
    n_positions     how many tokens of a row have one; None where nothing tells
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        limit: int,
        pad_id: int,
        pad_left: bool,
        first_position: int = 0,
        n_positions: int | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._right_truncation = (tokenizer.truncation or {}).get("direction", "right") == "right"
        self.limit = limit
        self.pad_id = pad_id
        self.pad_left = pad_left
        self.first_position = first_position
        self.n_positions = n_positions

    @classmethod
    def open(
        cls,
        folder: Path,
        model: Model,
        *,
        max_tokens: int | None = None,
        reserved: int = 0,
        added: int = 0,
    ) -> Tokens:
        """
        Load the tokenizer of a model folder.

        max_tokens  overrides the limit of `tokenizer_config.json`, up to the model's positions
        reserved    tokens of the limit that are kept for what a family puts in by itself
        added       tokens that a family puts in beyond the limit
        raises      ModelFilesError where a file is missing or says too little
        """
        from tokenizers import Tokenizer

        _require(folder, "tokenizer.json")
        config = _json(_require(folder, "tokenizer_config.json"))
        model_config = _json(folder / "config.json")
        try:
            tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the binding raises bare Exception
            msg = f"Cannot read {folder / 'tokenizer.json'}: {error}. Fetch the model again."
            raise ModelFilesError(msg) from error

        positions = Positions.of(model_config)
        limit = _limit(config, positions, model, folder, max_tokens, added=added) - reserved
        shipped_truncation, shipped_padding = tokenizer.truncation or {}, tokenizer.padding or {}
        _add_special_tokens(tokenizer, _json(folder / "special_tokens_map.json"))
        _leaves_room(tokenizer, limit, model)
        tokenizer.no_padding()
        tokenizer.enable_truncation(
            limit,
            direction=config.get("truncation_side") or shipped_truncation.get("direction", "right"),
        )
        side = config.get("padding_side") or shipped_padding.get("direction", "right")
        return cls(
            tokenizer,
            limit=limit,
            pad_id=_pad_id(tokenizer, shipped_padding, config, model_config, folder),
            pad_left=side == "left",
            first_position=positions.first,
            n_positions=positions.n,
        )

    @property
    def vocabulary(self) -> dict[str, int]:
        """Give the id of every piece of a word, special tokens included."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    @property
    def special_ids(self) -> Ints:
        """Give the ids of the special tokens such as [CLS], int64[n]."""
        added = self._tokenizer.get_added_tokens_decoder().items()
        return np.array(sorted(id_ for id_, token in added if token.special), dtype=np.int64)

    def read(self, texts: Sequence[str]) -> Reading:
        """Turn texts into token ids, each cut to the limit; raise RowError for what is no text."""
        encodings = self._encode(checked_texts(texts))
        ids = tuple(np.array(encoding.ids, dtype=np.int64) for encoding in encodings)
        lost = [_lost(encoding) for encoding in encodings]
        return Reading(
            ids=ids,
            lengths=np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)),
            truncated_rows=sum(count > 0 for count in lost),
            truncated_tokens=sum(lost),
        )

    def positions(self, mask: Ints) -> Ints:
        """
        Count the tokens of each row, for graphs that want to be told.

        mask     int64[batch, seq], 1 on real tokens
        returns  int64[batch, seq], the position before the first on padding, but never below zero

        Models that keep a position for padding, such as RoBERTa, count from the one after it.
        """
        counted: Ints = mask.cumsum(axis=1)
        positions: Ints = np.maximum(counted * mask + (self.first_position - 1), 0)
        return positions

    def pieces(self, texts: Sequence[str]) -> list[tuple[Ints, int]]:
        """
        Turn texts into token ids without special tokens, to be put together by the caller.

        returns  for each text int64[n_tokens], cut to the limit, and the tokens it has uncut (a
                 lower bound where a very long text was read in part)
        """
        encodings = self._encode(texts, special_tokens=False)
        return [
            (np.array(encoding.ids, dtype=np.int64), len(encoding) + _lost(encoding))
            for encoding in encodings
        ]

    def id_of(self, token: str) -> int | None:
        """Give the id of a token as it stands in the vocabulary; None where it does not."""
        return self._tokenizer.token_to_id(token)

    def pair_example(self) -> Encoding:
        """Read two texts as a pair, to see which special tokens stand around them."""
        return self._tokenizer.encode("a", "a")

    @property
    def n_special_of_pair(self) -> int:
        """Count the special tokens that stand around two texts in one row."""
        return self._tokenizer.num_special_tokens_to_add(is_pair=True)

    def untruncated(self) -> Tokenizer:
        """Give a copy of the tokenizer that reads a text whole, for who measures texts."""
        copy: Tokenizer = type(self._tokenizer).from_str(self._tokenizer.to_str())
        copy.no_truncation()
        return copy

    def padded(self) -> Tokenizer:
        """Give a copy of the tokenizer that cuts as this one does, and pads to the longest text."""
        copy = self.untruncated()
        copy.enable_truncation(self.limit, direction="right" if self.cuts_right else "left")
        copy.enable_padding(
            direction="left" if self.pad_left else "right",
            pad_id=self.pad_id,
            pad_token=copy.id_to_token(self.pad_id) or "[PAD]",
        )
        return copy

    @property
    def cuts_right(self) -> bool:
        """Tell whether a text that is too long loses its end, and not its beginning."""
        return bool(self._right_truncation)

    def _encode(self, texts: Sequence[str], *, special_tokens: bool = True) -> list[Encoding]:
        most = 2 * _PREFIX_CHARS_PER_TOKEN * self.limit

        def encode(texts: list[str]) -> list[Encoding]:
            encodings: list[Encoding] = []
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                with native_call():
                    encodings += self._tokenizer.encode_batch_fast(
                        texts[start : start + _TEXTS_AT_ONCE], add_special_tokens=special_tokens
                    )
            return encodings

        if not self._right_truncation or all(len(text) <= most for text in texts):
            return encode(list(texts))
        encoded = iter(encode([text for text in texts if len(text) <= most]))
        return [next(encoded) if len(t) <= most else self._encode_long(t, encode) for t in texts]

    def _encode_long(self, text: str, encode: Callable[[list[str]], list[Encoding]]) -> Encoding:
        """
        Read only as much of a very long text as the limit can use.

        A part ends at white space and is enough once it holds twice the limit in tokens: where
        it was cut can then only change tokens that are dropped anyway. Megabytes of text so cost
        no more than pages. A text without white space is read whole, since a tokenizer may judge
        a word by its very end.
        """
        for part in _growing_parts(text, _PREFIX_CHARS_PER_TOKEN * self.limit):
            [encoding] = encode([part])
            if _lost(encoding) >= self.limit:
                break
        return encoding


def _growing_parts(text: str, n_chars: int) -> Iterator[str]:
    """Give prefixes that end before white space, each twice as long, the whole text last."""
    while n_chars < len(text):
        end = max(text.rfind(" ", 0, n_chars), text.rfind("\n", 0, n_chars))
        if end > 0:
            yield text[:end]
        n_chars *= 2
    yield text


def _lost(encoding: Encoding) -> int:
    """Count the tokens of a text that its limit cut off."""
    overflowing = encoding.overflowing
    if not overflowing:
        return 0
    return sum(len(part.ids) - sum(part.special_tokens_mask) for part in overflowing)


def _require(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        here = ", ".join(sorted(entry.name for entry in folder.iterdir())[:12]) or "nothing"
        msg = (
            f"No {name} in model folder {folder} (it has: {here}). "
            "A text model needs tokenizer.json and tokenizer_config.json beside its graph."
        )
        raise ModelFilesError(msg)
    return path


def _json(path: Path) -> dict[str, Any]:
    """Read an object from a file; an absent file says nothing."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is not JSON: {error}. Fetch the model again."
        raise ModelFilesError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path} should hold a JSON object; it holds {type(value).__name__}."
        raise ModelFilesError(msg)
    return value


def _limit(
    config: dict[str, Any],
    positions: Positions,
    model: Model,
    folder: Path,
    max_tokens: int | None,
    *,
    added: int,
) -> int:
    most = None if positions.n is None else positions.n - added
    if max_tokens is not None:
        if not is_count(max_tokens) or (most is not None and max_tokens > most):
            msg = (
                f"max_tokens={max_tokens!r} for {model.name!r}: expected 1 to {most or 'any'}, the "
                "positions that the model has for tokens."
            )
            raise SettingError(msg)
        return max_tokens
    limits = [stated(config.get(key)) for key in ("model_max_length", "max_length")]
    limit = min((value for value in limits if value is not None), default=model.max_tokens)
    if limit is None:
        msg = (
            f"How long may a text be for {model.name!r}? {folder / 'tokenizer_config.json'} has no "
            "usable model_max_length or max_length. Pass max_tokens=."
        )
        raise ModelFilesError(msg)
    # Models of pages compute positions, and a page needs as many tokens as it has patches.
    has_pages = model.kind == LATE_MULTIMODAL
    if most is not None and limit > most and positions.is_a_table and not has_pages:
        _LOG.warning(
            "%s: tokenizer_config.json allows texts of %d tokens, but the model has positions for "
            "%d (config.json): longer texts are cut there.",
            model.name,
            limit,
            most,
        )
        return most
    if model.max_tokens is not None and limit != model.max_tokens:
        _LOG.info(
            "%s: texts are cut at %d tokens (tokenizer_config.json); its card says %d. "
            "Pass max_tokens=%d to change it; vectors of longer texts then change too.",
            model.name,
            limit,
            model.max_tokens,
            model.max_tokens,
        )
    return limit


def _leaves_room(tokenizer: Tokenizer, limit: int, model: Model) -> None:
    n_special = tokenizer.num_special_tokens_to_add(is_pair=False)
    if limit <= n_special:
        msg = (
            f"A limit of {limit} tokens for {model.name!r} leaves no room for text: each row has "
            f"{n_special} special tokens. Pass max_tokens= of {n_special + 1} or more."
        )
        raise SettingError(msg)


def _add_special_tokens(tokenizer: Tokenizer, declared: dict[str, Any]) -> None:
    """Register special tokens that the map names and `tokenizer.json` may lack."""
    from tokenizers import AddedToken

    for value in declared.values():
        for token in value if isinstance(value, list) else [value]:
            if isinstance(token, (str, dict)):
                added = AddedToken(**token) if isinstance(token, dict) else token
                tokenizer.add_special_tokens([added])


def _pad_id(
    tokenizer: Tokenizer,
    shipped: dict[str, Any],
    config: dict[str, Any],
    model_config: dict[str, Any],
    folder: Path,
) -> int:
    token = shipped.get("pad_token") or config.get("pad_token")
    if isinstance(token, dict):
        token = token.get("content")
    vocabulary_id = tokenizer.token_to_id(token) if isinstance(token, str) else None
    for candidate in (shipped.get("pad_id"), model_config.get("pad_token_id"), vocabulary_id):
        if isinstance(candidate, int):
            return candidate
    msg = f"No pad token in {folder}: set pad_token in tokenizer_config.json."
    raise ModelFilesError(msg)
