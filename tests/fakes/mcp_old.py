"""An MCP server of the older kind (it begins with a handshake), with the standard library alone.

It tells its tools on two pages, some of them odd; `grow` adds one and says so unasked, `flood` sends
a line without an end, `gone` answers that the session is over, `listed` tells how often it has told
its tools, and `deaf` lets it never tell them again. With the word ``many`` it has ten thousand more,
with ``restless`` it says after each listing that they have changed.
"""

import json
import sys
from typing import Any

PAGES: list[list[dict[str, Any]]] = [
    [
        {"name": "ping", "inputSchema": {"type": "object"}},
        {"name": "a.b", "title": "Of both", "inputSchema": {"type": "object"}},
        {"name": "a/b", "inputSchema": {"type": "object"}},
        {"name": "bad", "inputSchema": {"type": "object", "properties": {"x": {"type": "no such type"}}}},
    ],
    [
        {"name": name, "inputSchema": {"type": "object"}}
        for name in ("grow", "flood", "gone", "listed", "deaf")
    ],
]
if "many" in sys.argv:
    odd = [
        {"name": "huge", "inputSchema": {"type": "object", "title": "x" * 70_000}},
        {"name": "wordy", "inputSchema": {"type": "object"}, "description": "x" * 20_000},
    ]
    plain = [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(10_000)]
    PAGES.append(odd + plain)
SEEN = {"listings": 0, "deaf": 0}


def write(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def call(name: str) -> dict[str, Any]:
    if name == "grow":
        PAGES[1].append({"name": "new", "inputSchema": {"type": "object"}})
        write(method="notifications/tools/list_changed")
    if name == "flood":
        while True:
            sys.stdout.write("x" * 65_536)
    if name == "deaf":
        SEEN["deaf"] = 1
        write(method="notifications/tools/list_changed")
    if name == "listed":
        return {"content": [{"type": "text", "text": str(SEEN["listings"])}]}
    return {"content": [{"type": "text", "text": "pong"}]}


def result(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        about = {"name": "old", "version": "1"}
        kept = {"protocolVersion": params["protocolVersion"], "serverInfo": about}
        return kept | {"capabilities": {"tools": {"listChanged": True}}}
    if method == "tools/list":
        page = int(params.get("cursor", 0))
        SEEN["listings"] += page == 0
        return {"tools": PAGES[page]} | ({"nextCursor": str(page + 1)} if PAGES[page + 1 :] else {})
    return call(params["name"]) if method == "tools/call" else None


for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked or (SEEN["deaf"] and asked["method"] == "tools/list"):
        continue
    params = asked.get("params", {})
    if params.get("name") == "gone":
        write(id=asked["id"], error={"code": -32600, "message": "Session terminated"})
    elif (answer := result(asked["method"], params)) is None:
        write(id=asked["id"], error={"code": -32601, "message": "Method not found"})
    else:
        write(id=asked["id"], result=answer)
        if asked["method"] == "tools/list" and "restless" in sys.argv:
            write(method="notifications/tools/list_changed")
