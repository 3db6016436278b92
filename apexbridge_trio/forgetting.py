"""What is old is forgotten: lines of the audit, and keys that ended, after `audit.keep_days`.

Results and tasks have sweepers of their own (`pending`, `nodes`), for they go sooner. As there, nothing is
deleted while the clock is doubted.
"""

from functools import partial
from typing import Final

import trio

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.hub import Hub
from apexbridge_trio.log import get_logger

DAY_S: Final = 86_400.0
# A look costs a line of the audit if something is old; one a day is enough for what is kept for years.
LOOK_EVERY_S: Final = DAY_S
# After one that could not be done: the clock is doubted for an hour or a day, or the disk refuses.
AGAIN_S: Final = 3600.0

log = get_logger("forgetting")


async def forget_old(hub: Hub) -> None:
    """Forget what is older than the config of then says, once a day, until cancelled.

    Cancellation: a transaction that has begun is finished.
    """
    while True:
        is_done = hub.clock.forgets and await _forget(hub)
        await trio.sleep(LOOK_EVERY_S if is_done else AGAIN_S)


async def _forget(hub: Hub) -> bool:
    keep_s = hub.config.audit.keep_days * DAY_S
    try:
        for forget_some in (hub.audit.forget_some, hub.keyring.forget_some):
            while await hub.journal.post(partial(forget_some, keep_s)).wait():
                pass
    except StoreUnusable as fault:
        log.warning("what is old could not be forgotten", reason=fault.message)
        return False
    return True
