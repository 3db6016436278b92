"""`apexbridge config`, as it is typed, against a real hub."""

import os
import subprocess
from pathlib import Path

import trio

from tests.harness.house import House, house
from tests.harness.process import PYTHON, ROOT


async def run(home: House, *words: str) -> tuple[int, str, str]:
    key = home.admin.headers["Authorization"].removeprefix("Bearer ")
    env = {**os.environ, "APEXBRIDGE_URL": home.hub.url, "APEXBRIDGE_KEY": key}
    done = await trio.run_process(
        [PYTHON, "-m", "apexbridge_trio", "config", *words],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_a_value_is_set_looked_at_compared_and_taken_back(tmp_path: Path) -> None:
    async with house(tmp_path, "[chat]\nmax_rounds = 8  # few\n") as home:
        code, said, _ = await run(home, "set", "chat.max_rounds", "4", "server.bind", "127.0.0.1:1")
        assert (code, said.splitlines()[1:]) == (
            0,
            [
                "server.bind: in force once the hub is started again",
                "chat.max_rounds: in force for what begins now",
            ],
        )
        assert (await run(home, "get", "chat.max_rounds"))[1] == "4\n"
        code, said, told = await run(home, "set", "chat.max_round", "3")
        assert (code, said) == (2, "")
        assert "chat.max_round: unknown key; did you mean max_rounds?" in told
        assert (await run(home, "get", "chat.max_round"))[0] == 5
        _, said, _ = await run(home, "diff")
        assert {"-max_rounds = 8  # few", "+max_rounds = 4  # few"} <= set(said.splitlines())
        _, said, _ = await run(home, "history")
        first = said.splitlines()[-1].split()[0]
        assert first.startswith("1-")
        assert (await run(home, "rollback", first))[0] == 0
        assert (
            await trio.Path(tmp_path / "hub" / "config.toml").read_text() == "[chat]\nmax_rounds = 8  # few\n"
        )
        await trio.Path(tmp_path / "bad.toml").write_text("[chat]\nmax_rounds = 0\n")
        code, said, told = await run(home, "validate", str(tmp_path / "bad.toml"))
        assert (code, told) == (1, f"{tmp_path}/bad.toml:2: chat.max_rounds: expected an integer >= 1\n")
        assert (await run(home, "rollback", "99-0"))[0] == 5
        assert (await run(home, "set", "chat.max_rounds"))[0] == 2
