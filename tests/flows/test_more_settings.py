"""What the other flows are told: each setting is read, and what cannot go together is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
from pydantic import SecretStr

from fastembed_stream import SettingError
from flows.settings import PREFIX, HybridSettings, ImageSettings, QuerySettings, TextSettings
from flows.settings.queries import Mode, search_of
from operators import FetchImages, ImageFolderSource, JsonLinesSource, Schema, Web
from operators.retrieval import Fused, Nearest, Rescored

Settings: TypeAlias = type[HybridSettings | ImageSettings | QuerySettings]
Examples: TypeAlias = Mapping[str, tuple[str, object]]

DENSE = "fastembed-stream/all-MiniLM-L6-v2-int8"
LATE = f"{DENSE}-tokens"

# Every setting by another value than its default: as the environment has it, and as it is read.
PROCESS: Examples = {
    "metrics_port": ("9100", 9100),
    "metrics_host": ("::1", "::1"),
    "max_failure_share": ("0.5", 0.5),
    "drain_s": ("3", 3.0),
    "log_level": ("DEBUG", "DEBUG"),
}
ENGINE: Examples = {
    "cache_dir": ("/cache", Path("/cache")),
    "offline": ("1", True),
    "device": ("cpu", "cpu"),
    "device_ids": ("0,1", (0, 1)),
    "threads": ("2", 2),
    "lanes": ("3", 3),
    "token_budget": ("512", 512),
}
INCOMING: Examples = {
    "kafka_brokers": ("a:1,b:2", "a:1,b:2"),
    "kafka_topics": ("docs, more,", ("docs", "more")),
    "kafka_group": ("mine", "mine"),
    "kafka_options": ('{"security.protocol": "SSL"}', {"security.protocol": "SSL"}),
    "kafka_start": ("latest", "latest"),
    "kafka_on_gap": ("continue", "continue"),
    "kafka_isolation": ("read_uncommitted", "read_uncommitted"),
    "kafka_refresh_s": ("2.5", 2.5),
    "max_epoch_records": ("7", 7),
    "max_epoch_bytes": ("8", 8),
    "window_records": ("10", 10),
    "window_tokens": ("11", 11),
    "window_age_s": ("0.5", 0.5),
    "batches_in_flight": ("2", 2),
    "batch_timeout_s": ("50", 50.0),
    "record_attempts": ("7", 7),
    "input_file": ("/in.jsonl", Path("/in.jsonl")),
    "max_line_bytes": ("14", 14),
    "dead_letter_topic": ("dead", "dead"),
    "dead_letter_file": ("/dead.jsonl", Path("/dead.jsonl")),
    "dead_letter_bytes": ("14", 14),
}
QDRANT: Examples = {
    "qdrant_url": ("http://q:6333", "http://q:6333"),
    "qdrant_path": ("/qdrant", Path("/qdrant")),
    "qdrant_api_key": ("secret", SecretStr("secret")),
    "qdrant_grpc": ("yes", True),
    "qdrant_grpc_port": ("1234", 1234),
    "qdrant_timeout_s": ("2.5", 2.5),
    "request_attempts": ("7", 7),
    "collection": ("c", "c"),
}
STORE: Examples = {
    "request_points": ("5", 5),
    "request_bytes": ("6", 6),
    "requests_in_flight": ("1", 1),
    "uuid_key_as_id": ("on", True),
    "output_file": ("/out.jsonl", Path("/out.jsonl")),
}
DOCUMENTS: Examples = {
    "format": ("text", "text"),
    "key_field": ("id", "id"),
    "key_format": ("long", "long"),
    "text_field": ("a.b", "a.b"),
    "payload_fields": ("id,meta.title", ("id", "meta.title")),
    "max_text_bytes": ("9", 9),
}
MODELS: Examples = {
    "dense_model": (DENSE, DENSE),
    "dense_folder": ("/models/dense", Path("/models/dense")),
    "sparse_model": ("prithivida/Splade_PP_en_v1", "prithivida/Splade_PP_en_v1"),
    "sparse_folder": ("/models/sparse", Path("/models/sparse")),
    "late_model": (LATE, LATE),
    "late_folder": ("/models/late", Path("/models/late")),
}
SHARED = {**PROCESS, **ENGINE, **INCOMING, **QDRANT}

ALL: Mapping[Settings, Examples] = {
    HybridSettings: {
        **SHARED,
        **STORE,
        **DOCUMENTS,
        **MODELS,
        "chunk_tokens": ("100", 100),
        "chunk_overlap": ("13", 13),
        "chunk_bytes": ("5000", 5000),
        "muvera": ("off", False),
        "store_late": ("0", False),
        "quantization": ("scalar", "scalar"),
        "on_disk": ("true", True),
    },
    ImageSettings: {
        **SHARED,
        **STORE,
        "input_folder": ("/images", Path("/images")),
        "format": ("json", "json"),
        "key_field": ("id", "id"),
        "key_format": ("long", "long"),
        "image_field": ("a.b", "a.b"),
        "image_as": ("url", "url"),
        "payload_fields": ("id,meta.title", ("id", "meta.title")),
        "max_image_bytes": ("9", 9),
        "image_folders": ("/a, /b", (Path("/a"), Path("/b"))),
        "image_hosts": (
            "img.example.com,.cdn.example.com",
            ("img.example.com", ".cdn.example.com"),
        ),
        "image_ports": ("8443, 9000", (8443, 9000)),
        "image_http": ("true", True),
        "image_private": ("true", True),
        "image_timeout_s": ("1.5", 1.5),
        "model": ("Qdrant/resnet50-onnx", "Qdrant/resnet50-onnx"),
        "model_folder": ("/models/a", Path("/models/a")),
        "distance": ("dot", "dot"),
        "pages_model": ("Qdrant/colpali-v1.3-fp16", "Qdrant/colpali-v1.3-fp16"),
        "pages_folder": ("/models/b", Path("/models/b")),
        "muvera": ("off", False),
    },
    QuerySettings: {
        **SHARED,
        **DOCUMENTS,
        **MODELS,
        "muvera": ("off", False),
        "store_late": ("0", False),
        "search": ("dense", "dense"),
        "fusion": ("dbsf", "dbsf"),
        "limit": ("3", 3),
        "candidates": ("40", 40),
        "rerank_model": ("BAAI/bge-reranker-base", "BAAI/bge-reranker-base"),
        "rerank_folder": ("/models/cross", Path("/models/cross")),
        "rerank_field": ("body", "body"),
        "rerank_candidates": ("20", 20),
        "results_topic": ("results", "results"),
        "results_file": ("/results.jsonl", Path("/results.jsonl")),
    },
}
# No two of a line go together; the first of each is told in the first round, and so on.
EITHER: Mapping[Settings, tuple[tuple[str, ...], ...]] = {
    HybridSettings: (
        ("kafka_topics", "input_file"),
        ("key_format", "input_file"),
        ("qdrant_url", "qdrant_path"),
        ("muvera", "store_late"),
    ),
    ImageSettings: (
        ("kafka_topics", "input_file"),
        ("key_format", "input_file"),
        ("qdrant_url", "qdrant_path"),
    ),
    QuerySettings: (
        ("kafka_topics", "input_file"),
        ("key_format", "input_file"),
        ("qdrant_url", "qdrant_path"),
        ("muvera", "store_late"),
        ("results_topic", "results_file"),
    ),
}
FOLDER_OF_IMAGES = {"input_folder": "/images"}

every_flow = pytest.mark.parametrize("settings", ALL, ids=lambda one: one.__name__)


def told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]
) -> HybridSettings | ImageSettings | QuerySettings:
    for name, value in values.items():
        monkeypatch.setenv(f"{PREFIX}{name}".upper(), value)
    return settings.from_environment()


def refused(settings: Settings, monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    with pytest.raises(SettingError) as caught:
        told(settings, monkeypatch, values)
    return str(caught.value)


@every_flow
@pytest.mark.parametrize("which", [0, 1])
def test_every_setting_comes_from_the_environment(
    settings: Settings, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = ALL[settings]
    assert set(examples) == set(settings.model_fields), "a setting without an example"
    left_out = {name for names in EITHER[settings] for name in names if name != names[which]}
    left_out |= set(FOLDER_OF_IMAGES)
    texts = {name: text for name, (text, _) in examples.items() if name not in left_out}
    read = told(settings, monkeypatch, texts)
    assert {name: getattr(read, name) for name in texts} == {
        name: examples[name][1] for name in texts
    }
    for name in left_out & set(examples):
        assert getattr(read, name) == settings.model_fields[name].default


@every_flow
def test_no_example_is_a_default(settings: Settings) -> None:
    defaults = {name: field.default for name, field in settings.model_fields.items()}
    assert not [name for name, (_, value) in ALL[settings].items() if defaults[name] == value]


@every_flow
def test_every_setting_says_what_it_is(settings: Settings) -> None:
    assert all(field.description for field in settings.model_fields.values())


@every_flow
def test_a_setting_of_one_name_means_the_same_in_every_flow(settings: Settings) -> None:
    own = {
        "format",
        "model",
        "model_folder",
        "distance",
        "payload_fields",
        "muvera",
        "window_records",
    }
    for name, field in settings.model_fields.items():
        other = TextSettings.model_fields.get(name)
        if other is not None and name not in own:
            assert (field.default, field.description) == (other.default, other.description), name


@every_flow
def test_a_misspelt_setting_is_refused_and_the_right_one_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(settings, monkeypatch, colection="c")
    assert "STREAM_COLECTION is unknown; did you mean STREAM_COLLECTION?" in said


def test_a_folder_of_images_is_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = told(ImageSettings, monkeypatch, {"input_folder": str(tmp_path)})
    assert settings.kafka_topics == ()
    assert isinstance(settings.source, ImageFolderSource)


def test_lines_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("{}\n")
    assert isinstance(HybridSettings(input_file=file).source, JsonLinesSource)


WRONG: tuple[tuple[Settings, dict[str, str], str], ...] = (
    (HybridSettings, {}, "STREAM_KAFKA_TOPICS or STREAM_INPUT_FILE is missing"),
    (
        ImageSettings,
        {},
        "STREAM_KAFKA_TOPICS or STREAM_INPUT_FILE or STREAM_INPUT_FOLDER is missing",
    ),
    (
        ImageSettings,
        {"input_file": "a", "input_folder": "b"},
        "STREAM_INPUT_FILE and STREAM_INPUT_FOLDER: both are set",
    ),
    (
        HybridSettings,
        {"qdrant_url": "http://q", "qdrant_path": "/q"},
        "STREAM_QDRANT_URL and STREAM_QDRANT_PATH are both set",
    ),
    (
        HybridSettings,
        {"dense_model": "none", "sparse_model": "none", "late_model": "none"},
        "STREAM_DENSE_MODEL, STREAM_SPARSE_MODEL, STREAM_LATE_MODEL are all none",
    ),
    (
        HybridSettings,
        {"muvera": "off", "store_late": "off"},
        "STREAM_STORE_LATE and STREAM_MUVERA are both off",
    ),
    (
        HybridSettings,
        {"chunk_tokens": "100", "dense_model": "none", "late_model": "none"},
        "STREAM_CHUNK_TOKENS needs a model that counts tokens",
    ),
    (
        HybridSettings,
        {"chunk_overlap": "5"},
        "STREAM_CHUNK_OVERLAP says nothing without STREAM_CHUNK_TOKENS",
    ),
    (ImageSettings, {"model": "none"}, "STREAM_MODEL and STREAM_PAGES_MODEL are both none"),
    (
        ImageSettings,
        {"input_folder": "/images", "format": "json"},
        "STREAM_INPUT_FOLDER has images: STREAM_FORMAT must be bytes",
    ),
    (
        ImageSettings,
        {"input_file": "/in.jsonl"},
        "STREAM_INPUT_FILE has lines: STREAM_FORMAT must be json",
    ),
    (
        ImageSettings,
        {"format": "json", "image_as": "path"},
        "STREAM_IMAGE_FOLDERS must say which folders may be read",
    ),
    (
        ImageSettings,
        {"format": "json", "image_as": "url"},
        "STREAM_IMAGE_HOSTS must say which hosts may be asked",
    ),
    (
        QuerySettings,
        {"results_topic": "", "results_file": ""},
        "STREAM_RESULTS_TOPIC or STREAM_RESULTS_FILE: exactly one",
    ),
    (
        QuerySettings,
        {"results_file": "/r.jsonl"},
        "STREAM_RESULTS_TOPIC or STREAM_RESULTS_FILE: exactly one",
    ),
    (
        QuerySettings,
        {"dense_model": "none"},
        "STREAM_SEARCH=hybrid needs STREAM_DENSE_MODEL, told to be none",
    ),
    (
        QuerySettings,
        {"search": "late", "late_model": "none"},
        "STREAM_SEARCH=late needs STREAM_LATE_MODEL, told to be none",
    ),
    (
        QuerySettings,
        {"search": "late", "store_late": "off"},
        "STREAM_SEARCH=late needs STREAM_STORE_LATE, told to be off",
    ),
    (
        QuerySettings,
        {"search": "muvera", "muvera": "off"},
        "STREAM_SEARCH=muvera needs STREAM_MUVERA, told to be off",
    ),
    (QuerySettings, {"limit": "0"}, "STREAM_LIMIT: Input should be greater than or equal to 1"),
    (QuerySettings, {"search": "best"}, "STREAM_SEARCH: Input should be 'dense', 'sparse'"),
)


@pytest.mark.parametrize(("settings", "values", "reason"), WRONG, ids=[one[2] for one in WRONG])
def test_what_cannot_go_together_is_refused_at_once(
    settings: Settings, values: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_input = bool(values.keys() & {"input_file", "input_folder"}) or "is missing" in reason
    whole = {} if has_input else {"kafka_topics": "docs"}
    if settings is QuerySettings:
        whole["results_topic"] = "results"
    assert reason in refused(settings, monkeypatch, **{**whole, **values})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dense_model", HybridSettings),
        ("sparse_model", HybridSettings),
        ("late_model", HybridSettings),
        ("model", ImageSettings),
        ("pages_model", ImageSettings),
        ("rerank_model", QuerySettings),
    ],
)
def test_a_model_that_nobody_knows_is_refused_while_the_flow_is_built(
    name: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"kafka_topics": "docs", name: "no/such-model"}
    if settings is QuerySettings:
        values["results_topic"] = "results"
    read = told(settings, monkeypatch, values)
    with pytest.raises(SettingError, match="model named 'no/such-model'"):
        _ = read.rerank if isinstance(read, QuerySettings) else read.stages()


def test_models_that_are_left_out_write_no_vector() -> None:
    one = HybridSettings(
        kafka_topics=("docs",), dense_model=None, sparse_model="Qdrant/bm25", late_model=None
    )
    assert [stage.vector for stage in one.stages()] == ["sparse"]
    late = HybridSettings(
        kafka_topics=("docs",), dense_model=None, sparse_model=None, late_model=LATE
    )
    assert [stage.vector for stage in late.stages()] == ["late", "muvera"]


def test_quantization_and_disk_are_told_of_the_vectors_that_have_them() -> None:
    settings = HybridSettings(
        kafka_topics=("docs",),
        dense_model=DENSE,
        late_model=LATE,
        quantization="scalar",
        on_disk=True,
    )
    spaces = settings.spaces(settings.stages())
    assert {name: space.quantization for name, space in spaces.items()} == {
        "dense": "scalar",
        "muvera": "scalar",
        "sparse": "none",
        "late": "none",
    }
    assert all(space.on_disk for space in spaces.values())
    assert {name for name, space in spaces.items() if not space.indexed} == {"late"}


def test_multivectors_that_are_not_stored_are_no_part_of_the_collection() -> None:
    settings = HybridSettings(
        kafka_topics=("docs",), dense_model=None, late_model=LATE, store_late=False
    )
    assert set(settings.spaces(settings.stages())) == {"sparse", "muvera"}


def test_images_are_read_as_they_are_told_to_be() -> None:
    assert ImageSettings(kafka_topics=("a",), max_image_bytes=7).schema_ == Schema(
        format="bytes", max_image_bytes=7
    )
    settings = ImageSettings(
        kafka_topics=("a",),
        format="json",
        key_field="id",
        image_field="picture",
        image_as="url",
        image_hosts=("img.example.com",),
        image_ports=(9000,),
        image_http=True,
        image_private=True,
        image_timeout_s=2.0,
        max_image_bytes=7,
    )
    assert settings.schema_ == Schema(
        key="id", text=None, image="picture", image_as="url", max_image_bytes=7
    )
    web = Web(
        hosts=("img.example.com",),
        ports=(9000,),
        plain_http=True,
        private=True,
        max_bytes=7,
        timeout_s=2.0,
    )
    assert settings.fetch == FetchImages(given_as="url", web=web, max_bytes=7)


def test_each_way_to_search_uses_its_vectors() -> None:
    def search(mode: Mode, **how: bool) -> object:
        return search_of(mode, fusion="dbsf", candidates=40, **how)

    assert search("dense") == Nearest(vector="dense")
    assert search("sparse") == Nearest(vector="sparse")
    assert search("late") == Nearest(vector="late")
    assert search("hybrid") == Fused(vectors=("dense", "sparse"), fusion="dbsf", candidates=40)
    assert search("muvera") == Rescored(first=Nearest(vector="muvera"), by="late", candidates=40)
    assert search("muvera", rescore=False) == Nearest(vector="muvera")


def test_questions_are_embedded_by_what_the_search_needs_and_nothing_else() -> None:
    def vectors(mode: Mode) -> list[str]:
        settings = QuerySettings(
            kafka_topics=("questions",),
            results_topic="results",
            search=mode,
            late_model=LATE,
        )
        assert all(stage.as_query for stage in settings.embedding if hasattr(stage, "as_query"))
        return [stage.vector for stage in settings.embedding]

    assert vectors("dense") == ["dense"]
    assert vectors("hybrid") == ["dense", "sparse"]
    assert vectors("late") == ["late"]
    assert vectors("muvera") == ["late", "muvera"]
