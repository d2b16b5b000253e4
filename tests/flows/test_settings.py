"""A setting is read, or all that is wrong with the settings is said at once."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from fastembed_stream import Fetching, Runtime, SettingError
from flows.settings import PREFIX, TextSettings
from operators import (
    Cluster,
    DeadLetterFile,
    DeadLetterTopic,
    Identity,
    KafkaSource,
    QdrantSink,
    Schema,
    Server,
    StageLimits,
    VectorSpace,
    WindowLimits,
    Writing,
)

MODEL = "fastembed-stream/all-MiniLM-L6-v2-int8"

# Every setting by another value than its default: as the environment has it, and as it is read.
ALL: dict[str, tuple[str, object]] = {
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
    "format": ("text", "text"),
    "key_field": ("id", "id"),
    "key_format": ("long", "long"),
    "text_field": ("a.b", "a.b"),
    "payload_fields": ("id,meta.title", ("id", "meta.title")),
    "max_text_bytes": ("9", 9),
    "window_records": ("10", 10),
    "window_tokens": ("11", 11),
    "window_age_s": ("0.5", 0.5),
    "batches_in_flight": ("2", 2),
    "batch_timeout_s": ("50", 50.0),
    "record_attempts": ("7", 7),
    "input_file": ("/in.jsonl", Path("/in.jsonl")),
    "max_line_bytes": ("14", 14),
    "chunk_tokens": ("100", 100),
    "chunk_overlap": ("13", 13),
    "chunk_bytes": ("5000", 5000),
    "output_file": ("/out.jsonl", Path("/out.jsonl")),
    "model": (MODEL, MODEL),
    "model_folder": ("/models/a", Path("/models/a")),
    "model_prompt": ("true", True),
    "max_tokens": ("12", 12),
    "vector": ("v", "v"),
    "cache_dir": ("/cache", Path("/cache")),
    "offline": ("1", True),
    "device": ("cpu", "cpu"),
    "device_ids": ("0,1", (0, 1)),
    "threads": ("2", 2),
    "lanes": ("3", 3),
    "token_budget": ("512", 512),
    "qdrant_url": ("http://q:6333", "http://q:6333"),
    "qdrant_path": ("/qdrant", Path("/qdrant")),
    "qdrant_api_key": ("secret", SecretStr("secret")),
    "qdrant_grpc": ("yes", True),
    "qdrant_grpc_port": ("1234", 1234),
    "qdrant_timeout_s": ("2.5", 2.5),
    "request_attempts": ("7", 7),
    "collection": ("c", "c"),
    "distance": ("dot", "dot"),
    "request_points": ("5", 5),
    "request_bytes": ("6", 6),
    "requests_in_flight": ("1", 1),
    "uuid_key_as_id": ("on", True),
    "dead_letter_topic": ("dead", "dead"),
    "dead_letter_file": ("/dead.jsonl", Path("/dead.jsonl")),
    "dead_letter_bytes": ("14", 14),
    "metrics_port": ("9100", 9100),
    "metrics_host": ("::1", "::1"),
    "max_failure_share": ("0.5", 0.5),
    "drain_s": ("3", 3.0),
    "log_level": ("DEBUG", "DEBUG"),
}


# Records come from one place, and points go to one.
_ONE_WAY = {"input_file", "qdrant_path"}
_OTHER_WAY = {"kafka_topics", "qdrant_url", "key_format"}  # lines have keys of text


def told(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]) -> TextSettings:
    for name, value in values.items():
        monkeypatch.setenv(f"{PREFIX}{name}".upper(), value)
    return TextSettings.from_environment()


def refused(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    with pytest.raises(SettingError) as caught:
        told(monkeypatch, values)
    return str(caught.value)


def test_every_setting_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(ALL) == set(TextSettings.model_fields), "a setting without an example"
    for left_out in (_ONE_WAY, _OTHER_WAY):
        texts = {name: text for name, (text, _) in ALL.items() if name not in left_out}
        for name in left_out:
            monkeypatch.delenv(f"STREAM_{name}".upper(), raising=False)
        settings = told(monkeypatch, texts)
        assert {name: getattr(settings, name) for name in texts} == {
            name: ALL[name][1] for name in texts
        }
        for name in left_out:
            assert getattr(settings, name) == TextSettings.model_fields[name].default


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a/b", "it has '/'"),
        ("a\\b", "it has '\\\\'"),
        ("a:b", "it has ':'"),
        ('a"b', "it has '\"'"),
        ("a\nb", "it has '\\n'"),
        ("a\x7fb", "it has '\\x7f'"),
        ("a\u202eb", "it has '\\u202e'"),
        ("a\udcffb", "it has '\\udcff'"),
        (" ", "it is empty"),
        ("..", "a folder's own name"),
        ("x" * 256, "it has 256 bytes, and at most 255 fit"),
        ("ü" * 128, "it has 256 bytes, and at most 255 fit"),
    ],
)
def test_a_collection_that_no_server_can_have_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    said = refused(monkeypatch, kafka_topics="docs", collection=name)
    assert "STREAM_COLLECTION: A collection cannot be named " in said
    assert what in said
    assert "\n" not in said
    assert ".. " not in said.replace("'..'", "")
    assert len(said) < 300


@pytest.mark.parametrize("name", ["documents", "größer", "日本語", "a b", "x" * 255, "a.b-c_d"])
def test_any_other_name_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert told(monkeypatch, {"kafka_topics": "docs", "collection": name}).collection == name


def test_a_server_and_a_folder_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kafka_topics", "qdrant_url", "qdrant_path"):
        monkeypatch.setenv(f"STREAM_{name}".upper(), ALL[name][0])
    assert "STREAM_QDRANT_URL and STREAM_QDRANT_PATH are both set" in refused(monkeypatch)


def test_topics_and_a_file_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, kafka_topics="docs", input_file="in.jsonl")
    assert "STREAM_KAFKA_TOPICS and STREAM_INPUT_FILE: both are set" in said


def test_an_empty_variable_is_as_if_it_were_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = {"qdrant_path": "", "key_field": "", "max_tokens": ""}
    settings = told(monkeypatch, {"kafka_topics": "docs", **empty})
    assert (settings.qdrant_path, settings.key_field, settings.max_tokens) == (None, None, None)


def test_no_example_is_a_default() -> None:
    defaults = {name: field.default for name, field in TextSettings.model_fields.items()}
    assert not [name for name, (_, value) in ALL.items() if defaults[name] == value]


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in TextSettings.model_fields.values())


def test_topics_are_all_that_must_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, {"kafka_topics": "docs"}).kafka_topics == ("docs",)
    monkeypatch.delenv("STREAM_KAFKA_TOPICS")
    assert refused(monkeypatch) == (
        "Settings: STREAM_KAFKA_TOPICS or STREAM_INPUT_FILE is missing. docs/settings.md lists all."
    )


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(
        monkeypatch,
        kafka_start="middle",
        window_records="many",
        kafka_options="not json",
        device_ids="0,x",
        kafka_topicz="docs",
        zzz="1",
    )
    assert "STREAM_KAFKA_TOPICS or STREAM_INPUT_FILE is missing" in said
    assert "STREAM_KAFKA_START: Input should be 'earliest' or 'latest'" in said
    assert "STREAM_WINDOW_RECORDS: Input should be a valid integer" in said
    assert "STREAM_DEVICE_IDS: Input should be a valid integer" in said
    assert "STREAM_KAFKA_TOPICZ is unknown; did you mean STREAM_KAFKA_TOPICS?" in said
    assert "STREAM_ZZZ is unknown;" in said
    assert "STREAM_KAFKA_OPTIONS: Value error, Expecting value" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metrics_port", "70000"),
        ("drain_s", "-5"),
        ("drain_s", "nan"),
        ("window_age_s", "inf"),
        ("batch_timeout_s", "0"),
        ("dead_letter_bytes", "0"),
        ("record_attempts", "1"),
        ("max_failure_share", "0"),
        ("max_failure_share", "50"),
        ("max_failure_share", "nan"),
    ],
)
def test_a_number_that_nothing_can_be_made_of_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    said = refused(monkeypatch, kafka_topics="docs", **{name: value})
    assert f"{PREFIX}{name}".upper() in said


def test_a_setting_that_is_misspelt_is_refused_and_the_right_one_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refused(monkeypatch, kafka_topics="docs", colection="c")
    assert "STREAM_COLECTION is unknown; did you mean STREAM_COLLECTION?" in said


def test_what_kubernetes_sets_beside_a_service_of_that_name_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR"):
        monkeypatch.setenv(f"STREAM_{name}", "10.0.0.1")
    assert told(monkeypatch, {"kafka_topics": "docs"}).kafka_topics == ("docs",)


def test_a_value_that_only_a_part_can_judge_is_refused_when_the_part_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = told(monkeypatch, {"kafka_topics": "docs", "window_records": "0"})
    with pytest.raises(SettingError, match="max_records=0"):
        _ = settings.window


def test_each_part_is_built_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = {*_ONE_WAY, "format", "key_format"}  # a key comes from a field, or from Kafka
    values = {name: text for name, (text, _) in ALL.items() if name not in left_out}
    settings = told(monkeypatch, values)
    assert settings.cluster == Cluster(brokers="a:1,b:2", options={"security.protocol": "SSL"})
    source = settings.source
    assert isinstance(source, KafkaSource)
    assert source._topics == ("docs", "more")
    reading = source._reading
    assert (reading.group, reading.start, reading.on_gap) == ("mine", "latest", "continue")
    assert (reading.isolation, reading.refresh_s) == ("read_uncommitted", 2.5)
    assert (reading.max_epoch_records, reading.max_epoch_bytes) == (7, 8)
    assert settings.schema_ == Schema(
        key="id", text="a.b", payload=("id", "meta.title"), max_text_bytes=9
    )
    assert settings.window == WindowLimits(max_records=10, max_tokens=11, max_age_s=0.5)
    assert settings.stage_limits == StageLimits(in_flight=2, batch_timeout_s=50, record_attempts=7)
    assert settings.identity == Identity(collection="c", uuid_as_id=True)
    assert settings.server == Server(
        url="http://q:6333", api_key="secret", grpc=True, grpc_port=1234, timeout_s=2.5
    )
    letters = settings.dead_letters
    assert isinstance(letters, DeadLetterTopic)
    assert letters._max_value_bytes == 14
    assert letters._otherwise._path == Path("/dead.jsonl")


def test_how_kafkas_key_is_read_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = told(monkeypatch, {"kafka_topics": "docs", "key_format": "long"})
    assert settings.schema_.key_format == "long"
    assert "STREAM_KEY_FORMAT" in refused(monkeypatch, key_format="avro")


def test_kafka_options_may_be_numbers_and_booleans(monkeypatch: pytest.MonkeyPatch) -> None:
    options = '{"socket.timeout.ms": 1000, "a": 0.5, "enable.ssl.certificate.verification": false}'
    settings = told(monkeypatch, {"kafka_topics": "docs", "kafka_options": options})
    assert settings.cluster.options == {
        "socket.timeout.ms": "1000",
        "a": "0.5",
        "enable.ssl.certificate.verification": "false",
    }
    for odd in ("null", "[1]", "{}"):
        said = refused(monkeypatch, kafka_options=f'{{"client.id": {odd}}}')
        assert "STREAM_KAFKA_OPTIONS" in said
        assert "'client.id'" in said


def test_no_secret_is_shown_by_settings_nor_by_what_is_made_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {
        "kafka_topics": "docs",
        "kafka_options": '{"sasl.username": "me", "sasl.password": "hunter2"}',
        "qdrant_url": "https://me:hunter3@q.example.org/x?token=hunter4",
        "qdrant_api_key": "hunter5",
    }
    settings = told(monkeypatch, values)
    for shown in (settings, settings.cluster, settings.server, settings.source):
        assert "hunter" not in f"{shown!r} {shown}"
    assert settings.kafka_options["sasl.password"] == "hunter2"
    assert settings.server.shown == "https://q.example.org:6333/x"
    for wrong in ({"qdrant_timeout_s": "hunter6"}, {"kafka_options": '{"sasl.password": "hunter7'}):
        with pytest.raises(SettingError) as caught:
            told(monkeypatch, wrong)
        assert "hunter" not in "".join(traceback.format_exception(caught.value))


def test_the_stage_is_built_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = told(
        monkeypatch, {name: text for name, (text, _) in ALL.items() if name not in _ONE_WAY}
    )
    stage = settings.stage
    assert (stage.model, stage.vector, stage.prompted) == (MODEL, "v", True)
    assert (stage.folder, stage.max_tokens) == (Path("/models/a"), 12)
    assert stage.fetching == Fetching(cache_dir=Path("/cache"), offline=True)
    assert stage.runtime == Runtime(
        device="cpu", device_ids=(0, 1), threads=2, lanes=3, token_budget=512
    )


def test_requests_are_made_as_they_are_told_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"kafka_topics": "docs", "request_points": "5", "request_bytes": "6"}
    settings = told(monkeypatch, {**values, "requests_in_flight": "1", "request_attempts": "7"})
    sink = settings.sink(
        {"v": VectorSpace(dim=2, model="m", fingerprint="f")}, settings.dead_letters
    )
    assert sink._writing == Writing(max_points=5, max_bytes=6, in_flight=1, attempts=7)


def test_a_path_stands_in_for_a_server_and_a_file_for_a_topic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"kafka_topics": "docs", "qdrant_path": "/q", "dead_letter_file": "/d.jsonl"}
    settings = told(monkeypatch, values)
    assert settings.server == Server(path=Path("/q"))
    assert isinstance(settings.dead_letters, DeadLetterFile)
    assert settings.dead_letters._path == Path("/d.jsonl")


def test_the_sink_writes_what_the_opened_model_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"kafka_topics": "docs", "model": MODEL, "request_points": "5", "distance": "dot"}
    settings = told(monkeypatch, values)
    letters = settings.dead_letters
    stage = settings.stage
    sink = settings.sink(settings.spaces(stage), letters)
    assert isinstance(sink, QdrantSink)
    [(name, space)] = sink._collection.vectors.items()
    assert (name, space.dim, space.model, space.fingerprint) == ("dense", 384, MODEL, stage.open())
    assert (space.distance, sink._writing.max_points, sink._refused) == ("dot", 5, letters)


def test_a_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = told(monkeypatch, {"kafka_topics": "docs", "qdrant_api_key": "hidden"})
    assert "hidden" not in repr(settings) + str(settings) + repr(settings.server)
