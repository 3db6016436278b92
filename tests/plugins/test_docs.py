"""The example that docs/plugins.md begins with is a plugin, and can be talked to."""

import json
import re
from pathlib import Path
from textwrap import dedent

from apexbridge_trio.intents import IntentModel
from tests.plugins.folders import call_tool, load

PAGE = Path(__file__).parents[2] / "docs/plugins.md"
BLOCK = re.compile(r"(?:^    .*\n|^\n(?=    ))+", re.MULTILINE)


async def test_the_example_of_the_page_works(tmp_path: Path) -> None:
    files, *others = [dedent(block) for block in BLOCK.findall(PAGE.read_text("utf-8"))]
    sentences = next(block for block in others if block.lstrip().startswith("[sentences"))
    _, manifest, code = re.split(r"# plugins/dice/\S+\n", files)
    folder = tmp_path / "plugins/dice"
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(manifest + sentences)
    (folder / "dice.py").write_text(code)
    plugins = load(tmp_path / "plugins", state=tmp_path / "state")
    assert plugins.faults == []
    body = {
        "messages": [{"role": "user", "content": "Please roll a coin."}],
        "tools": [{"function": {"name": "dice"}}],
    }
    async with IntentModel(plugins).open_answer(json.dumps(body).encode()) as answer:
        [call] = json.loads(await answer.receive())["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"sides": "2"}
    assert (await call_tool(plugins.tools["dice"], {"sides": "2"}))["shows"] in {1, 2}
