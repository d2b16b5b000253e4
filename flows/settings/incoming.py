"""Where records come from, and how a message is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from bytewax.inputs import Source
from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode
from typing_extensions import Self, override

from flows.recovery import recovery_folder
from flows.settings.process import PREFIX, Names, OptionalNames, Process, listed
from operators import (
    Cluster,
    JsonLinesSource,
    KafkaSource,
    Message,
    Pages,
    Reading,
    Schema,
    StageLimits,
    WindowLimits,
)
from operators.keys import KeyFormat

__all__ = ["KEY_FORMAT", "Documents", "Incoming"]

KEY_FORMAT = "how Kafka's key is read; none takes topic, partition and offset for it"

Options = Annotated[dict[str, str], NoDecode]


class Incoming(Process):
    """Kafka, and the windows that its messages are gathered in."""

    kafka_brokers: str = Field("localhost:9092", description="host:port, several with commas")
    kafka_topics: Names = Field((), description="topics to read, with commas")
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
        "fail",
        description="when the log no longer has the offset to resume from, or is another one",
    )
    kafka_isolation: Literal["read_committed", "read_uncommitted"] = Field(
        "read_committed",
        description="uncommitted takes messages of open and aborted transactions too",
    )
    kafka_refresh_s: float = Field(
        15.0,
        description="seconds between two looks for partitions added and topics made again",
        gt=0,
        allow_inf_nan=False,
    )
    max_epoch_records: int = Field(20_000, description="messages of a partition in one epoch")
    max_epoch_bytes: int = Field(64 << 20, description="bytes of a partition in one epoch")
    window_records: int = Field(256, description="records of one window")
    window_tokens: int = Field(32_768, description="estimated tokens of one window")
    window_age_s: float = Field(
        0.2, description="seconds that the oldest record may wait", allow_inf_nan=False
    )
    batches_in_flight: int = Field(3, description="windows that are embedded at once")
    batch_timeout_s: float = Field(
        600.0,
        description="seconds after which a window counts as hung, and the flow ends",
        gt=0,
        allow_inf_nan=False,
    )
    record_attempts: int = Field(
        5,
        description="ends of the flow in a row with the same record in a stage, before the record "
        "goes to the dead letters, at least 2; needs a recovery store",
        ge=2,  # at the first end, others were under way too
    )
    input_file: Path | None = Field(None, description="read these lines (JSONL) instead of topics")
    max_line_bytes: int = Field(
        64 << 20, description="longer lines of a file become dead letters", ge=1
    )

    _inputs: ClassVar[tuple[str, ...]] = ("kafka_topics", "input_file")

    _split_topics = field_validator("kafka_topics", mode="before")(listed)

    @field_validator("kafka_options", mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        # Here rather than by pydantic-settings, which would stop at it and tell of nothing else.
        try:
            options = json.loads(value) if isinstance(value, str) else value
        except RecursionError as error:
            msg = "it nests too deep; expected one JSON object of texts"
            raise ValueError(msg) from error
        if not isinstance(options, dict):
            return options
        return {str(name): _option(str(name), one) for name, one in options.items()}

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        told = [name for name in self._inputs if getattr(self, name)]
        if len(told) != 1:
            raise ValueError(
                self._needed()
                if not told
                else f"{' and '.join(_variables(told))}: both are set; records come from one place"
            )
        return self

    @classmethod
    @override
    def lacking(cls, environment: Mapping[str, str]) -> list[str]:
        is_told = any(environment.get(name) for name in _variables(cls._inputs))
        return [] if is_told else [cls._needed()]

    @classmethod
    def _needed(cls) -> str:
        return f"{' or '.join(_variables(cls._inputs))} is missing"

    @property
    def cluster(self) -> Cluster:
        """Where Kafka is."""
        return Cluster(brokers=self.kafka_brokers, options=self.kafka_options)

    @property
    def source(self) -> Source[Message]:
        """Where messages come from."""
        if self.input_file is not None:
            return JsonLinesSource(
                self.input_file,
                self.pages,
                max_line_bytes=self.max_line_bytes,
                objects=self.lines_are_objects,
            )
        reading = Reading(
            group=self.kafka_group,
            start=self.kafka_start,
            on_gap=self.kafka_on_gap,
            isolation=self.kafka_isolation,
            refresh_s=self.kafka_refresh_s,
            max_epoch_records=self.max_epoch_records,
            max_epoch_bytes=self.max_epoch_bytes,
            max_batch=self.window_records,
        )
        return KafkaSource(self.cluster, self.kafka_topics, reading, store=recovery_folder())

    @property
    def lines_are_objects(self) -> bool:
        """Whether each line of a file has to be a JSON object."""
        return True

    @property
    def pages(self) -> Pages:
        """How much of a file is read at once."""
        return Pages(
            max_batch=self.window_records,
            max_epoch_records=self.max_epoch_records,
            max_epoch_bytes=self.max_epoch_bytes,
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
    def stage_limits(self) -> StageLimits:
        """How many windows are under way, and for how long."""
        return StageLimits(
            in_flight=self.batches_in_flight,
            batch_timeout_s=self.batch_timeout_s,
            record_attempts=self.record_attempts,
        )


class Documents(Process):
    """Which part of a message is the key, the text, the payload."""

    format: Literal["json", "text"] = Field("json", description="JSON objects, or plain text")
    key_field: str | None = Field(None, description="JSON field of the key; else the message's key")
    key_format: KeyFormat = Field("text", description=KEY_FORMAT)
    text_field: str = Field("text", description="JSON field of the text; dots go deeper")
    payload_fields: OptionalNames = Field(
        None, description="fields to store, none may miss; else the whole object"
    )
    max_text_bytes: int = Field(1 << 20, description="longer texts become dead letters")

    _split_fields = field_validator("payload_fields", mode="before")(listed)

    @property
    def lines_are_objects(self) -> bool:
        """Whether each line of a file has to be a JSON object."""
        return self.format == "json"

    @property
    def schema_(self) -> Schema:
        """How a message is read."""
        return Schema(
            format=self.format,
            key=self.key_field,
            key_format=self.key_format,
            text=self.text_field,
            payload=self.payload_fields,
            max_text_bytes=self.max_text_bytes,
        )


def _option(name: str, value: object) -> object:
    """Take numbers and booleans as librdkafka spells them."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        msg = f"{name!r} is {type(value).__name__}; expected a string, a number or a boolean"
        raise ValueError(msg)  # noqa: TRY004  pydantic tells of this one
    return value


def _variables(names: Iterable[str]) -> list[str]:
    return [f"{PREFIX}{name}".upper() for name in names]
