"""What all of fastembed's classes share here: one constructor, and how rows are answered."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypedDict, TypeVar

from typing_extensions import Unpack, override

from fastembed_stream import catalog
from fastembed_stream.counts import is_count
from fastembed_stream.embedder import Counts
from fastembed_stream.errors import (
    ModelFilesError,
    RowError,
    SettingError,
    UnknownModelError,
)
from fastembed_stream.fastembed_api.descriptions import (
    BaseModelDescription,
    ModelSource,
    described,
)
from fastembed_stream.fastembed_api.inner import Inner, LentTokenizer
from fastembed_stream.fastembed_api.names import Device, OnnxProvider, runtime_of
from fastembed_stream.fastembed_api.unused import IGNORED, pass_over, warn_outside
from fastembed_stream.files import Fetching, locate
from fastembed_stream.loader import open_model
from fastembed_stream.model import Model, summary
from fastembed_stream.rows import rows_in
from fastembed_stream.threads import ForkSafeLock
from fastembed_stream.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fastembed_stream.embedder import Embedder, OpenModel
    from fastembed_stream.kinds import Kind
    from fastembed_stream.recipe import Recipe
    from fastembed_stream.runtime import Runtime

__all__ = ["Described", "DropIn", "counted", "listed", "prompted", "summed"]

Document = TypeVar("Document")
Query = TypeVar("Query")
Answer = TypeVar("Answer")
Row = TypeVar("Row")

_OPENING = ForkSafeLock()
"""Two threads whose first calls come at once open one model."""


class Described(TypedDict, total=False):
    """What may be told of a model of the user's own, by fastembed's names."""

    description: str
    license: str
    size_in_gb: float
    additional_files: list[str] | None


class DropIn(Generic[Document, Query, Answer]):
    """
    A model behind fastembed's constructor; a class of fastembed adds its methods.

    _kind           what goes in and comes out
    _default_model  which model opens where none is named
    _misspelt       names in lower case that still open, and how they are spelt
    """

    _kind: ClassVar[Kind[Any, Any, Any]]
    _default_model: ClassVar[str] = ""
    _misspelt: ClassVar[Mapping[str, str]] = {}

    def __init__(  # noqa: PLR0917  fastembed's signature
        self,
        model_name: str | None = None,
        cache_dir: str | None = None,
        threads: int | None = None,
        providers: Sequence[OnnxProvider] | None = None,
        cuda: bool | Device = Device.AUTO,  # noqa: FBT001  fastembed's signature
        device_ids: list[int] | None = None,
        lazy_load: bool = False,  # noqa: FBT001, FBT002  fastembed's signature
        *,
        device_id: int | None = None,
        local_files_only: bool = False,
        specific_model_path: str | None = None,
        enable_cpu_mem_arena: bool | None = None,
        mmap: bool = True,
        task_id: int | None = None,
        max_tokens: int | None = None,
        prompts: bool = False,
        runtime: Runtime | None = None,
        **options: object,
    ) -> None:
        """
        Describe the model, and open it unless told to wait.

        model_name            a name of `list_supported_models()`, case aside; only
                              `TextEmbedding` has a default
        cache_dir             where fetched files are kept; default: FASTEMBED_CACHE_PATH, the
                              hub's cache, or the user's cache folder
        threads               CPU threads altogether; default: all cores of this process
        providers             ONNX Runtime's execution providers, instead of `cuda`, `device_ids`
        cuda                  True fails where CUDA does not become active; AUTO falls back
        device_ids            GPUs to spread the work over
        lazy_load             open the model at the first call
        device_id             one GPU, where `device_ids` names none
        local_files_only      never fetch
        specific_model_path   a folder with the model's files
        enable_cpu_mem_arena  ONNX Runtime's session option
        mmap                  accepted and unneeded: static weights are always mapped
        task_id               default task of models that take one
        max_tokens            another limit than tokenizer_config.json states
        prompts               put the model's query and passage prompts before texts in
                              `query_embed` and `passage_embed`; fastembed never does
        runtime               all that `Runtime` can say, instead of the arguments above
        options               what differs from the model's recipe, by the names of its fields,
                              such as k, b, avg_len, language, stemmer and stopwords of BM25; and
                              what fastembed is handed in vain, which warns and does nothing
        raises                UnknownModelError, SettingError, ModelFilesError, DeviceError
        """
        self.model_name = model_name or self._default_model
        if meant := self._misspelt.get(self.model_name.lower()):
            msg = f"{self.model_name} is spelt {meant}; the misspelt name will go."
            warn_outside(msg, DeprecationWarning)
        del mmap
        if device_ids is None and device_id is not None:
            device_ids = [device_id]
        row = catalog.find(self.model_name, self._kind)
        unused = options.keys() & IGNORED.keys() - {each.name for each in fields(row.recipe)}
        pass_over(type(self).__name__, {name: options.pop(name) for name in sorted(unused)})
        self._model = _with(row, options)
        self.cache_dir = cache_dir
        self.threads = threads
        self.device_ids = device_ids
        self.lazy_load = lazy_load
        self._runtime = runtime or runtime_of(
            threads=threads, providers=providers, cuda=cuda, device_ids=device_ids
        )
        if enable_cpu_mem_arena is not None:
            arena = ("enable_cpu_mem_arena", str(int(enable_cpu_mem_arena)))
            self._runtime = replace(
                self._runtime, session_options=(*self._runtime.session_options, arena)
            )
        self._task = task_id
        self._max_tokens = max_tokens
        self._prompts = prompts
        # As in fastembed, files are fetched now even when the graph is opened later.
        self._folder = locate(
            self._model,
            folder=Path(specific_model_path) if specific_model_path else None,
            fetching=Fetching(
                cache_dir=Path(cache_dir) if cache_dir else None, offline=local_files_only
            ),
        )
        self._open: OpenModel[Document, Query, Answer] | None = None
        self._lent: LentTokenizer | None = None
        if not lazy_load:
            self._opened()

    def close(self) -> None:
        """Let go of the model's memory; the next call opens it again."""
        known, self._open = self._open, None
        if known is not None:
            known.close()

    @override
    def __repr__(self) -> str:
        place = "not open yet" if self._open is None else self._open.documents.place
        return f"<{type(self).__name__} {summary(self._model)}, {place}>"

    def __getstate__(self) -> dict[str, Any]:
        """Travel without what is open: it opens again where it lands, at its first call."""
        return self.__dict__ | {"_open": None, "_lent": None}

    @property
    def counts(self) -> Counts:
        """Tell how many documents and tokens were read so far."""
        return Counts() if self._open is None else self._open.counts

    @property
    def model(self) -> Inner:
        """The model behind this class, as fastembed has it: to look at, not to change."""
        return Inner(
            self,
            self._folder,
            described(self._model),
            self._opened,
            lambda: self._open,
            self._lend_tokenizer,
        )

    @property
    def embedding_size(self) -> int:
        """Length of one vector; 0 for sparse vectors and scores, which have none."""
        return self._model.dim

    @classmethod
    def get_embedding_size(cls, model_name: str) -> int:
        """Length of one vector of a model by name; UnknownModelError where there is none."""
        return catalog.find(model_name, cls._kind).dim

    @classmethod
    def list_supported_models(cls) -> list[dict[str, Any]]:
        """List the models as fastembed describes them, with `recipe` and `batch_invariant`."""
        return [
            asdict(described(model))
            | {"recipe": asdict(model.recipe), "batch_invariant": model.batch_invariant}
            for model in catalog.models(cls._kind)
        ]

    @classmethod
    def _list_supported_models(cls) -> list[BaseModelDescription]:
        return [described(model) for model in catalog.models(cls._kind)]

    @classmethod
    def _get_model_description(cls, model_name: str) -> BaseModelDescription:
        return described(catalog.find(model_name, cls._kind))

    @classmethod
    def _add(
        cls,
        name: str,
        recipe: Recipe,
        sources: ModelSource,
        *,
        dim: int = 0,
        model_file: str = "onnx/model.onnx",
        **told: Unpack[Described],
    ) -> None:
        """
        Make a model of the user known by name, for this process.

        A model that ships here and is described alike stays as it is: some ship that fastembed's
        users have to add.

        raises  SettingError if the name is taken, or for a recipe of another kind
        """
        if recipe.kind != cls._kind:
            msg = f"{type(recipe).__name__} makes {recipe.kind.name}, not {cls._kind.name}."
            raise SettingError(msg)
        row = Model(
            name=name,
            dim=dim,
            source=sources.source,
            model_file=model_file,
            recipe=recipe,
            other_files=tuple(told.get("additional_files") or ()),
            description=told.get("description", ""),
            license=told.get("license", ""),
            size_gb=told.get("size_in_gb", 0.0),
        )
        try:
            known = catalog.find(name, row.kind)
        except UnknownModelError:
            catalog.add(row)
            return
        if not catalog.is_shipped(known) or not _same_answers(known, row):
            msg = f"Model {name} is already registered in {cls.__name__}; choose another name."
            raise SettingError(msg)

    def _opened(self) -> OpenModel[Document, Query, Answer]:
        if (known := self._open) is not None:
            return known
        with _OPENING:
            known = self._open  # another thread may have opened it, or close it by now
            if known is None:
                self._open = known = open_model(
                    self._model,
                    self._kind,
                    folder=self._folder,
                    runtime=self._runtime,
                    max_tokens=self._max_tokens,
                )
            return known

    def _lend_tokenizer(self) -> LentTokenizer | None:
        if self._lent is None:
            try:
                tokens = Tokens.open(self._folder, self._model, max_tokens=self._max_tokens)
            except ModelFilesError:  # no texts, or no limit: fastembed's has no tokenizer either
                return None
            tokenizer = tokens.padded()
            self._lent = LentTokenizer(tokenizer, tokenizer.truncation)
        return self._lent

    def _documents(self, rows: Iterable[Document], window: int) -> Iterator[Answer]:
        """Answer documents as they are ready, in order."""
        return self._streamed(lambda: self._opened().documents, rows, window)

    def _queries(self, rows: Iterable[Query], window: int) -> Iterator[Answer]:
        """Answer queries as they are ready, in order."""
        return self._streamed(lambda: self._opened().queries, rows, window)

    def _streamed(
        self, embeds: Callable[[], Embedder[Row, Answer]], rows: Iterable[Row], batch_size: int
    ) -> Iterator[Answer]:
        """
        Answer rows in order as they are ready; a wrong size fails now, a model opens at the first.

        batch_size  rows that are sorted and packed together
        """

        def answers() -> Iterator[Answer]:
            yield from embeds().stream(rows, window=batch_size)

        _check_batch_size(batch_size)
        if self._lent is not None:
            self._lent.tell_changes(self.model_name)
        return answers()


