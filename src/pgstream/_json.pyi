from collections.abc import Sequence
from typing import Literal

from ._decode import Decoder
from .errors import ProtocolError
from .messages import Change, Keepalive, Message, Payload
from .types import Catalog, Numeric

class JSONDecoder(Decoder):
    @property
    def written(self) -> int: ...
    def __init__(
        self,
        *,
        values: Literal["typed", "text"] = "typed",
        numeric: Numeric = "decimal",
        catalog: Catalog | None = None,
    ) -> None: ...
    def decode_run(
        self, payloads: Sequence[Payload], start: int = 0
    ) -> tuple[list[Change], int, Message | Keepalive | ProtocolError | None]: ...
