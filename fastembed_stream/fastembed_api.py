"""
`fastembed`'s classes, by its names: change the import and keep the rest.

The numbers are the same. `batch_size` is how many texts are sorted and packed together, not how
many run at once: memory is bounded by tokens. `parallel` is accepted and needs nothing, since
lanes use all cores (and all `device_ids`) of this process.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fastembed_stream import catalog
from fastembed_stream.catalog import dense_text
from fastembed_stream.embedder import Embedder
from fastembed_stream.errors import SettingError, UnknownModelError
from fastembed_stream.families.dense_text import DenseTextFamily
from fastembed_stream.files import Fetching, locate
from fastembed_stream.model import DenseText, HubRepository, Model, StaticText, Tarball
from fastembed_stream.opening import open_model
from fastembed_stream.session import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastembed_stream.model import Pooling, Source
    from fastembed_stream.opening import TextEmbedder
    from fastembed_stream.session import Device as RuntimeDevice
    from fastembed_stream.values import Floats

__all__ = ["Device", "ModelSource", "PoolingType", "TextEmbedding"]

OnnxProvider: TypeAlias = "str | tuple[str, dict[str, object]]"


class Device(str, Enum):
    """Where to run: fastembed's names."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


class PoolingType(str, Enum):
    """How token vectors become one: fastembed's names."""

    CLS = "CLS"
    MEAN = "MEAN"
    LAST_TOKEN = "LAST_TOKEN"  # noqa: S105  not a secret
    DISABLED = "DISABLED"

    @property
    def pooling(self) -> Pooling:
        """Give this project's name for it."""
        return _POOLINGS[self]


_POOLINGS: dict[PoolingType, Pooling] = {
    PoolingType.CLS: "cls",
    PoolingType.MEAN: "mean",
    PoolingType.LAST_TOKEN: "last_token",
    PoolingType.DISABLED: "none",
}


@dataclass(frozen=True)
class ModelSource:
    """Where a model is: a hub repository, or the URL of a tarball."""

    hf: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if self.hf is None and self.url is None:
            msg = "ModelSource needs `hf` (a hub repository) or `url` (a tarball); got neither."
            raise SettingError(msg)

    @property
    def source(self) -> Source:
        """Give it as a model row has it."""
        if self.hf is not None:
            return HubRepository(repo=self.hf)
        assert self.url is not None  # noqa: S101  checked at birth
        return Tarball(url=self.url)


