"""
A model is a row: what it is called, where its files are, and the recipe that turns them to use.

Two models that differ by data differ here, never by a class. A user's own model is one more
`Model`, handed to the same functions as a row of the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from typing_extensions import override

from fastembed_stream.counts import is_count
from fastembed_stream.errors import SettingError
from fastembed_stream.kinds import CROSS_ENCODER, SPARSE_TEXT, Kind
from fastembed_stream.recipe import Recipe
from fastembed_stream.redaction import shown_url

__all__ = [
    "HubRepository",
    "InstalledPackage",
    "LocalFolder",
    "Model",
    "PackageData",
    "Source",
    "Tarball",
    "summary",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRepository:
    """
    A repository of the Hugging Face hub.

    repo      'organization/name'
    revision  a commit hash, tag or branch; None follows the main branch
    """

    repo: str
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tarball:
    """A .tar.gz on a web server that unpacks to one model folder; its SHA-256 where it is known."""

    url: str
    sha256: str | None = None

    @override
    def __repr__(self) -> str:
        return f"Tarball(url={shown_url(self.url)!r}, sha256={self.sha256!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFolder:
    """A folder that is already here, laid out like a hub repository."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledPackage:
    """
    An ONNX file inside an installed Python package, with a tokenizer that ships with this one.

    package    import name of the package that holds the file
    extra      the optional dependency that installs it
    sha256     of the ONNX file, hexadecimal
    tokenizer  name of a tokenizer in `fastembed_stream/data`
    """

    package: str
    extra: str
    sha256: str
    tokenizer: Literal["bert-base-uncased"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageData:
    """Files that come with this package, in a folder of `fastembed_stream/data`: no fetching."""

    folder: Literal["stop_words"]


Source: TypeAlias = HubRepository | Tarball | LocalFolder | InstalledPackage | PackageData


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """
    One model of any family.

    name            'organization/name', unique among the models of its kind, compared without case
    dim             length of one vector; 0 for sparse vectors and scores, which have none
    source          where the files are
    model_file      the graph (or the weights) inside the source; empty where there is none
    recipe          the family, and its parameters
    other_files     further files that the graph needs, such as external data
    max_tokens      the limit that the model card states, special tokens included; None if it
                    states none. The tokenizer's own limit holds unless `open_model` is told.
    query_prompt    put before a query on request
    passage_prompt  put before a document on request
    license         SPDX identifier, or the card's own word
    size_gb         download size in GB
    batch_invariant False where a row's vector may depend on its batch mates (dynamically
                    quantized activations)
    """

    name: str
    source: Source
    model_file: str
    recipe: Recipe
    dim: int = 0
    other_files: tuple[str, ...] = ()
    max_tokens: int | None = None
    query_prompt: str = ""
    passage_prompt: str = ""
    description: str = ""
    license: str = ""
    size_gb: float = 0.0
    batch_invariant: bool = True

    def __post_init__(self) -> None:
        if not self.name.strip():
            msg = "A model needs a name such as 'organization/name'; got an empty one."
            raise SettingError(msg)
        smallest = 0 if self.kind in {SPARSE_TEXT, CROSS_ENCODER} else 1
        if not is_count(self.dim, least=smallest):
            msg = f"Model {self.name!r}: `dim` must be at least {smallest}; got {self.dim!r}."
            raise SettingError(msg)
        if self.max_tokens is not None and not is_count(self.max_tokens):
            msg = f"Model {self.name!r}: `max_tokens` must be at least 1; got {self.max_tokens!r}."
            raise SettingError(msg)

    @property
    def kind(self) -> Kind[object, object, object]:
        """Tell what goes in and comes out."""
        return self.recipe.kind

    @property
    def files(self) -> tuple[str, ...]:
        """The graph and all that it needs, as paths inside the source."""
        named = (self.model_file, *self.other_files, *self.recipe.files)
        return tuple(dict.fromkeys(name for name in named if name))


def summary(model: Model) -> str:
    """Say what a model is: its name, its kind and family, and the length of its vectors."""
    family = f"{model.kind.name} ({type(model.recipe).__name__})"
    return f"{model.name}: {family}" + (f", {model.dim} dimensions" if model.dim else "")
