"""Messages split by hand, as the yardstick does it, values by psycopg's own loaders."""

from __future__ import annotations

from psycopg.adapt import Transformer
from psycopg.pq import Format

from .handwritten import Decoder as Handwritten


class Decoder(Handwritten):
    """As the yardstick's, with the loaders of psycopg (in C, where psycopg has them in C)."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = Transformer(None)

    def converters(self, oid: int) -> tuple[object, object]:
        get = self.transformer.get_loader
        return get(oid, Format.TEXT).load, get(oid, Format.BINARY).load
