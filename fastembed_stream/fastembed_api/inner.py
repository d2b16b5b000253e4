"""What fastembed keeps under `.model`, for code that looks there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastembed_stream.embedder import OpenModel
from fastembed_stream.fastembed_api.unused import warn_outside
from fastembed_stream.onnx_embedder import OnnxEmbedder

if TYPE_CHECKING:
    import onnxruntime
    from tokenizers import Tokenizer

    from fastembed_stream.fastembed_api.descriptions import BaseModelDescription

__all__ = ["Inner", "LentTokenizer"]


@dataclass(slots=True)
class LentTokenizer:
    """A copy of a model's tokenizer, and how it cut texts when that was last looked at."""

    tokenizer: Tokenizer
    truncation: dict[str, Any] | None

    def tell_changes(self, model: str) -> None:
        """Warn that a limit set on the copy cuts no text of the model, and say what does."""
        now = self.tokenizer.truncation
        if now is not None and now != self.truncation:
            msg = (
                f"`.model.tokenizer` of {model} is a copy: enable_truncation on it cuts no text "
                f"here. Pass max_tokens={now['max_length']} to the constructor instead."
            )
            warn_outside(msg)
        self.truncation = now


@dataclass(frozen=True, repr=False)  # slots would make its refusal a TypeError
class Inner:
    """
    The model behind a class of fastembed, to look at and not to change.

    What is not here is asked of the class's object: its methods, its name, its folders.

    load_onnx_model  opens the model now, where `lazy_load` left that for later
    """

    _outer: object
    _model_dir: Path
    model_description: BaseModelDescription
    load_onnx_model: Callable[[], object]
    _opened: Callable[[], OpenModel[Any, Any, Any] | None]
    _lent: Callable[[], LentTokenizer | None]

    @property
    def model(self) -> onnxruntime.InferenceSession:
        """ONNX Runtime's session; absent before the model is open, and where no graph runs."""
        match self._opened():
            case OpenModel(documents=OnnxEmbedder() as embedder):
                return embedder.sessions[0].bound
            case _:
                raise AttributeError  # `__getattr__` says why

    @property
    def tokenizer(self) -> Tokenizer:
        """A copy of the tokenizer; absent before the model is open, and where there is none."""
        if self._opened() is None or (lent := self._lent()) is None:
            raise AttributeError  # `__getattr__` says why
        return lent.tokenizer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  as wide as the classes together
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in {"model", "tokenizer"}:
            return getattr(self._outer, name)
        state = "before its first use" if self._opened() is None else "at all"
        msg = f"{self.model_description.model} has no `.model.{name}` {state}."
        raise AttributeError(msg)