class TextEmbedding:
    """
    Dense vectors for texts.

    >>> model = TextEmbedding("fastembed-stream/all-MiniLM-L6-v2-int8")
    >>> [vector.shape for vector in model.embed(["one text", "another"])]
    [(384,), (384,)]
    """

    def __init__(  # noqa: PLR0917  fastembed's signature
        self,
        model_name: str = "BAAI/bge-small-en-v1.5",
        cache_dir: str | None = None,
        threads: int | None = None,
        providers: Sequence[OnnxProvider] | None = None,
        cuda: bool | Device = Device.AUTO,  # noqa: FBT001  fastembed's signature
        device_ids: list[int] | None = None,
        lazy_load: bool = False,  # noqa: FBT001, FBT002  fastembed's signature
        *,
        local_files_only: bool = False,
        specific_model_path: str | None = None,
        enable_cpu_mem_arena: bool | None = None,
        task_id: int | None = None,
        max_tokens: int | None = None,
        prompts: bool = False,
        runtime: Runtime | None = None,
    ) -> None:
        """
        Describe the model, and open it unless told to wait.

        model_name            a name of `list_supported_models()`, case aside
        cache_dir             where fetched files are kept; default: FASTEMBED_CACHE_PATH, the
                              hub's cache, or the user's cache folder
        threads               CPU threads altogether; default: all cores of this process
        providers             ONNX Runtime's execution providers, instead of `cuda`, `device_ids`
        cuda                  True fails where CUDA does not become active; AUTO falls back
        device_ids            GPUs to spread the work over
        lazy_load             open the model at the first call
        local_files_only      never fetch
        specific_model_path   a folder with the model's files
        enable_cpu_mem_arena  ONNX Runtime's session option
        task_id               default task of models that take one
        max_tokens            another limit than tokenizer_config.json states
        prompts               put the model's query and passage prompts before texts in
                              `query_embed` and `passage_embed`; fastembed never does
        runtime               all that `Runtime` can say, instead of the arguments above
        raises                UnknownModelError, SettingError, ModelFilesError, DeviceError
        """
        self._model = catalog.find(model_name)
        self.model_name = model_name
        self.cache_dir = cache_dir
        self.threads = threads
        self.device_ids = device_ids
        self.lazy_load = lazy_load
        self._task = task_id
        self._prompts = prompts
        self._runtime = runtime or _runtime(threads, providers, cuda, device_ids)
        if enable_cpu_mem_arena is not None:
            arena = ("enable_cpu_mem_arena", str(int(enable_cpu_mem_arena)))
            self._runtime = replace(
                self._runtime, session_options=(*self._runtime.session_options, arena)
            )
        self._max_tokens = max_tokens
        # As in fastembed, files are fetched now even when the graph is opened later.
        self._folder = locate(
            self._model,
            folder=Path(specific_model_path) if specific_model_path else None,
            fetching=Fetching(
                cache_dir=Path(cache_dir) if cache_dir else None, offline=local_files_only
            ),
        )
        self._embedder: TextEmbedder | None = None
        if not lazy_load:
            self._opened()

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
        if batch_size < 1:
            msg = f"batch_size must be at least 1; got {batch_size}."
            raise SettingError(msg)
        return self._stream(documents, batch_size, task_id if task_id is not None else self._task)

    def query_embed(
        self, query: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[Floats]:
        """Embed queries, with the query task where the model has tasks."""
        del parallel
        texts = self._prompted(query, self._model.query_prompt)
        return self._stream(texts, batch_size, _task_of(self._model, query=True))

    def passage_embed(
        self, texts: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[Floats]:
        """Embed passages, with the passage task where the model has tasks."""
        del parallel
        passages = self._prompted(texts, self._model.passage_prompt)
        return self._stream(passages, batch_size, _task_of(self._model, query=False))

    def token_count(self, texts: str | Iterable[str], batch_size: int = 1024) -> int:
        """Count the tokens that would be run, special tokens included, after truncation."""
        if batch_size < 1:
            msg = f"batch_size must be at least 1; got {batch_size}."
            raise SettingError(msg)
        embedder = self._opened()
        reader = embedder.family if isinstance(embedder, Embedder) else embedder
        return sum(
            int(reader.read(chunk).lengths.sum()) for chunk in _chunks(_listed(texts), batch_size)
        )

    @property
    def embedding_size(self) -> int:
        """Length of one vector."""
        return self._model.dim

    @classmethod
    def get_embedding_size(cls, model_name: str) -> int:
        """Length of one vector of a model by name; UnknownModelError where there is none."""
        return catalog.find(model_name).dim

    @classmethod
    def list_supported_models(cls) -> list[dict[str, Any]]:
        """List the models as fastembed describes them."""
        return [_description(model) for model in catalog.models()]

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
        row = Model(
            name=model,
            dim=dim,
            source=sources.source,
            model_file=model_file,
            recipe=DenseText(
                pooling=PoolingType(pooling).pooling,
                normalize=normalization,
                output=output_name or 0,
            ),
            other_files=tuple(additional_files or ()),
            description=description,
            license=license,
            size_gb=size_in_gb,
        )
        try:
            known = catalog.find(model)
        except UnknownModelError:
            catalog.add(row)
            return
        if known not in dense_text.MODELS or not _same_vectors(known, row):
            msg = f"Model {model!r} is already registered; choose another name."
            raise SettingError(msg)

    def _opened(self) -> TextEmbedder:
        if self._embedder is None:
            self._embedder = open_model(
                self._model, folder=self._folder, runtime=self._runtime, max_tokens=self._max_tokens
            )
        return self._embedder

    def _stream(
        self, texts: str | Iterable[str], window: int, task: int | None
    ) -> Iterator[Floats]:
        embedder = self._opened()
        if task is not None and isinstance(embedder, Embedder):
            family = embedder.family
            assert isinstance(family, DenseTextFamily)  # noqa: S101  only dense rows get here
            embedder = embedder.with_family(family.for_task(task))
        yield from embedder.stream(_listed(texts), window=window)

    def _prompted(self, texts: str | Iterable[str], prompt: str) -> Iterable[str]:
        return (prompt + text for text in _listed(texts)) if self._prompts else _listed(texts)


def _same_vectors(one: Model, other: Model) -> bool:
    return (one.source, one.files, one.recipe, one.dim) == (
        other.source,
        other.files,
        other.recipe,
        other.dim,
    )


def _listed(texts: str | Iterable[str]) -> Iterable[str]:
    return [texts] if isinstance(texts, str) else texts


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    from itertools import islice

    source = iter(texts)
    while chunk := list(islice(source, size)):
        yield chunk


def _task_of(model: Model, *, query: bool) -> int | None:
    match model.recipe:
        case DenseText(tasks=tasks, query_task=for_query, passage_task=for_passage):
            return dict(tasks).get((for_query if query else for_passage) or "")
        case StaticText():
            return None


def _runtime(
    threads: int | None,
    providers: Sequence[OnnxProvider] | None,
    cuda: bool | Device,  # noqa: FBT001  fastembed's argument
    device_ids: list[int] | None,
) -> Runtime:
    if providers is not None:
        named = [(item, {}) if isinstance(item, str) else item for item in providers]
        return Runtime(
            providers=tuple(
                (name, tuple((key, str(value)) for key, value in options.items()))
                for name, options in named
            ),
            threads=threads,
        )
    devices: dict[object, RuntimeDevice] = {
        True: "cuda",
        False: "cpu",
        Device.CUDA: "cuda",
        Device.CPU: "cpu",
        Device.AUTO: "auto",
    }
    device = devices.get(cuda)
    if device is None:
        msg = f"cuda={cuda!r}: expected True, False, or one of {[d.value for d in Device]}."
        raise SettingError(msg)
    ids = () if device == "cpu" else tuple(device_ids or ())
    return Runtime(device=device, threads=threads, device_ids=ids)


def _description(model: Model) -> dict[str, Any]:
    sources: dict[str, str | None] = {"hf": None, "url": None}
    match model.source:
        case HubRepository(repo=repo):
            sources["hf"] = repo
        case Tarball(url=url):
            sources["url"] = url
        case _:
            pass
    tasks = dict(model.recipe.tasks) if isinstance(model.recipe, DenseText) else {}
    return {
        "model": model.name,
        "sources": sources,
        "model_file": model.model_file,
        "description": model.description,
        "license": model.license,
        "size_in_GB": model.size_gb,
        "additional_files": list(model.other_files),
        "dim": model.dim,
        "tasks": tasks,
        "recipe": asdict(model.recipe),
    }
