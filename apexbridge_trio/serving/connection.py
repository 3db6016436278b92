"""One connection, from accept to close."""

from typing import Final

import trio
from hypercorn.events import Closed, RawData

from apexbridge_trio.errors import ApexError
from apexbridge_trio.serving.call import Calls
from apexbridge_trio.serving.http import Address, HttpProtocol
from apexbridge_trio.serving.phase import Patience
from apexbridge_trio.serving.site import Site
from apexbridge_trio.serving.wire import Wire

READ_BYTES: Final = 64 * 1024


class Connection:
    """The reader of one connection, and the nursery of what it asks for.

    Its faults end in `run`, whoever's they are. Cancellation: the requests are cancelled, nothing is
    said to the peer, and the stream is closed.

    Args:
        site: The server.
        stream: Any stream of bytes; it is closed in the end.
        client: The peer's address.
        server: Ours.
    """

    def __init__(self, site: Site, stream: trio.abc.Stream, client: Address, server: Address) -> None:
        self._site = site
        self._stream = stream
        self._client = client
        self._server = server
        self._patience = Patience(site.limits)
        self._protocol: HttpProtocol | None = None

    async def run(self, refusal: ApexError | None = None) -> None:
        """Serve until the peer is gone and its requests have ended.

        Args:
            refusal: The answer to whatever is asked.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._protocol = self._open_protocol(nursery, refusal)
                await self._read(self._protocol)
        except* Exception as crash:  # noqa: BLE001 - the trust boundary of a connection
            self._site.on_fault("connection", crash)
        finally:
            await trio.aclose_forcefully(self._stream)

    async def drain(self) -> None:
        """End as soon as what is in flight allows; does not wait for it."""
        if self._protocol is not None:
            await self._protocol.drain()

    def _open_protocol(self, nursery: trio.Nursery, refusal: ApexError | None) -> HttpProtocol:
        site = self._site
        return HttpProtocol(
            site,
            Wire(self._stream, nursery, site.limits.send_timeout_s, self._wake),
            Calls(nursery, site.on_fault),
            self._patience,
            self._client,
            self._server,
            refusal,
        )

    def _wake(self) -> None:
        self._patience.scope.cancel(reason="the connection is lost")

    async def _read(self, protocol: HttpProtocol) -> None:
        while not protocol.wire.is_lost:
            with self._patience.renew():
                await self._read_on(protocol)
            if self._patience.is_over and not protocol.wire.is_lost:
                await protocol.on_silence()
        await protocol.handle(Closed())

    async def _read_on(self, protocol: HttpProtocol) -> None:
        while not protocol.wire.is_lost:
            if protocol.is_behind:
                await protocol.go_on()
            else:
                await self._read_once(protocol)
            pause_s = protocol.pace.pause_s()
            if pause_s or protocol.is_behind:
                await trio.sleep(pause_s)

    async def _read_once(self, protocol: HttpProtocol) -> None:
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
            protocol.wire.break_off(fault)
            return
        if data:
            await protocol.handle(RawData(bytes(data)))
        else:
            protocol.wire.lose()
