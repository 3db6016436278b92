"""Fetch one page of an allowed host and return its text: ``{"url": …}`` on stdin."""

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

# The plugin runs from its folder, without the hub's package.
from door import Door, Refused
from fetching import Fetcher
from page import read_page

# A model reads it; 20,000 Chinese characters are 60 KB of JSON, just under the plugin's limit.
MAX_CHARACTERS = 20_000
# Under the plugin's max_execution_s, so that who waits gets a reason.
TIMEOUT_S = 20.0


def main() -> int:
    """Do one call."""
    url = str(json.load(sys.stdin)["url"])
    try:
        answer = fetch(url, os.environ)
    except Refused as fault:
        answer = {"status": "error", "error": str(fault)}
    print(json.dumps(answer, ensure_ascii=False))  # noqa: T201  # this is how a program answers
    return 0


def fetch(url: str, env: Mapping[str, str]) -> dict[str, Any]:
    """Fetch a page and say what is on it.

    Raises:
        Refused: It may not be fetched, or it could not be.
    """
    door = Door(env.get("HOSTS", "").replace(",", " ").split())
    answer = Fetcher(door, deadline=time.monotonic() + TIMEOUT_S).get(url)
    page = read_page(answer.body, answer.content_type)
    return {
        "url": answer.url,
        "title": page.title,
        "text": page.text[:MAX_CHARACTERS],
        "is_cut": answer.is_cut or len(page.text) > MAX_CHARACTERS,
    }


if __name__ == "__main__":
    sys.exit(main())