def counted(embeds: Embedder[Row, Answer], rows: Iterable[Row], batch_size: int) -> int:
    """Count the tokens that would be run, `batch_size` rows at a time."""
    return summed(embeds.count_tokens, rows, batch_size)


def summed(count: Callable[[list[Row]], int], rows: Iterable[Row], batch_size: int) -> int:
    """Add up what is counted of `batch_size` rows at a time."""
    _check_batch_size(batch_size)
    source, n_tokens, n_before = rows_in(rows), 0, 0
    while chunk := list(islice(source, batch_size)):
        try:
            n_tokens += count(chunk)
        except RowError as error:
            raise error.after(n_before) from error.__cause__
        n_before += len(chunk)
    return n_tokens


def listed(rows: str | Iterable[str]) -> Iterable[str]:
    """Take one text as a list of one."""
    return [rows] if isinstance(rows, str) else rows


def prompted(rows: str | Iterable[str], prompt: str) -> Iterable[str]:
    """Put a prompt before texts; what is no text stays as it is, to be refused by its position."""
    texts: Iterator[Any] = rows_in(listed(rows))
    return (prompt + text if isinstance(text, str) else text for text in texts)


def _check_batch_size(batch_size: int) -> None:
    if not is_count(batch_size):
        msg = f"batch_size must be at least 1; got {batch_size!r}."
        raise SettingError(msg)


def _with(model: Model, changes: dict[str, Any]) -> Model:
    """Change a model's recipe by the names of its fields."""
    known = {each.name: each for each in fields(model.recipe)}
    for name in changes:
        if name not in known:
            arguments = [*_arguments(), *known]
            near = get_close_matches(name, arguments, n=3)
            meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            msg = (
                f"{model.name} ({type(model.recipe).__name__}) has no option {name!r}; it has "
                f"{', '.join(known) or 'none'}.{meant} Arguments for every model: "
                f"{', '.join(_arguments())}."
            )
            raise SettingError(msg)
    if not changes:
        return model
    return replace(model, recipe=replace(model.recipe, **changes))


def _arguments() -> list[str]:
    """Name what the constructor takes whatever the model."""
    taken = signature(DropIn.__init__).parameters.values()
    return [each.name for each in taken if each.name != "self" and each.kind != each.VAR_KEYWORD]


def _same_answers(one: Model, other: Model) -> bool:
    return (one.source, one.files, one.recipe, one.dim) == (
        other.source,
        other.files,
        other.recipe,
        other.dim,
    )
