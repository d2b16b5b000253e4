"""fastembed's class for late interaction over text."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from typing_extensions import Unpack, override

from fastembed_stream.families.colbert import Colbert, ColbertFamily
from fastembed_stream.families.token_embeddings import TokenEmbeddings
from fastembed_stream.fastembed_api.descriptions import ModelSource
from fastembed_stream.fastembed_api.drop_in import Described, counted, listed, summed
from fastembed_stream.fastembed_api.texts import TextDropIn
from fastembed_stream.fastembed_api.unused import pass_over
from fastembed_stream.kinds import LATE_TEXT
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.values import Floats

__all__ = ["LateInteractionTextEmbedding"]


class LateInteractionTextEmbedding(TextDropIn[Floats]):
    """A vector for each token of texts; those of queries have their fill of masks too."""

    _kind: ClassVar = LATE_TEXT

    @override
    def token_count(
        self,
        texts: str | Iterable[str],
        batch_size: int = 1024,
        is_doc: bool = True,
        include_extension: bool = False,
        **kwargs: object,
    ) -> int:
        """
        Count the tokens, special tokens included, after truncation.

        texts              one text, or any iterable of them
        batch_size         texts that are read together
        is_doc             whether they are documents, and not queries
        include_extension  whether markers, and the masks that fill queries, count too
        kwargs             accepted, with a warning: nothing here takes them
        """
        pass_over(f"{type(self).__name__}.token_count", kwargs)
        opened = self._opened()
        match opened.documents if is_doc else opened.queries:
            case OnnxEmbedder(family=ColbertFamily() as family):
                count = partial(family.count, include_extension=include_extension)
                return summed(count, listed(texts), batch_size)
            case embeds:
                return counted(embeds, listed(texts), batch_size)

    @classmethod
    def add_custom_model(
        cls,
        model: str,
        recipe: Colbert | TokenEmbeddings,
        sources: ModelSource,
        dim: int,
        model_file: str = "onnx/model.onnx",
        **told: Unpack[Described],
    ) -> None:
        """
        Make a model of your own known by name, for this process; fastembed has no such method.

        recipe  markers, lengths and what is skipped: `Colbert`; or `TokenEmbeddings`
        raises  SettingError if the name is taken
        """
        cls._add(model, recipe, sources, dim=dim, model_file=model_file, **told)
