from collections.abc import Collection, Sequence
from typing import Literal

from ._decode import Decoder
from .errors import ProtocolError
from .messages import Keepalive, Message, Payload
from .types import Catalog, Numeric

class JSONDecoder(Decoder):
    def __init__(
        self,
        *,
        tables: Collection[tuple[str, str]] = (),
        values: Literal["typed", "text"] = "typed",
        numeric: Numeric = "decimal",
        catalog: Catalog | None = None,
    ) -> None: ...
    def decode_run(  # type: ignore[override]
        self, payloads: Sequence[Payload], start: int = 0
    ) -> tuple[list[bytes], int, Message | Keepalive | ProtocolError | None]: ...
