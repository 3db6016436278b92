"""Ask a provider which models it has."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from apexbridge_trio.errors import UpstreamBroken, UpstreamSilent, UpstreamUnreachable
from apexbridge_trio.relay import tls_context
from apexbridge_trio.upstream.faults import Said, fault_of

if TYPE_CHECKING:
    import httpx

Transport = Callable[[], "httpx.AsyncBaseTransport"]
"""Makes what httpx connects with; tests put memory streams here."""

LOOK_S: Final = 5.0  # for the whole list; someone waits for `GET /v1/models`
MAX_LIST_BYTES: Final = 8388608  # OpenRouter's list, the longest known, is under 1 MiB; over it: broken


class _Listed(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[_Listed] | None  # null: Ollama without a model


class Catalogue:
    """Lists a provider's models, each time anew.

    Args:
        name: What errors call the provider.
        base_url: ``/models`` is asked below it.
        headers: Of each request, the key's among them.
        proxy: ``http://…``, or empty.
        transport: None: over TCP.
    """

    def __init__(
        self, name: str, base_url: str, headers: Mapping[str, str], proxy: str, transport: Transport | None
    ) -> None:
        self._name = name
        self._url = base_url.rstrip("/") + "/models"
        self._headers = headers
        self._proxy = proxy
        self._transport = transport

    async def look(self) -> list[str]:
        """Return the ids, in the provider's order.

        Cancellation: the connection is closed.

        Raises:
            UpstreamError: There is no list within `LOOK_S`.
        """
        import httpx

        status, body = 0, b""
        try:
            with trio.move_on_after(LOOK_S) as patience:
                status, body = await self._get(patience)
        except httpx.HTTPError as fault:
            raise UpstreamUnreachable(f"Upstream {self._name} does not list its models.") from fault
        if patience.cancelled_caught:
            raise UpstreamSilent(
                f"Upstream {self._name} lists no models within {LOOK_S:g} s and {MAX_LIST_BYTES >> 20} MiB."
            )
        if status != 200:
            raise fault_of(self._name, status, Said(), None)
        try:
            found = msgspec.json.decode(body, type=_List)
        except msgspec.DecodeError as fault:
            raise UpstreamBroken(f"Upstream {self._name} lists its models in no known form.") from fault
        return [model.id for model in found.data or ()]

    async def _get(self, patience: trio.CancelScope) -> tuple[int, bytes]:
        import httpx

        body = b""
        # A pool without a bound: httpcore's breaks for ever when requests that wait in it are cancelled.
        async with (
            httpx.AsyncClient(
                transport=self._transport() if self._transport else None,
                verify=tls_context() if self._url.startswith("https:") else False,
                limits=httpx.Limits(max_connections=None),
                proxy=self._proxy or None,
                trust_env=False,
                timeout=None,  # noqa: S113 - patience is the timeout
            ) as client,
            client.stream("GET", self._url, headers=self._headers) as response,
        ):
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_LIST_BYTES:
                    # Not left by break or raise: httpx's generators are only closed from within.
                    patience.cancel(reason="a list of models without end")
            return response.status_code, body
