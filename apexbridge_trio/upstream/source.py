"""One model provider, as a `Source` of answers."""

import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final, Literal, TypedDict

import trio

from apexbridge_trio import __version__, config
from apexbridge_trio.circuit import Circuit, Rests, State
from apexbridge_trio.errors import ConfigInvalid, UpstreamBroken, UpstreamBusy, UpstreamError, UpstreamLimited
from apexbridge_trio.protocol.answer import Asked, unasked
from apexbridge_trio.relay import Connect, RelayPool, RelayResponse, open_plain
from apexbridge_trio.upstream.discovery import Catalogue, Transport
from apexbridge_trio.upstream.faults import (
    fault_of,
    is_worth_repeating,
    retry_after_s,
    said_in,
    says_it_lives,
)

BACKOFF_S: Final = 0.25  # before the second attempt at most; doubled for each further one
MAX_BACKOFF_S: Final = 8.0
# A longer `Retry-After` is told to the client instead: its own patience is not known here.
PATIENCE_S: Final = 10.0
FRESH_S: Final = 60.0  # a list of models is taken as it is for so long
FAILED_LOOK_S: Final = 10.0  # and after a look that failed: a server just started is soon found
MAX_REFUSAL_BYTES: Final = 65536  # of an error's body; the rest is not read, and costs the connection
REFUSAL_S: Final = 5.0  # to read it: the status alone is told if the body does not come

# The relay writes these itself; a second one would be smuggling.
_RELAY_OWNS: Final = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Health(TypedDict):
    """One line of ``GET /health``."""

    name: str
    state: Literal["ok", "failing", "open", "unknown"]
    checkedAgeS: float | None
    detail: str


class UpstreamAnswer:
    """A provider's answer, undecoded. See `protocol.answer.Answer`."""

    def __init__(self, response: RelayResponse) -> None:
        self.is_stream: Final = (
            response.headers.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        )
        self.receive: Final = response.receive


