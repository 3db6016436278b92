"""Python, the libraries, the clock, descriptors, and the system's unit."""

import resource
import shutil
import subprocess
import sys
import time
import zoneinfo
from collections.abc import Iterator
from typing import Final, Literal

from apexbridge_trio.cli.doctor.finding import Finding, Said, fail, ok, warn
from apexbridge_trio.clock import MADE
from apexbridge_trio.config import Config
from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.installation import Extra, has, remedy
from apexbridge_trio.plugins import machine_zone
from apexbridge_trio.serving import require_proved

UNIT: Final = "apexbridge.service"
# systemd answers at once, or hangs.
ASK_S: Final = 5.0


def runtime_findings(config: Config) -> Iterator[Finding]:
    """Look at what the hub runs on."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        yield ok("python", f"Python {version}", f"Python {version}")
    else:
        said = Said(f"the hub was not proved on Python {version}", f"hub 未在 Python {version} 上验证")
        yield fail("python", said, Said("Use 3.11, 3.12 or 3.13.", "请使用 3.11、3.12 或 3.13。"))
    try:
        require_proved()
    except ConfigInvalid as fault:
        yield fail("libraries", Said(fault.message, fault.message), _remedy())
    else:
        yield ok("libraries", "the libraries are those it was proved on", "依赖库版本与验证时一致")
    if config.plugins.mcp and not has("mcp"):
        said = Said("[[plugins.mcp]] needs the library mcp", "[[plugins.mcp]] 需要 mcp 库")
        yield fail("libraries", said, _remedy("mcp"))
    if config.tracing.endpoint and not has("otel"):
        said = Said("[tracing] needs the library opentelemetry", "[tracing] 需要 opentelemetry 库")
        yield fail("libraries", said, _remedy("otel"))
    yield _descriptors(config)


def _remedy(extra: Extra | Literal[""] = "") -> Said:
    command = remedy(extra)
    return Said(command, command)


def _descriptors(config: Config) -> Finding:
    # A relayed chat has two sockets, a plugin's call some pipes.
    wanted = config.limits.max_connections * 2 + 200
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY or most >= wanted:
        return ok("descriptors", f"{most} descriptors may be open", f"最多可打开 {most} 个文件描述符")
    said = Said(
        f"{most} descriptors may be open; limits.max_connections may need {wanted}",
        f"最多可打开 {most} 个文件描述符；limits.max_connections 可能需要 {wanted} 个",
    )
    hint = Said(
        f"LimitNOFILE={wanted} in the unit, or ulimit -n",
        f"在 unit 中设置 LimitNOFILE={wanted}，或 ulimit -n",
    )
    return warn("descriptors", said, hint)


def clock_findings(config: Config, now: float | None = None) -> Iterator[Finding]:
    """Look at the clock and the time zones; needs no network."""
    if (time.time() if now is None else now) < MADE:
        said = Said("the clock is not set", "系统时钟未设置")
        yield fail("clock", said, Said("timedatectl set-ntp true", "timedatectl set-ntp true"))
    else:
        yield ok("clock", "the clock is set", "系统时钟已设置")
    if not zoneinfo.available_timezones():
        said = Said("there are no time zones on this machine", "本机没有时区数据")
        yield fail("timezone", said, Said("apt install tzdata", "apt install tzdata"))
        return
    zone = config.plugins.timezone or machine_zone().key or "UTC"
    yield ok("timezone", f"the home's time zone is {zone}", f"家中时区为 {zone}")


def unit_findings() -> Iterator[Finding]:
    """Look at the system's unit, where there is systemd."""
    shown = _shown()
    if shown is None:
        yield ok("unit", "there is no systemd here", "本机没有 systemd")
    elif shown.get("LoadState") != "loaded":
        yield ok("unit", f"{UNIT} is not installed", f"未安装 {UNIT}")
    elif shown["ActiveState"] == "failed" or shown.get("SubState") == "auto-restart":
        hint = Said(f"journalctl -u {UNIT} -e", f"journalctl -u {UNIT} -e")
        yield fail("unit", Said(f"{UNIT} has failed", f"{UNIT} 运行失败"), hint)
    elif shown["ActiveState"] != "active" or shown.get("UnitFileState") == "disabled":
        said = Said(
            f"{UNIT} is {shown['ActiveState']} and {shown.get('UnitFileState')}",
            f"{UNIT} 状态为 {shown['ActiveState']}，{shown.get('UnitFileState')}",
        )
        hint = Said(f"systemctl enable --now {UNIT}", f"systemctl enable --now {UNIT}")
        yield warn("unit", said, hint)
    else:
        yield ok("unit", f"{UNIT} is active", f"{UNIT} 正在运行")


def _shown() -> dict[str, str] | None:
    program = shutil.which("systemctl")
    if program is None:
        return None
    command = [program, "show", UNIT, "--property=LoadState,ActiveState,SubState,UnitFileState"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)  # noqa: S603  # our own words
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
