"""fastembed's class for dense text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from fastembed_stream.embedder import Embedder
from fastembed_stream.errors import SettingError
from fastembed_stream.families.dense_text import DenseTextFamily
from fastembed_stream.fastembed_api.drop_in import DropIn, counted, listed, prompted, streamed
from fastembed_stream.fastembed_api.names import ModelSource, PoolingType
from fastembed_stream.opened import Embeds
from fastembed_stream.recipes import DENSE_TEXT, DenseText
from fastembed_stream.values import Floats

__all__ = ["TextEmbedding"]


class TextEmbedding(DropIn[str, str, Floats]):
    """
    Dense vectors for texts.

    >>> model = TextEmbedding("fastembed-stream/all-MiniLM-L6-v2-int8")
    >>> [vector.shape for vector in model.embed(["one text", "another"])]
    [(384,), (384,)]
    """

    _kind: ClassVar = DENSE_TEXT
    _default_model: ClassVar = "BAAI/bge-small-en-v1.5"

    def embed(
        self,
        documents: str | Iterable[str],
        batch_size: int = 256,
        parallel: int | None = None,
        *,
        task_id: int | None = None,
    ) -> Iterator[Floats]:
        """
        Give one vector for each text, in order, as they are ready.

        documents   one text, or any iterable of them, read lazily
        batch_size  texts that are sorted and packed together
        parallel    accepted; lanes use all cores anyway
        task_id     for models that take a task
        yields      float32[dim]
        """
        del parallel
        task = self._task if task_id is None else task_id
        return streamed(lambda: self._for_task(task), listed(documents), batch_size)

    def query_embed(
        self, query: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[Floats]:
        """Embed queries, with the query task where the model has tasks."""
        del parallel
        return self._queries(self._prompted(query, self._model.query_prompt), batch_size)

    def passage_embed(
        self, texts: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[Floats]:
        """Embed passages, with the passage task where the model has tasks."""
        del parallel
        return self._documents(self._prompted(texts, self._model.passage_prompt), batch_size)

    def token_count(self, texts: str | Iterable[str], batch_size: int = 1024) -> int:
        """Count the tokens that would be run, special tokens included, after truncation."""
        return counted(self._opened().documents, listed(texts), batch_size)

    @classmethod
    def add_custom_model(  # noqa: PLR0917  fastembed's signature
        cls,
        model: str,
        pooling: PoolingType,
        normalization: bool,  # noqa: FBT001  fastembed's signature
        sources: ModelSource,
        dim: int,
        model_file: str = "onnx/model.onnx",
        description: str = "",
        license: str = "",  # noqa: A002  fastembed's signature
        size_in_gb: float = 0.0,
        additional_files: list[str] | None = None,
        output_name: str | None = None,
    ) -> None:
        """
        Make a model of your own known by name, for this process.

        A model that ships here and is described alike stays as it is: some ship that fastembed's
        users have to add.

        raises  SettingError if the name is taken
        """
        recipe = DenseText(
            pooling=PoolingType(pooling).pooling,
            normalize=normalization,
            output=output_name or 0,
        )
        cls._add(
            model,
            recipe,
            sources,
            dim=dim,
            model_file=model_file,
            description=description,
            license=license,
            size_in_gb=size_in_gb,
            additional_files=additional_files,
        )

    def _for_task(self, task: int | None) -> Embeds[str, Floats]:
        documents = self._opened().documents
        if task is None:
            return documents
        match documents:
            case Embedder(family=DenseTextFamily() as family):
                return documents.with_family(family.for_task(task))
            case _:
                msg = f"No task {task!r}; {self._model.name} has none."
                raise SettingError(msg)

    def _prompted(self, texts: str | Iterable[str], prompt: str) -> Iterable[str]:
        return prompted(texts, prompt) if self._prompts else listed(texts)
