"""What ``plugins new`` writes: a plugin that works, with its test, to be changed from there.

The files beside this module are the templates: ``@NAME@``, ``@ENTRY@`` and ``@PROGRAM@`` are filled in.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct

from apexbridge_trio.cli.exits import Exit, Failure

FOLDER: Final = Path(__file__).parent


class Language(Struct, frozen=True):
    """One that a plugin can be begun in; the hub takes any program.

    Args:
        ending: Of its files.
        program: What runs them.
    """

    ending: str
    program: str


LANGUAGES: Final = {
    "python": Language("py", "python3"),
    "node": Language("mjs", "node"),
    "sh": Language("sh", "sh"),
}


def begin(name: str, kind: str, language: str, into: Path) -> Path:
    """Write the folder of a new plugin and return it; what is there is never touched.

    Raises:
        Failure: The folder is there already, or can not be made.
    """
    spoken = LANGUAGES[language]
    # Not after the plugin: calendar.py, or email.py, would stand in the way of Python's own.
    words = {"@NAME@": name, "@ENTRY@": f"main.{spoken.ending}", "@PROGRAM@": spoken.program}
    folder = into / name
    try:
        folder.mkdir(parents=True)
        for template, file in (
            (f"{kind}.toml", "plugin.toml"),
            (f"{kind}.{spoken.ending}.txt", words["@ENTRY@"]),
            (f"{kind}.test.txt", "test_plugin.py"),
        ):
            (folder / file).write_text(_filled((FOLDER / template).read_text("utf-8"), words), "utf-8")
    except FileExistsError:
        raise Failure(f"{folder} is there already", Exit.USAGE) from None
    except OSError as fault:
        raise Failure(f"{folder} can not be made: {fault.strerror}", Exit.USAGE) from None
    return folder


def _filled(text: str, words: dict[str, str]) -> str:
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text
