"""Hold what `make test` reached: branches of the whole, and of the rooms where nothing may be missed."""

import json
import sys
import tempfile
from pathlib import Path

from coverage import Coverage

WHOLE = 95.0
# Each line here can decide what is leaked, lost or said wrongly.
COMPLETE = ["protocol/", "flights.py", "circuit.py", "identity.py", "limits/"]


def main() -> int:
    """Print the report; 1 if a floor is not reached."""
    measured = Coverage()
    measured.combine(keep=False)
    measured.save()
    measured.report(show_missing=True, skip_covered=True, file=sys.stdout)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        measured.json_report(outfile=str(path))
        report = json.loads(path.read_text("utf-8"))
    faults = []
    if (whole := report["totals"]["percent_covered"]) < WHOLE:
        faults.append(f"the whole: {whole:.2f} % is below {WHOLE} %")
    for name, file in report["files"].items():
        room = name.removeprefix("apexbridge_trio/")
        reached = file["summary"]["percent_covered"]
        if room.startswith(tuple(COMPLETE)) and reached < 100:
            faults.append(f"{name}: {reached:.2f} % is below 100 %")
    print("\n".join(faults) or f"coverage holds: {whole:.2f} %")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
