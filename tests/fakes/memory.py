"""Memory streams that close and are looked at as sockets are: without an await."""

from typing import Any, Self

import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair


class MemoryStream(trio.abc.Stream):
    """One end of a connection in memory, with what the relay asks of a socket."""

    def __init__(self, stream: "trio.StapledStream[Any, Any]") -> None:
        self._out = stream.send_stream
        self._in = stream.receive_stream

    @classmethod
    def pair(cls, *, lockstep: bool = False) -> tuple[Self, Self]:
        near, far = lockstep_stream_pair() if lockstep else memory_stream_pair()
        return cls(near), cls(far)

    @property
    def socket(self) -> Self:
        return self

    def is_readable(self) -> bool:
        incoming = self._in._incoming
        return bool(incoming._data) or incoming._closed

    def close(self) -> None:
        self._out.close()
        self._in.close()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._out.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._out.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        received: bytes | bytearray = await self._in.receive_some(max_bytes)
        return received

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()
