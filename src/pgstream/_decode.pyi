from collections.abc import Callable, Iterable
from typing import Any, Literal

from .messages import Keepalive, Message, Payload, Relation
from .rows import RowFactory

class Decoder:
    def __init__(
        self,
        *,
        row_factory: RowFactory = ...,
        values: Literal["typed", "text"] = "typed",
        json_loads: Callable[[str], Any] = ...,
    ) -> None: ...
    @property
    def relations(self) -> dict[int, Relation]: ...
    def decode(self, payload: Payload) -> Message | Keepalive | None: ...
    def decode_many(self, payloads: Iterable[Payload]) -> list[Message | Keepalive]: ...
