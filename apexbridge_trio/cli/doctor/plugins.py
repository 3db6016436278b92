"""Plugins: loaded as the hub would load them, and nothing kept."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from apexbridge_trio.cli.doctor.finding import Finding, Said, ok, warn
from apexbridge_trio.composition import load_plugins
from apexbridge_trio.config import Config


def plugin_findings(config: Config) -> Iterator[Finding]:
    """Look at every plugin; the code of inline ones is imported, none is run."""
    with TemporaryDirectory() as place:
        plugins = load_plugins(config, Path(place))
    for fault in plugins.faults:
        hint = Said(
            "apexbridge plugins check DIR, once it is put right.",
            "改正后用 apexbridge plugins check DIR 验证。",
        )
        yield warn("plugins", Said(f"left out: {fault}", f"未加载：{fault}"), hint)
    for name, note in plugins.notes.items():
        hint = Said(
            "It runs without that limit; plugins.strict = true leaves it out instead.",
            "它会在没有该限制的情况下运行；设置 plugins.strict = true 则不加载它。",
        )
        yield warn("plugins", Said(f"{name}: {note}", f"{name}：{note}"), hint)
    count = len(plugins.offer.plugins)
    yield ok("plugins", f"{count} can be loaded", f"可加载 {count} 个插件")
