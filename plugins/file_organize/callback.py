"""Tell the hub how a task goes: ``POST <CALLBACK_BASE_URL>/<plugin>/<taskId>``."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# Seconds before the result is sent again while the hub is away; a restart takes less than all of them.
AGAIN_AFTER_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
TIMEOUT_S: Final = 10.0

# A proxy of the environment can not reach this machine's own loopback.
_direct: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Callback:
    """Where one task reports to. The address carries the task's token and is not shown."""

    url: str

    @classmethod
    def of_environment(cls, env: Mapping[str, str], task_id: str) -> "Callback":
        """Return the address for a task, as the hub gave it to this process."""
        return cls(f"{env['CALLBACK_BASE_URL']}/{env['PLUGIN_NAME_FOR_CALLBACK']}/{task_id}")

    def progress(self, part: float, message: str) -> None:
        """Say how far it is, 0 to 1; nobody waits for it, so it is tried once."""
        self._sent({"status": "progress", "progress": round(part, 3), "message": message})

    def success(self, output: Mapping[str, Any]) -> None:
        """Bring the result."""
        self._bring({"status": "success", "output": output})

    def failure(self, error: str) -> None:
        """Say that there will be no result."""
        self._bring({"status": "failed", "error": error})

    def _bring(self, body: Mapping[str, Any]) -> None:
        for pause_s in AGAIN_AFTER_S:
            if self._sent(body):
                return
            time.sleep(pause_s)  # noqa: TID251  # a process of its own, with nothing else to do
        if not self._sent(body):
            _note("the result could not be brought")

    def _sent(self, body: Mapping[str, Any]) -> bool:
        """Send once; False if it is worth sending again."""
        text = json.dumps(body, ensure_ascii=False).encode()
        kind = {"Content-Type": "application/json"}
        asked = urllib.request.Request(self.url, text, kind)  # noqa: S310  # the hub gave the address
        try:
            with _direct.open(asked, timeout=TIMEOUT_S):
                return True
        except urllib.error.HTTPError as refused:
            _note(f"the callback was refused: {refused.code}")
            refused.close()
            return refused.code < 500 and refused.code != 429
        except OSError as fault:
            _note(f"the callback did not arrive: {type(fault).__name__}")
            return False


def _note(what: str) -> None:
    """Write a line for the hub's log."""
    sys.stderr.write(f"{what}\n")
