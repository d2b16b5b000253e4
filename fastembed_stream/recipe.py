"""What every family's recipe is: data that says how its models are used, and opens one."""

from __future__ import annotations

from dataclasses import Field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from typing_extensions import Never

from fastembed_stream.kinds import Kind

if TYPE_CHECKING:
    from fastembed_stream.embedder import OpenModel
    from fastembed_stream.located_model import LocatedModel

__all__ = ["Recipe"]


class Recipe(Protocol):
    """
    A family of models, as a frozen dataclass of what two of its models may differ by.

    Its name and its fields are in the fingerprint of a model, and its fields are options of the
    drop-in classes. Each family has its own in `families/`.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def kind(self) -> Kind[object, object, object]:
        """Tell what goes in and comes out."""

    @property
    def files(self) -> tuple[str, ...]:
        """Name what it needs of the model's source beside what the row names."""

    def open(self, located: LocatedModel) -> OpenModel[Never, Never, object]:
        """
        Open a model of the family.

        What it takes and answers is typed in each family. Of any family together nothing can be
        said, hence `Never` and `object`; `open_model` knows it again from the kind.

        raises  SettingError, ModelFilesError, DeviceError
        """
