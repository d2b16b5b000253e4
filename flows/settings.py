"""
What a flow is told from outside, by environment variables that start with STREAM_.

Every setting has a default or says at once that it is missing; a STREAM_ variable that is not one
of these is a typing error, and is refused before the first message is read.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fastembed_stream import Fetching, Runtime
from fastembed_stream.errors import SettingError
from operators import (
    Cluster,
    Collection,
    DeadLetterFile,
    DeadLetterTopic,
    DenseStage,
    Identity,
    KafkaSource,
    QdrantSink,
    Reading,
    Schema,
    Server,
    StageLimits,
    WindowLimits,
    Writing,
)

__all__ = ["PREFIX", "Settings"]

PREFIX = "STREAM_"

# Kubernetes sets these in every pod beside a Service named `stream`.
_OF_KUBERNETES = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_\w+)$")

Names = Annotated[tuple[str, ...], NoDecode]
Numbers = Annotated[tuple[int, ...], NoDecode]
Options = Annotated[dict[str, str], NoDecode]


class Settings(BaseSettings):
    """All settings of `text_to_qdrant`, in the order in which a record meets them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    kafka_brokers: str = Field("localhost:9092", description="host:port, several with commas")
    kafka_topics: Names = Field(description="topics to read, with commas")
    kafka_group: str = Field(
        "fastembed-stream", description="consumer group that shows the progress to lag tools"
    )
    kafka_options: Options = Field(
        {}, description='settings of librdkafka as JSON: {"security.protocol": "SASL_SSL"}'
    )
    kafka_start: Literal["earliest", "latest"] = Field(
        "earliest", description="where to begin without a recovery store; latest is for trials"
    )
    kafka_on_gap: Literal["fail", "continue"] = Field(
        "fail", description="when the log no longer has the offset to resume from"
    )
    max_epoch_records: int = Field(20_000, description="messages of a partition in one epoch")
    max_epoch_bytes: int = Field(64 << 20, description="bytes of a partition in one epoch")

    format: Literal["json", "text"] = Field("json", description="JSON objects, or plain text")
    key_field: str | None = Field(None, description="JSON field of the key; else the message's key")
    text_field: str = Field("text", description="JSON field of the text; dots go deeper")
    payload_fields: Names | None = Field(
        None, description="fields to store, none may miss; else the whole object"
    )
    max_text_bytes: int = Field(1 << 20, description="longer texts become dead letters")

    window_records: int = Field(256, description="records of one window")
    window_tokens: int = Field(32_768, description="estimated tokens of one window")
    window_age_s: float = Field(0.2, description="seconds that the oldest record may wait")
    batches_in_flight: int = Field(3, description="windows that are embedded at once")

    model: str = Field("BAAI/bge-small-en-v1.5", description="a name of `fastembed-stream models`")
    model_folder: Path | None = Field(None, description="take the model's files from here")
    model_prompt: bool = Field(default=False, description="put the passage prompt before texts")
    max_tokens: int | None = Field(None, description="another limit than the tokenizer's own")
    vector: str = Field("dense", description="name of the vector in the collection")
    cache_dir: Path | None = Field(None, description="where fetched models are kept")
    offline: bool = Field(default=False, description="never fetch a model")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda fails without a GPU")
    device_ids: Numbers = Field((), description="GPUs to use, with commas")
    threads: int | None = Field(None, description="CPU threads; else all cores of the process")
    lanes: int | None = Field(None, description="concurrent inference calls; else measured")
    token_budget: int | None = Field(None, description="tokens of one call; else measured")

    qdrant_url: str = Field("http://localhost:6333", description="server")
    qdrant_path: Path | None = Field(None, description="a local folder instead of a server")
    qdrant_api_key: SecretStr | None = Field(None, description="sent with each request")
    qdrant_grpc: bool = Field(default=False, description="talk gRPC")
    qdrant_grpc_port: int = Field(6334, description="its port")
    qdrant_timeout_s: float = Field(30.0, description="of one request")
    collection: str = Field("documents", description="made when absent, checked when present")
    distance: Literal["cosine", "dot", "euclid", "manhattan"] = Field(
        "cosine", description="how vectors compare"
    )
    request_points: int = Field(128, description="points of one request")
    request_bytes: int = Field(16 << 20, description="bytes of one request")
    requests_in_flight: int = Field(4, description="requests at a time")

    dead_letter_topic: str | None = Field(None, description="Kafka topic for records that fail")
    dead_letter_file: Path = Field(
        Path("dead_letters.jsonl"), description="file for them where there is no topic"
    )

    metrics_port: int | None = Field(None, description="serve Prometheus metrics here")
    drain_s: float = Field(25.0, description="seconds to write what is buffered after SIGTERM")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="of logs")

    @field_validator("kafka_topics", "payload_fields", "device_ids", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("kafka_options", mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        # Here rather than by pydantic-settings, which would stop at it and tell of nothing else.
        return json.loads(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_store(self) -> Settings:
        if {"qdrant_url", "qdrant_path"} <= self.model_fields_set:
            msg = f"{PREFIX}QDRANT_URL and {PREFIX}QDRANT_PATH are both set; points go to one place"
            raise ValueError(msg)
        return self

    @classmethod
    def from_environment(cls) -> Settings:
        """
        Read them, all at once.

        raises  SettingError that names each wrong, missing or unknown variable
        """
        known = {f"{PREFIX}{name}".upper() for name in cls.model_fields}
        problems = [
            f"{name} is unknown{_nearest(name, known)}"
            for name in sorted(os.environ)
            if name.startswith(PREFIX) and name not in known and not _OF_KUBERNETES.match(name)
        ]
        try:
            settings = cls()
        except ValidationError as error:
            problems += [_told(item) for item in error.errors(include_url=False)]
            raise _refused(problems) from error
        if problems:
            raise _refused(problems)
        return settings

    @property
    def cluster(self) -> Cluster:
        """Where Kafka is."""
        return Cluster(brokers=self.kafka_brokers, options=self.kafka_options)

    @property
    def source(self) -> KafkaSource:
        """Where messages come from."""
        reading = Reading(
            group=self.kafka_group,
            start=self.kafka_start,
            on_gap=self.kafka_on_gap,
            max_epoch_records=self.max_epoch_records,
            max_epoch_bytes=self.max_epoch_bytes,
            max_batch=self.window_records,
        )
        return KafkaSource(self.cluster, self.kafka_topics, reading)

    @property
    def schema_(self) -> Schema:
        """How a message is read."""
        return Schema(
            format=self.format,
            key=self.key_field,
            text=self.text_field,
            payload=self.payload_fields,
            max_text_bytes=self.max_text_bytes,
        )

    @property
    def window(self) -> WindowLimits:
        """When a window closes."""
        return WindowLimits(
            max_records=self.window_records,
            max_tokens=self.window_tokens,
            max_age_s=self.window_age_s,
        )

    @property
    def stage(self) -> DenseStage:
        """What embeds."""
        return DenseStage(
            model=self.model,
            vector=self.vector,
            prompted=self.model_prompt,
            folder=self.model_folder,
            fetching=Fetching(cache_dir=self.cache_dir, offline=self.offline),
            runtime=Runtime(
                device=self.device,
                device_ids=self.device_ids,
                threads=self.threads,
                lanes=self.lanes,
                token_budget=self.token_budget,
            ),
            max_tokens=self.max_tokens,
        )

    @property
    def stage_limits(self) -> StageLimits:
        """How many windows are under way."""
        return StageLimits(in_flight=self.batches_in_flight)

    @property
    def identity(self) -> Identity:
        """What makes a point's id."""
        return Identity(collection=self.collection)

    @property
    def server(self) -> Server:
        """Where Qdrant is."""
        if self.qdrant_path is not None:
            return Server(path=self.qdrant_path)
        key = self.qdrant_api_key
        return Server(
            url=self.qdrant_url,
            api_key=key.get_secret_value() if key is not None else None,
            grpc=self.qdrant_grpc,
            grpc_port=self.qdrant_grpc_port,
            timeout_s=self.qdrant_timeout_s,
        )

    @property
    def dead_letters(self) -> DeadLetterTopic | DeadLetterFile:
        """Where failures go."""
        if self.dead_letter_topic is not None:
            return DeadLetterTopic(self.cluster, self.dead_letter_topic)
        return DeadLetterFile(self.dead_letter_file)

    def sink(self, stage: DenseStage, refused: DeadLetterTopic | DeadLetterFile) -> QdrantSink:
        """Where points go."""
        space = replace(stage.space(), distance=self.distance)
        return QdrantSink(
            self.server,
            Collection(name=self.collection, vectors={stage.vector: space}),
            Writing(
                max_points=self.request_points,
                max_bytes=self.request_bytes,
                in_flight=self.requests_in_flight,
            ),
            refused=refused,
        )


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _told(error: ErrorDetails) -> str:
    if not error["loc"]:  # of several settings together, which it names itself
        return error["msg"].removeprefix("Value error, ")
    name = f"{PREFIX}{error['loc'][0]}".upper()
    return f"{name} is missing" if error["type"] == "missing" else f"{name}: {error['msg']}"


def _refused(problems: list[str]) -> SettingError:
    return SettingError(f"Settings: {'; '.join(problems)}. The README lists all.")
