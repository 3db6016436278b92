"""Memory streams that close and are looked at as sockets are: without an await."""

from typing import Self

import trio
from trio.testing import memory_stream_pair


class MemoryStream(trio.abc.Stream):
    """One end of a connection in memory, with what the relay asks of a socket."""

    def __init__(
        self, stream: "trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]"
    ) -> None:
        self._out = stream.send_stream
        self._in = stream.receive_stream

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        near, far = memory_stream_pair()
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
        return await self._in.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()
