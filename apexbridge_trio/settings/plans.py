"""What a change would make of the config: read and checked, in a thread; nothing is changed yet."""

import tomllib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVarTuple, Unpack

import msgspec
import trio

from apexbridge_trio.config import ConfigFile, Source, find_needs
from apexbridge_trio.config.document import edited
from apexbridge_trio.config.lines import written
from apexbridge_trio.config.needs import Check
from apexbridge_trio.config.patch import MAX_DEPTH, depth_of, masks_in, merged, nulls_in, unmasked
from apexbridge_trio.errors import ConfigInvalid, ConfigRefused, ConfigStale
from apexbridge_trio.settings.change import Plan, refusal
from apexbridge_trio.settings.snapshot import Snapshot
from apexbridge_trio.store import RevisionRecord

Ts = TypeVarTuple("Ts")


class Planner:
    """Makes plans, one at a time: reading, parsing and checking would hold up the loop.

    Args:
        file: Where the config is.
    """

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self._refused_digest = ""
        self._thread = trio.CapacityLimiter(1)

    async def merge(self, before: Snapshot, patch: Any) -> Plan:
        """Plan a JSON merge patch, in plain values.

        Raises:
            ConfigStale: The file was edited, and is not what is in force.
            ConfigRefused: With each path that is wrong.
        """
        return await self._in_thread(self._merged, before, patch)

    async def restore(self, before: Snapshot, record: RevisionRecord) -> Plan:
        """Plan an earlier revision in the place of the file, also of one that was edited and refused.

        Raises:
            ConfigStale: As for `merge`.
            ConfigRefused: As for `merge`; also where a secret is needed that the history does not keep.
        """
        return await self._in_thread(self._restored, before, record)

    async def reread(self, before: Snapshot) -> Plan:
        """Plan what is in the file now; no file is not what there was, if there was one.

        Raises:
            ConfigRefused: As for `merge`.
        """
        return await self._in_thread(self._reread, before)

    async def say(self, before: Snapshot, text: str) -> Plan:
        """Plan a text in the place of the file.

        Raises:
            ConfigRefused: As for `merge`.
        """
        return await self._in_thread(self._said, before, text)

    async def write(self, plan: Plan) -> Source:
        """Put a plan's text into the file.

        Cancellation: it has been written, or it has not been begun.

        Raises:
            ConfigStale: The file was edited meanwhile.
            ConfigReadOnly: It may not be written.
            ConfigUnwritable: It can not be written now.
        """
        return await trio.to_thread.run_sync(self._file.write, plan.source, plan.text, limiter=self._thread)

    async def _in_thread(self, make: Callable[[Unpack[Ts]], Plan], *args: *Ts) -> Plan:
        try:
            return await trio.to_thread.run_sync(make, *args, limiter=self._thread)
        except ConfigInvalid as fault:
            raise refusal(fault, str(self._file.base)) from None

    def _merged(self, before: Snapshot, patch: Any) -> Plan:
        if not isinstance(patch, dict):
            raise ConfigRefused("A patch is a JSON object.")
        if depth_of(patch) > MAX_DEPTH:
            raise ConfigRefused("The patch is nested too deeply.")
        source = self._unedited(before)
        values = tomllib.loads(source.text)
        wanted = merged(values, unmasked(patch, values))
        _refuse_at(nulls_in(wanted), "null is no value here; leave the key out")
        _refuse_at(masks_in(wanted), "the mask stands for no value that is there; say the value")
        config = self._file.config_of_values(wanted, _needs(before))
        text = source.text if wanted == values else edited(source.text, values, wanted)
        return Plan(source, config, text)

    def _restored(self, before: Snapshot, record: RevisionRecord) -> Plan:
        source = self._unedited(before, self._refused_digest)
        lost = msgspec.json.decode(record.lost, type=list[str])
        why = "its value was a secret, which the history does not keep; set it with PATCH"
        if lost:
            raise ConfigRefused(f"{', '.join(lost)}: {why}", faults=[(path, 0, why) for path in lost])
        kept = tomllib.loads(record.text)
        values = unmasked(kept, tomllib.loads(before.source.text))
        for key in ("upstreams", "triggers", "plugins"):
            _refuse_at(masks_in(values.get(key), (key,)), why)
        text = record.text if values == kept else edited(record.text, kept, values)
        return Plan(source, self._file.config_of(text, _needs(before)), text)

    def _reread(self, before: Snapshot) -> Plan:
        source = self._file.read()
        # Noted before it is looked at: a rollback may put another file in the place of a refused one.
        self._refused_digest = source.digest
        if source.path is None and before.source.path is not None:
            # Nobody means all the defaults by it: keys would be needed no more, and no provider be there.
            raise ConfigInvalid(
                f"{before.source.path.name} is gone; what it said stays in force until the hub is started "
                "again. Put it back, or an empty file for the defaults."
            )
        return Plan(source, self._file.config_of(source.text, _needs(before)), source.text)

    def _said(self, before: Snapshot, text: str) -> Plan:
        return Plan(before.source, self._file.config_of(text, _needs(before)), text)

    def _unedited(self, before: Snapshot, also: str = "") -> Source:
        """Read the file again: it must be what is in force."""
        try:
            source = self._file.read()
        except ConfigInvalid as fault:
            raise ConfigStale(
                f"The config file can not be read any more: {refusal(fault, str(self._file.base)).message}"
            ) from None
        is_ours = source.path == before.source.path and source.digest == before.source.digest
        if not is_ours and source.digest != also:
            raise ConfigStale(
                "The config file was edited and is not in force: not yet, or it was refused (see the log)."
            )
        return source


def _needs(before: Snapshot) -> Check:
    return partial(find_needs, since=before.config)


def _refuse_at(places: Any, why: str) -> None:
    faults = [(written(place), 0, why) for place in places]
    if faults:
        told = "; ".join(f"{path}: {said}" for path, _, said in faults)
        raise ConfigRefused(f"The config stays as it is: {told}", faults=faults, param=faults[0][0])