class Upstream:
    """Asks one provider, and knows how it is.

    Args:
        entry: Its `[[upstreams]]` entry.
        connect: Opens TCP for chats; tests put memory streams here.
        transport: The same for what httpx asks.
        jitter: Draws between two bounds, as `random.uniform`.

    Attributes:
        name: What the config calls it.
        config: The entry.
        attempts: How many requests for chats ended so far in an answer (``ok``) or in which fault.
        retries: How many of them were made again after a fault.

    Raises:
        ConfigInvalid: An address or a header of the entry can not be used.
    """

    def __init__(
        self,
        entry: config.Upstream,
        *,
        connect: Connect = open_plain,
        transport: Transport | None = None,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name: Final = entry.name
        self.config: Final = entry
        self._key = entry.api_key.reveal() if entry.api_key else ""
        headers = _headers(entry, self._key)
        self._headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        self._relay = RelayPool(
            entry.base_url,
            name=entry.name,
            connect_timeout_s=entry.connect_timeout_s,
            idle_timeout_s=entry.idle_timeout_s,
            proxy=entry.proxy,
            connect=connect,
            max_idle=entry.max_concurrency,
        )
        self._slots = trio.CapacityLimiter(entry.max_concurrency)
        self._circuit = Circuit()
        self._rests = Rests()
        self._jitter = jitter
        self._catalogue = Catalogue(entry.name, entry.base_url, headers, entry.proxy, transport)
        self._listed: list[str] = []
        self._listed_until = float("-inf")
        self._one_look = trio.Lock()
        self._checked_at: float | None = None
        self._fault = ""
        self.attempts: dict[str, int] = {}
        self.retries = 0

    @asynccontextmanager
    async def open_answer(
        self, body: bytes, model: str = "", asked: Asked = unasked
    ) -> AsyncIterator[UpstreamAnswer]:
        """Ask with a whole ``/chat/completions`` body and hold the answer open inside the block.

        Waits for a slot of the provider's concurrency, then asks up to `attempts` times, as long as
        nothing was heard and the fault may pass. All of it is inside the caller's own deadline.

        Cancellation: at every point; the connection is closed in the step that leaves, the slot is
        free.

        Raises:
            UpstreamUnreachable: No connection, or it ended before the first byte.
            UpstreamBusy: The circuit is open, or the provider asks for more patience than there is.
            UpstreamLimited: The same, with this model.
            UpstreamRefused: The provider will not answer this request; `status` says whose fault it is.
            UpstreamError: It failed in another way, see `errors`.
        """
        slot = object()  # not the task: it may hold more than one answer of this provider
        try:
            self._slots.acquire_on_behalf_of_nowait(slot)  # one that is free costs no turn of the others
        except trio.WouldBlock:
            await self._slots.acquire_on_behalf_of(slot)
        try:
            async with AsyncExitStack() as attempt:
                yield await self._persist(attempt, body, model, asked)
        finally:
            self._slots.release_on_behalf_of(slot)

    async def models(self) -> list[str]:
        """Return the names of its models: the config's, else what it lists.

        A list is asked for at most once in `FRESH_S`, by one caller for all who wait; when that
        fails the last one is served, so a dead provider takes nothing away.

        Cancellation: who waits next looks in place of the one who was cancelled.
        """
        async with self._one_look:
            if not self.config.models and trio.current_time() >= self._listed_until:
                await self._look()
        return self.config.models or self._listed

    async def look(self) -> list[str]:
        """Ask it for its models now, whatever is known of it.

        Raises:
            UpstreamError: Why it has not told them.
        """
        return await self._catalogue.look()

    def state(self) -> Health:
        """Say how it was when it was last asked, for ``GET /health``."""
        now = trio.current_time()
        checked_at = self._checked_at
        return Health(
            name=self.name,
            state=self._state(now),
            checkedAgeS=None if checked_at is None else round(now - checked_at, 1),
            detail=self._fault,
        )

    @property
    def circuit(self) -> State:
        """Where its circuit stands."""
        return self._circuit.state(trio.current_time())

    @property
    def slots(self) -> trio.CapacityLimiterStatistics:
        """How much of its concurrency is taken, and who waits for it."""
        return self._slots.statistics()

    def close(self) -> None:
        """Close its idle connections; answers that are open close theirs when they end."""
        self._relay.close()

    def _state(self, now: float) -> Literal["ok", "failing", "open", "unknown"]:
        if self._circuit.state(now) != "closed":
            return "open"
        if self._checked_at is None:
            return "unknown"
        return "failing" if self._fault else "ok"

    async def _persist(
        self, attempt: AsyncExitStack, body: bytes, model: str, asked: Asked
    ) -> UpstreamAnswer:
        """Ask until there is an answer; what is open then belongs to the stack."""
        made = 0
        while True:
            made += 1
            now = trio.current_time()
            if wait_s := self._rests.wait_s(model, now):
                message = f"Upstream {self.name} has answered 429 to {model}, which is left alone until then."
                raise UpstreamLimited(message, retry_after_s=wait_s)
            if not self._circuit.admit(now):
                raise UpstreamBusy(self._why_not(), retry_after_s=self._circuit.wait_s(now))
            try:
                answer = await self._ask(attempt, body, asked)
            except UpstreamError as fault:
                asked("refused")
                await attempt.aclose()  # before the pause; nothing in it waits
                self._note(fault, model)
                pause_s = self._pause_s(fault, made)
                if pause_s is None:
                    raise
            else:
                self._note(None, model)
                return answer
            await trio.sleep(pause_s)
            self.retries += 1

    async def _ask(self, attempt: AsyncExitStack, body: bytes, asked: Asked) -> UpstreamAnswer:
        sent = partial(asked, "sent")
        opened = self._relay.open(b"POST", b"/chat/completions", self._headers, body, sent)
        response = await attempt.enter_async_context(opened)
        if not 200 <= response.status < 300:
            raise await self._refusal(response)
        if response.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UpstreamBroken(f"Upstream {self.name} answered in an encoding nobody asked for.")
        return UpstreamAnswer(response)

    async def _refusal(self, response: RelayResponse) -> UpstreamError:
        body = b""
        with trio.move_on_after(REFUSAL_S), suppress(UpstreamError):
            while len(body) < MAX_REFUSAL_BYTES and (piece := await response.receive()):
                body += piece
        wait_s = retry_after_s(response.headers)
        return fault_of(self.name, response.status, said_in(body, self._key), wait_s)

    def _pause_s(self, fault: UpstreamError, made: int) -> float | None:
        """Decide how long to wait before the next attempt; None: the fault is told."""
        wished_s = fault.retry_after_s or 0.0
        if made >= self.config.attempts or not is_worth_repeating(fault) or wished_s > PATIENCE_S:
            return None
        # Full jitter: those that failed together do not come back together.
        most_s = min(BACKOFF_S * 2 ** (made - 1), MAX_BACKOFF_S)
        pause_s = wished_s + self._jitter(0.0, most_s)
        is_worth_it = self._circuit.wait_s(trio.current_time() + pause_s) == 0
        return pause_s if is_worth_it else None

    def _note(self, fault: UpstreamError | None, model: str) -> None:
        """Learn from one attempt."""
        now = trio.current_time()
        word = fault.code if fault else "ok"
        self.attempts[word] = self.attempts.get(word, 0) + 1
        if fault is None or says_it_lives(fault):
            self._circuit.succeeded()
        else:
            self._circuit.failed(now)
        if fault and fault.retry_after_s and isinstance(fault, UpstreamLimited):
            self._rests.begin(model, now, fault.retry_after_s)
        elif fault and fault.retry_after_s:
            self._circuit.blocked(now, fault.retry_after_s)
        self._checked(fault)

    def _checked(self, fault: UpstreamError | None) -> None:
        self._checked_at = trio.current_time()
        is_its_own = fault is not None and (fault.status >= 500 or isinstance(fault, UpstreamBusy))
        self._fault = fault.message if fault and is_its_own else ""

    def _why_not(self) -> str:
        return f"Upstream {self.name} is left alone for now. {self._fault}".strip()

    async def _look(self) -> None:
        try:
            self._listed = await self._catalogue.look()
        except UpstreamError as fault:
            self._listed_until = trio.current_time() + FAILED_LOOK_S
            self._checked(fault)
        else:
            self._listed_until = trio.current_time() + FRESH_S
            self._checked(None)


def _headers(entry: config.Upstream, key: str) -> dict[str, str]:
    """Return what each request carries; the config's own headers come before ours."""
    ours = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "user-agent": f"apexbridge/{__version__}",
    }
    if key:
        ours["authorization"] = f"Bearer {key}"
    headers = ours | {name.lower(): value for name, value in entry.headers.items()}
    for name, value in headers.items():
        if name in _RELAY_OWNS or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ConfigInvalid(f"Upstream {entry.name}: the header {name!r} can not be sent.")
    return headers
