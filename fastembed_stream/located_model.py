"""A model whose files are here: what a family opens itself from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastembed_stream.shared_sessions import open_session
from fastembed_stream.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from fastembed_stream.model import Model
    from fastembed_stream.runtime import Runtime
    from fastembed_stream.session import Session

__all__ = ["LocatedModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedModel:
    """
    A model whose files are here, and how it is to run: what a family opens itself from.

    model             the row
    folder            where its files are
    runtime           where and how its graph runs
    max_tokens        another limit than the one in the model's tokenizer_config.json
    slot              number of the worker: it takes one of `runtime.device_ids`, round robin; None
                      spreads the work over all of them
    has_shipped_name  whether a model of that name, kind and dimensions ships, whatever is in the
                      folder
    """

    model: Model
    folder: Path
    runtime: Runtime
    max_tokens: int | None = None
    slot: int | None = None
    has_shipped_name: bool = False

    def tokens(self, *, reserved: int = 0, added: int = 0) -> Tokens:
        """
        Load the tokenizer.

        reserved  tokens of its limit that are kept for the family
        added     tokens that the family adds beyond the limit
        """
        return Tokens.open(
            self.folder, self.model, max_tokens=self.max_tokens, reserved=reserved, added=added
        )

    def sessions(self) -> list[Session]:
        """Open the graph on each device."""
        devices: tuple[int | None, ...] = self.runtime.device_ids or (None,)
        if self.slot is not None:
            devices = (devices[self.slot % len(devices)],)
        graph = self.folder / self.model.model_file
        return [open_session(graph, self.runtime, device_id=device) for device in devices]
