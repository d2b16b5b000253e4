"""Where points go, and what cannot become one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from fastembed_stream.errors import SettingError
from flows.settings.incoming import Incoming
from flows.settings.process import PREFIX, Process
from operators import (
    Collection,
    DeadLetterFile,
    DeadLetterTopic,
    Identity,
    QdrantSink,
    Server,
    VectorSpace,
    Writing,
)
from operators.qdrant import check_name

__all__ = ["DeadLetters", "Qdrant", "Store"]


class Qdrant(Process):
    """Where the collection is."""

    qdrant_url: str = Field("http://localhost:6333", description="server")
    qdrant_path: Path | None = Field(None, description="a local folder instead of a server")
    qdrant_api_key: SecretStr | None = Field(None, description="sent with each request")
    qdrant_grpc: bool = Field(default=False, description="talk gRPC")
    qdrant_grpc_port: int = Field(6334, description="its port")
    qdrant_timeout_s: float = Field(30.0, description="of one request")
    request_attempts: int = Field(
        5,
        description="tries of a request that the server fails at (500), before it is halved to "
        "find the record at fault",
        ge=1,
    )
    collection: str = Field("documents", description="made when absent, checked when present")

    @field_validator("collection")
    @classmethod
    def _name(cls, value: str) -> str:
        try:
            check_name(value)
        except SettingError as error:
            # Pydantic's own, since it puts no words before it.
            kind, told = "collection_name", {"reason": str(error).rstrip(".")}
            raise PydanticCustomError(kind, "{reason}", told) from error
        return value

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        if {"qdrant_url", "qdrant_path"} <= self.model_fields_set:
            msg = f"{PREFIX}QDRANT_URL and {PREFIX}QDRANT_PATH are both set; points go to one place"
            raise ValueError(msg)
        return self

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


class Store(Qdrant):
    """How the collection is written to."""

    request_points: int = Field(128, description="points of one request")
    request_bytes: int = Field(16 << 20, description="bytes of one request")
    requests_in_flight: int = Field(4, description="requests at a time")
    output_file: Path | None = Field(
        None, description="write records with their vectors to this file (JSONL), not to Qdrant"
    )

    uuid_key_as_id: bool = Field(
        default=False, description="a key that is a UUID is its point's id as it is"
    )

    @property
    def identity(self) -> Identity:
        """What makes a point's id."""
        return Identity(collection=self.collection, uuid_as_id=self.uuid_key_as_id)

    def sink(
        self, vectors: Mapping[str, VectorSpace], refused: DeadLetterTopic | DeadLetterFile
    ) -> QdrantSink:
        """
        Where points go.

        vectors  the collection's vectors by name
        refused  where points go that the server will never take
        """
        return QdrantSink(
            self.server,
            Collection(name=self.collection, vectors=vectors),
            Writing(
                max_points=self.request_points,
                max_bytes=self.request_bytes,
                in_flight=self.requests_in_flight,
                attempts=self.request_attempts,
            ),
            refused=refused,
        )


class DeadLetters(Incoming):
    """Where records go that can never succeed."""

    dead_letter_topic: str | None = Field(None, description="Kafka topic for records that fail")
    dead_letter_file: Path = Field(
        Path("dead_letters.jsonl"),
        description="file for them where there is no topic, and for what the topic refuses",
    )
    dead_letter_bytes: int = Field(
        900_000,
        description="most bytes of one on the topic; value, headers, key of a larger one stay out",
        ge=1,
    )

    @property
    def dead_letters(self) -> DeadLetterTopic | DeadLetterFile:
        """Where failures go."""
        file = DeadLetterFile(self.dead_letter_file)
        if self.dead_letter_topic is None:
            return file
        return DeadLetterTopic(
            self.cluster,
            self.dead_letter_topic,
            max_value_bytes=self.dead_letter_bytes,
            otherwise=file,
        )
