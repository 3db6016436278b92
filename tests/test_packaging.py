"""`make install` puts a hub that runs below any root, and `make uninstall` takes away exactly that."""

import os
import re
import subprocess
from pathlib import Path

import httpx
import trio

from tests.harness import process
from tests.harness.process import ROOT

NET_S = 300.0  # a safety net, not a bound that is tested


def make(*words: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=NET_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def _be_patient(lib: Path) -> None:
    """Let the plugin's process take the time that a busy machine needs to start one."""
    (file,) = lib.rglob("plugins/calculator/plugin.toml")
    text = file.read_text("utf-8")
    assert "\nmax_execution_s = 10\n" in text
    file.write_text(text.replace("\nmax_execution_s = 10\n", f"\nmax_execution_s = {NET_S}\n"), "utf-8")


async def test_what_is_installed_runs_and_is_uninstalled_to_the_last_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    others = root / "opt/home/bin/other"
    others.parent.mkdir(parents=True)
    others.touch()
    where = (f"DESTDIR={root}", "PREFIX=/opt/home")
    await trio.to_thread.run_sync(make, "install", *where)

    unit = (root / "opt/home/lib/systemd/system/apexbridge.service").read_text("utf-8")
    assert "\nExecStart=/opt/home/bin/apexbridge serve\n" in unit
    lib, config = root / "opt/home/lib/apexbridge", root / "etc/apexbridge/config.toml"
    launcher = root / "opt/home/bin/apexbridge"
    assert launcher.read_text("utf-8").startswith("#!/opt/home/lib/apexbridge/bin/python3 -I\n")
    assert config.read_text("utf-8") == (ROOT / "config.toml").read_text("utf-8")
    doc = root / "opt/home/share/doc/apexbridge"
    for page in (doc / "README.md", doc / "README.zh.md"):
        links = re.findall(r"\]\(([^)#:]+)[)#]", page.read_text("utf-8"))
        assert [link for link in links if not (doc / link).is_file()] == []
    _be_patient(lib)
    # Not where it will be, so its interpreter is named; nothing of this checkout may be found by it.
    command = [str(lib / "bin/python3"), "-I", str(launcher), "serve", "--bind", "127.0.0.1:0"]
    (tmp_path / "state").mkdir()
    env = {"STATE_DIRECTORY": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    async with process.process(*command, env=env) as hub, httpx.AsyncClient(trust_env=False) as client:
        body = {"model": "apex-intents", "messages": [{"role": "user", "content": "what is 6 times 7"}]}
        answer = await client.post(f"{hub.url}/v1/chat/completions", json=body, timeout=NET_S)
        assert "42" in answer.json()["choices"][0]["message"]["content"]  # from a plugin's own process
        mapped = await trio.Path(f"/proc/{hub.process.pid}/maps").read_text("ascii")
        assert str(lib) in mapped
        assert str(ROOT / ".venv") not in mapped

    config.write_text("# mine\n", "utf-8")
    await trio.to_thread.run_sync(make, "uninstall", *where)
    assert files(root) == {"etc/apexbridge/config.toml", "opt/home/bin/other"}
    await trio.to_thread.run_sync(make, "uninstall", *where, "PURGE=1")
    assert files(root) == {"opt/home/bin/other"}
    assert {path.name for path in (root / "opt/home").iterdir()} == {"bin"}
