"""All plugins of the hub: what is offered now, what is kept up, and how that changes.

What is offered stands in one frozen `Offer`, exchanged as a whole and without an await, so nobody
ever sees half a change. A request goes on with the tools it began with: those of a plugin that was
changed meanwhile end what they do, and an MCP server that is not wanted any more is closed when its
last call has ended.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self

import trio
from msgspec import Struct
from msgspec.structs import replace

from apexbridge_trio import config
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins.manifest import Manifest
from apexbridge_trio.plugins.offer import Offer, OfferBuilder
from apexbridge_trio.plugins.ongoing import Ongoing
from apexbridge_trio.plugins.opener import CONFIG, Opener
from apexbridge_trio.plugins.opening import OPEN_S, Open, Opened, attempt, attempt_in_time, too_slow
from apexbridge_trio.plugins.permissions import RemindersOf
from apexbridge_trio.plugins.place import Place, Places, folders_of
from apexbridge_trio.plugins.plugin import Plugin
from apexbridge_trio.plugins.supervisor import Keeping, Standing, Supervisor
from apexbridge_trio.plugins.tally import Tally
from apexbridge_trio.plugins.tool import Tool
from apexbridge_trio.protocol.sentences import Sentences

log = get_logger("plugins")


class Wish(Struct, frozen=True):
    """What the config says of plugins; see `Plugins.load`."""

    directories: tuple[Path, ...]
    strict: bool
    kill_grace_s: float
    mcp: tuple[config.Mcp, ...]


class Plugins:
    """The plugins of some directories and of the config.

    Args:
        directories: Where to look; one that is missing holds no plugins.
        ongoing: Who owns the processes that go on after a pending answer.

    Attributes:
        directories: Where to look.
        moved: Set when the config has brought others; then it is another event.
        offer: What there is now.
        port: Where the hub listens, once it does; legacy plugins are told.
        disabled: Names of plugins that are not offered, whether there are such or not.
    """

    def __init__(self, directories: Sequence[Path], ongoing: Ongoing) -> None:
        self.directories = tuple(directories)
        self.moved = trio.Event()
        self.ongoing = ongoing
        self.offer = Offer()
        self.port = 0
        self.disabled: set[str] = set()
        self._places = Places()
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._supervisor = Supervisor()
        self._exchanged = trio.Event()
        # One reload after the other: what was read last is what stays.
        self._opening = trio.CapacityLimiter(1)
        self._opener: Opener
        self._open: Callable[[Path], Plugin | None]
        self._wish: Wish
        self._kept: Wish
        self._wished = trio.Event()

    @classmethod
    def load(
        cls,
        directories: Sequence[Path],
        *,
        state: Path,
        clock: Callable[[], datetime],
        strict: bool = False,
        kill_grace_s: float = 2.0,
        mcp: Sequence[config.Mcp] = (),
        reminders: RemindersOf | None = None,
        disabled: Iterable[str] = (),
    ) -> Self:
        """Open every folder that has a manifest; a bad one is a fault and the rest load.

        Plugin code is imported here, so it blocks: start-up only; code that hangs is a fault, too. Where
        two plugins or two tools have one name, the earlier directory wins, and inside it the alphabet.

        Args:
            directories: See `Plugins`.
            state: The hub's state directory; a plugin gets ``<state>/plugins/<name>``.
            clock: The time with the home's time zone.
            strict: Whether a plugin is left out when this machine can not hold it as its manifest wants.
            kill_grace_s: Seconds between SIGTERM and SIGKILL for a plugin's processes.
            mcp: Servers that the config mounts.
            reminders: What a plugin with that permission has, for who calls it; None: there are none here.
            disabled: Names of plugins that are not offered.
        """
        plugins = cls(directories, Ongoing())
        plugins.disabled.update(disabled)
        opener = Opener(
            state,
            clock,
            plugins.ongoing,
            port=lambda: plugins.port,
            on_tools=plugins.exchange,
            strict=strict,
            kill_grace_s=kill_grace_s,
            reminders=reminders,
        )
        plugins._opener, plugins._open = opener, opener.open
        plugins._wish = plugins._kept = Wish(plugins.directories, strict, kill_grace_s, tuple(mcp))
        folders, closed = folders_of(plugins.directories)
        for folder in folders:
            plugins._places.note(folder, attempt_in_time(folder, partial(opener.open, folder)))
        for directory, fault in closed.items():
            plugins._places.note(directory, fault)
        for entry in mcp:
            where = CONFIG / entry.name
            plugins._places.note(where, attempt(where, partial(opener.mount, entry)))
        plugins.exchange()
        return plugins

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep up what stays up, and own what goes on after a pending answer; when cancelled, all ends."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.ongoing.run, name="ongoing")
            await nursery.start(self._supervisor.run, name="supervisor")
            nursery.start_soon(self._follow, name="what the config wants")
            task_status.started()

    def configure(
        self, directories: Sequence[Path], *, strict: bool, kill_grace_s: float, mcp: Sequence[config.Mcp]
    ) -> None:
        """Want what another config says. It is opened in a moment, while `run` is there.

        What can not be opened is a fault of the offer. Nothing of what is running is stopped.
        """
        self._wish = Wish(tuple(directories), strict, kill_grace_s, tuple(mcp))
        self._wished.set()

    async def _follow(self) -> None:
        while True:
            await self._wished.wait()
            self._wished = trio.Event()
            if self._wish != self._kept:
                await self._carry_out(self._kept, self._wish)

    async def _carry_out(self, before: Wish, wish: Wish) -> None:
        """Open what is new or is to be held in another way, and offer the whole in one step."""
        opener = replace(self._opener, strict=wish.strict, kill_grace_s=wish.kill_grace_s)
        is_new = opener != self._opener
        known = () if is_new else before.directories
        entries = [entry for entry in wish.mcp if is_new or entry not in before.mcp]
        added = [directory for directory in wish.directories if directory not in known]
        folders, closed = await trio.to_thread.run_sync(folders_of, added, limiter=self._opening)
        opens: dict[Path, Open] = {folder: partial(opener.open, folder) for folder in folders}
        opens |= {CONFIG / entry.name: partial(opener.mount, entry) for entry in entries}
        found = await self._opened(opens)
        self._opener, self._open, self._kept = opener, opener.open, wish
        self._places.keep_only(wish.directories, {CONFIG / entry.name for entry in wish.mcp})
        for where, plugin in (found | closed).items():
            self._places.note(where, plugin)
        self.directories = wish.directories
        self.exchange()
        self.moved.set()
        self.moved = trio.Event()
        for fault in self.offer.faults:
            log.warning("plugin left out", reason=fault)
        log.info("the plugins are those of another config", opened=len(found))

    async def reload(self, folders: Iterable[Path]) -> list[Path]:
        """Open folders again, and offer what is in them now; returns those in which that is another.

        What can not be opened stays as it was, and is a fault. Nothing of what is running is stopped.

        Cancellation: all of the folders are changed, or none.
        """
        places = sorted(folders)
        found = await self._opened({folder: partial(self._open, folder) for folder in places})
        news = [folder for folder, plugin in found.items() if self._places.note(folder, plugin)]
        if not news:
            return []
        known = self.offer.faults
        self.exchange()
        for fault in self.offer.faults:
            if fault not in known:
                log.warning("plugin stays as it was", reason=fault)
        log.info("plugins are loaded anew", folders=[folder.name for folder in places])
        return news

    def exchange(self) -> None:
        """Put what the places hold into a new offer, at once."""
        built = OfferBuilder(self._tallies, self.is_on)
        wanted: list[Standing] = []
        for place in self._places.ordered(self.directories):
            if built.add(place):
                wanted += place.standing
        self.offer, self._tallies = built.offer(self.offer), built.tallies
        self._supervisor.want(wanted)
        self._exchanged.set()
        self._exchanged = trio.Event()

    def is_on(self, name: str) -> bool:
        """Tell whether a plugin of that name is offered."""
        return name not in self.disabled

    def switch(self, name: str, *, on: bool) -> None:
        """Offer a plugin again, or no more, at once.

        Switched off it takes no new call, not even of a turn that began with its tools; calls that
        run go on, and what it keeps up ends with the last of them.
        """
        (self.disabled.discard if on else self.disabled.add)(name)
        self.exchange()

    def found(self, name: str) -> Plugin | None:
        """Return a plugin of that name, switched off or not."""
        return self.offer.plugins.get(name) or self.offer.disabled.get(name)

    async def exchanged(self) -> None:
        """Wait until the offer is another one."""
        await self._exchanged.wait()

    def place(self, folder: Path) -> Place:
        """Return what a folder holds; nothing, if it is not known."""
        return self._places.get(folder)

    def keeping(self, plugin: Plugin) -> Keeping | None:
        """Return how what stays up of a plugin fares; None if nothing does, or nobody has begun yet."""
        return self._supervisor.keeping(plugin.standing) if plugin.standing else None

    def on_failed(self, failed: Callable[[str, str], None]) -> None:
        """Have somebody told of what is to stay up and ends too often: the plugin's name, and why."""
        self._supervisor.failed = failed

    def tallies_of(self, plugin: Plugin) -> list[Tally]:
        """Return the counts of its tools."""
        return [tally for (name, _), tally in self._tallies.items() if name == plugin.name]

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The offer's."""
        return self.offer.tools

    @property
    def sentences(self) -> Mapping[str, Mapping[str, Sentences]]:
        """The offer's."""
        return self.offer.sentences

    @property
    def faults(self) -> list[str]:
        """The offer's, and why an MCP server that was changed can not take its own place."""
        places = self._places.ordered(self.directories)
        due = [place.plugin for place in places if place.is_due and place.plugin]
        late = [(plugin.source, kept.last_error) for plugin in due if (kept := self.keeping(plugin))]
        return [*self.offer.faults, *(f"{source}: {error}" for source, error in late if error)]

    @property
    def manifests(self) -> Mapping[str, Manifest]:
        """By plugin, what was loaded."""
        return {name: plugin.manifest for name, plugin in self.offer.plugins.items()}

    @property
    def notes(self) -> Mapping[str, str]:
        """By plugin, what its manifest wants and this machine can not hold."""
        return {name: plugin.note for name, plugin in self.offer.plugins.items() if plugin.note}

    async def _opened(self, opens: Mapping[Path, Open]) -> dict[Path, Opened]:
        def open_all() -> dict[Path, Opened]:
            return {where: attempt(where, open_it) for where, open_it in opens.items()}

        # One that is left behind holds up the next change until it has ended.
        with trio.move_on_after(OPEN_S):
            return await trio.to_thread.run_sync(open_all, limiter=self._opening, abandon_on_cancel=True)
        return {where: too_slow(where, OPEN_S) for where in opens}
