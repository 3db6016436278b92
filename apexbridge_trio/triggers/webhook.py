"""One webhook, sent once: signed as Standard Webhooks 1.0 has it, to an address that was looked at.

The host's name is resolved here, once, and the connection goes to the address that was looked at: a name that
leads elsewhere a moment later (DNS rebinding) leads nowhere. Redirects are never followed. Of the answer the
status counts; its body is not read, however long it is.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Literal
from urllib.parse import quote, urlsplit

import trio
from msgspec import Struct

from apexbridge_trio import __version__
from apexbridge_trio.addresses import is_public
from apexbridge_trio.config import Trigger
from apexbridge_trio.errors import ConfigInvalid, Forbidden, UpstreamError
from apexbridge_trio.protocol.signature import sign_webhook
from apexbridge_trio.relay import Connect, RelayPool
from apexbridge_trio.relay.route import PORTS
from apexbridge_trio.triggers.names import Names, NamesBusy, NameSilent
from apexbridge_trio.upstream.faults import retry_after_s

# For one attempt, whatever the other side does; Standard Webhooks recommends 15 to 30 seconds.
SEND_S: Final = 15.0
# Waits before the next attempt, as Standard Webhooks recommends; after the last one it is given up.
PAUSES_S: Final = (5.0, 30.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
# Who asks for more patience than that is asked again after a day all the same.
MOST_PATIENCE_S: Final = 86_400.0
# Of a name's addresses, so many are tried, each but the last for so long: a home whose IPv6 leads nowhere has
# such an address first.
MOST_TRIED: Final = 4
DIAL_S: Final = 2.5

Word = Literal["taken", "again", "refused", "gone"]
Resolve = Callable[[str, int], Awaitable[list[str]]]


class Answer(Struct, frozen=True):
    """What became of one attempt.

    Attributes:
        word: ``again``: it is worth another attempt; ``gone``: the other side wants no more of any.
        reason: For people; empty if it was taken.
        wait_s: As the other side wishes, before the next attempt.
    """

    word: Word
    reason: str = ""
    wait_s: float = 0.0


class Webhooks:
    """Sends webhooks.

    Args:
        resolve: Finds a host's addresses; None: by `Names`.
        dial: Opens TCP to an address.
    """

    def __init__(self, resolve: Resolve | None = None, dial: Connect = trio.open_tcp_stream) -> None:
        self.resolve = resolve or Names().resolve
        self.dial = dial

    async def send(self, trigger: Trigger, message_id: str, body: bytes, now: float) -> Answer:
        """Send one webhook once.

        Cancellation: at every point; the connection is closed in the step that leaves.

        Args:
            trigger: Has the address, and the secret.
            message_id: The same over all attempts.
            body: JSON.
            now: Seconds since the epoch.
        """
        parts = urlsplit(trigger.url)
        host = parts.hostname or ""
        try:
            with trio.fail_after(SEND_S):
                return await self._ask(trigger, _headers(trigger, message_id, body, now), body)
        except trio.TooSlowError:
            return Answer("again", f"{host} did not answer within {SEND_S:g} s")
        except OSError as fault:  # of the lookup; what opens connections has words of its own
            known = fault if isinstance(fault, NamesBusy | NameSilent) else "its host name is not known"
            return Answer("again", f"{host} can not be reached: {known}")
        except (Forbidden, ConfigInvalid) as fault:
            return Answer("refused", fault.message)
        except UpstreamError as fault:
            # What opens connections for models calls every peer an upstream.
            return Answer("again", fault.message.replace(f"Upstream {trigger.name}", host).rstrip("."))

    async def _ask(self, trigger: Trigger, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
        parts = urlsplit(trigger.url)
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (f"?{parts.query}" if parts.query else "")
        addresses = await self._looked_at(trigger, parts.hostname or "", parts.port or PORTS[parts.scheme])
        pool = RelayPool(
            f"{parts.scheme}://{parts.netloc}",
            name=trigger.name,
            connect_timeout_s=SEND_S,
            idle_timeout_s=SEND_S,
            connect=self._door(addresses),
            max_idle=0,
        )
        async with pool.open(b"POST", path.encode("ascii"), headers, body) as response:
            return read_status(parts.hostname or "", response.status, retry_after_s(response.headers) or 0.0)

    async def _looked_at(self, trigger: Trigger, host: str, port: int) -> list[str]:
        """Return where a host's name leads, once that may be gone to."""
        addresses = await self.resolve(host.encode("idna").decode("ascii"), port)
        allowed = {one.lower() for one in trigger.allow_private}
        if host.lower() not in allowed and not all(map(is_public, addresses)):
            raise Forbidden(f"{host} leads to a private address, and is not in allow_private")
        return addresses[:MOST_TRIED]

    def _door(self, addresses: list[str]) -> Connect:
        """Return what connects to what was looked at, whatever the name leads to by then."""

        async def connect(_host: str, port: int) -> trio.abc.Stream:
            for address in addresses[:-1]:
                try:
                    with trio.move_on_after(DIAL_S):
                        return await self.dial(address, port)
                except OSError:
                    continue  # the next may be reached; what the last one says is told
            return await self.dial(addresses[-1], port)

        return connect


def read_status(host: str, status: int, wait_s: float) -> Answer:
    """Say what an answer's status means."""
    reason = f"{host} answered {status}"
    if 200 <= status < 300:
        return Answer("taken")
    if status == 410:
        return Answer("gone", reason)
    if status in {408, 425, 429} or status >= 500:
        return Answer("again", reason, min(wait_s, MOST_PATIENCE_S))
    if 300 <= status < 400:
        return Answer("refused", f"{reason}; redirects are not followed")
    return Answer("refused", reason)


def pause_s(attempts: int, wait_s: float, jitter: Callable[[float, float], float]) -> float | None:
    """Return how long to wait after so many attempts, in seconds; None: there is no other."""
    if attempts > len(PAUSES_S):
        return None
    usual = PAUSES_S[attempts - 1]
    # Those that failed together do not come back together.
    return max(usual, wait_s) + jitter(0.0, usual / 4)


def _headers(trigger: Trigger, message_id: str, body: bytes, now: float) -> list[tuple[bytes, bytes]]:
    assert trigger.secret is not None  # the config was refused otherwise
    signature = sign_webhook(trigger.secret.reveal(), message_id, int(now), body)
    said = {
        "content-type": "application/json",
        "user-agent": f"apexbridge/{__version__}",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signature,
    }
    return [(name.encode(), value.encode()) for name, value in said.items()]
