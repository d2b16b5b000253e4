"""fastembed's class for dense text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from typing_extensions import override

from fastembed_stream.embedder import Embedder
from fastembed_stream.errors import SettingError
from fastembed_stream.families.dense_text import DenseText, DenseTextFamily
from fastembed_stream.fastembed_api.descriptions import ModelSource, PoolingType
from fastembed_stream.fastembed_api.drop_in import listed
from fastembed_stream.fastembed_api.texts import TextDropIn
from fastembed_stream.fastembed_api.unused import pass_over
from fastembed_stream.kinds import DENSE_TEXT
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.values import Floats

__all__ = ["JinaEmbedding", "TextEmbedding"]


class TextEmbedding(TextDropIn[Floats]):
    """
    Dense vectors for texts.

    >>> model = TextEmbedding("fastembed-stream/all-MiniLM-L6-v2-int8")
    >>> [vector.shape for vector in model.embed(["one text", "another"])]
    [(384,), (384,)]
    """

    _kind: ClassVar = DENSE_TEXT
    _default_model: ClassVar = "BAAI/bge-small-en-v1.5"

    @override
    def embed(
        self,
        documents: str | Iterable[str],
        batch_size: int = 256,
        parallel: int | None = None,
        *,
        task_id: int | None = None,
        **kwargs: object,
    ) -> Iterator[Floats]:
        """
        Give one vector for each text, in order, as they are ready.

        documents   one text, or any iterable of them, read lazily
        batch_size  texts that are sorted and packed together
        parallel    accepted; lanes use all cores anyway
        task_id     for models that take a task
        kwargs      accepted, with a warning: nothing here takes them
        yields      float32[dim]
        """
        del parallel
        pass_over(f"{type(self).__name__}.embed", kwargs)
        task = self._task if task_id is None else task_id
        return self._streamed(lambda: self._for_task(task), listed(documents), batch_size)

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
        how = PoolingType(pooling).pooling
        cls._add(
            model,
            DenseText(pooling=how, normalize=normalization, output=output_name or 0),
            sources,
            dim=dim,
            model_file=model_file,
            description=description,
            license=license,
            size_in_gb=size_in_gb,
            additional_files=additional_files,
        )

    def _for_task(self, task: int | None) -> Embedder[str, Floats]:
        documents = self._opened().documents
        if task is None:
            return documents
        match documents:
            case OnnxEmbedder(family=DenseTextFamily() as family):
                return documents.with_family(family.for_task(task))
            case _:
                msg = f"No task {task!r}; {self._model.name} has none."
                raise SettingError(msg)


class JinaEmbedding(TextEmbedding):
    """`TextEmbedding` with another default, from fastembed's older days."""

    _default_model: ClassVar = "jinaai/jina-embeddings-v2-base-en"
