"""What every flow is told: how it shows itself, and how wrong settings are refused."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from typing_extensions import Self, override

from fastembed_stream.errors import SettingError
from fastembed_stream.redaction import redacted, shown_options
from flows.settings.conflicts import conflicts

__all__ = ["PREFIX", "Names", "OptionalNames", "Process", "listed"]

PREFIX = "STREAM_"

# Kubernetes sets these in every pod beside a Service named `stream`.
_OF_KUBERNETES = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_\w+)$")

Names = Annotated[tuple[str, ...], NoDecode]
"""Names with commas between them; a field of these is read by `listed`."""

# Not `Names | None`: inside a union pydantic-settings sees no mark, and reads the text as JSON.
OptionalNames = Annotated[tuple[str, ...] | None, NoDecode]


def listed(value: object) -> object:
    """Take a text with commas as a tuple."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class Process(BaseSettings):
    """Of the process: its logs, its metrics, its end."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # it may be a password
    )

    metrics_port: int | None = Field(
        None, description="serve Prometheus metrics here", ge=1, le=65_535
    )
    metrics_host: str = Field(
        "127.0.0.1", description="address that they are served on; `0.0.0.0` for all of this host"
    )
    max_failure_share: float = Field(
        1.0,
        description=(
            "end the flow when more than this share of the last 1,000 records fails; `1.0` never"
        ),
        gt=0,
        le=1,
    )
    drain_s: float = Field(
        25.0,
        description="seconds to write what is buffered after SIGTERM",
        ge=0,
        allow_inf_nan=False,
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="of logs")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        problems = conflicts(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @override
    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        for name, value in super().__repr_args__():
            yield name, _shown(value)

    @classmethod
    def lacking(cls, environment: Mapping[str, str]) -> list[str]:
        """Tell what no single setting requires and their whole does, to be told with the rest."""
        del environment
        return []

    @classmethod
    def from_environment(cls) -> Self:
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
            problems += cls.lacking(os.environ)
            problems += [_told(item) for item in error.errors(include_url=False)]
            raise _refused(list(dict.fromkeys(problems))) from error
        if problems:
            raise _refused(problems)
        return settings


def _shown(value: object) -> object:
    if isinstance(value, dict):
        return shown_options(value)
    return redacted(value) if isinstance(value, str) else value


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _told(error: ErrorDetails) -> str:
    if not error["loc"]:  # of several settings together, which it names itself
        return error["msg"].removeprefix("Value error, ")
    name = f"{PREFIX}{error['loc'][0]}".upper()
    return f"{name} is missing" if error["type"] == "missing" else f"{name}: {error['msg']}"


def _refused(problems: list[str]) -> SettingError:
    return SettingError(f"Settings: {'; '.join(problems)}. docs/settings.md lists all.")
