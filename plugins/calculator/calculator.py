"""Work out one sum: ``{"expression": …}`` on stdin, the result on stdout."""

import json
import sys

# The plugin runs from its folder, without the hub's package.
from arithmetic import Impossible, evaluate, shown
from words import read, written


def main() -> int:
    """Do one call."""
    asked = str(json.load(sys.stdin)["expression"])
    try:
        signs = read(asked)
        value = evaluate(signs)
        answer = {"expression": written(signs), "result": shown(value), "exact": value.is_shown_exactly}
    except Impossible as fault:
        answer = {"status": "error", "error": str(fault)}
    print(json.dumps(answer, ensure_ascii=False))  # noqa: T201  # this is how a program answers
    return 0


if __name__ == "__main__":
    sys.exit(main())
