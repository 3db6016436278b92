"""Three tenants, 100,000 operations at random, nothing crosses: `make prove`."""

import os
import time
from pathlib import Path

import pytest
import trio

from tests.harness.tenants import open_tenants

pytestmark = pytest.mark.prove

OPERATIONS = int(os.environ.get("TENANT_OPERATIONS", "100000"))


async def test_nothing_crosses(tmp_path: Path, autojump_clock: object) -> None:
    began = time.monotonic()
    async with open_tenants(tmp_path, seed=int(os.environ.get("TENANT_SEED", "2026"))) as tenants:
        await tenants.run(OPERATIONS)
        print()
        print(tenants.figures())
        requests = len(tenants.owners)
        print(f"{OPERATIONS} operations in {time.monotonic() - began:.0f} s on {trio.current_time():.0f} s")
        print(f"of the virtual clock; {requests} ids of the hub's, each seen by its one tenant alone")
