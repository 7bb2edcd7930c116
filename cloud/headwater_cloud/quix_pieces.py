"""Pieces of state in Quix: the store of one partition, through the checkpoint that is open (R24)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quixstreams.state import PartitionTransaction

from headwater_shared.errors import StartAgain

_NO_PREFIX = b""


class QuixPieces:
    """The pieces of one partition. What is set is in the changelog and in RocksDB once the checkpoint is committed."""

    def __init__(self, transaction: Callable[[], PartitionTransaction[bytes, bytes]]) -> None:
        """Take how to get the transaction of the open checkpoint."""
        self._transaction = transaction

    def get(self, name: str) -> bytes | None:
        """Read a piece.

        Raises:
            StartAgain: the store cannot be read; that is no record's fault.
        """
        try:
            found: bytes | None = self._transaction().get_bytes(name.encode(), _NO_PREFIX)
        except Exception as error:
            raise StartAgain(
                f"the state cannot be read: {type(error).__name__}: {error}",
                hint="check the disk; if it goes on, move the folder worker-N.state away: it is made anew from Kafka",
            ) from error
        return found

    def set(self, name: str, body: bytes) -> None:
        self._transaction().set_bytes(name.encode(), body, _NO_PREFIX)

    def delete(self, name: str) -> None:
        self._transaction().delete(name.encode(), _NO_PREFIX)
