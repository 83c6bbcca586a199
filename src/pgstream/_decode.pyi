from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from .errors import ProtocolError
from .messages import Change, Keepalive, Message, Payload, Relation
from .rows import RowFactory
from .types import Catalog, Loader, Numeric, TypeInfo

class Decoder:
    def __init__(
        self,
        *,
        row_factory: RowFactory = ...,
        values: Literal["typed", "text"] = "typed",
        json_loads: Callable[[str], Any] = ...,
        numeric: Numeric = "decimal",
        catalog: Catalog | None = None,
    ) -> None: ...
    @property
    def relations(self) -> dict[int, Relation]: ...
    @property
    def unknown_types(self) -> frozenset[int]: ...
    def add_types(self, infos: Iterable[TypeInfo]) -> None: ...
    def register_loader(
        self, type: int | str, *, text: Loader | None = None, binary: Loader | None = None
    ) -> None: ...
    def decode(self, payload: Payload) -> Message | Keepalive | None: ...
    def decode_many(self, payloads: Iterable[Payload]) -> list[Message | Keepalive]: ...
    def decode_run(
        self, payloads: Sequence[Payload], start: int = 0
    ) -> tuple[list[Change], int, Message | Keepalive | ProtocolError | None]: ...
    def copy_rows(self, relation: Relation, data: Payload) -> list[Any]: ...
