"""The config, the state directory, secrets: there, readable, and by nobody else."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from apexbridge_trio.cli.doctor.finding import Finding, Said, fail, ok, owner_of, warn
from apexbridge_trio.config import Config, find_secret_file, is_readable_by_others, load
from apexbridge_trio.errors import ConfigInvalid

LOW_BYTES: Final = 256 * 1024 * 1024


def config_findings(path: Path, env: Mapping[str, str]) -> tuple[list[Finding], Config]:
    """Look at the config; one that can not be used is replaced by the defaults for what follows."""
    try:
        loaded = load(path, env=env)
    except ConfigInvalid as fault:
        hint = Said(
            "Put it right; `apexbridge check` says whether it is.", "请改正；用 `apexbridge check` 验证。"
        )
        lines = str(fault).splitlines()
        return [fail("config", Said(line, line), hint) for line in lines], Config()
    found = [ok("config", f"{path} can be used", f"{path} 可以使用")]
    if _mode(path) & stat.S_IWOTH:
        said = Said(f"{path} can be changed by every user", f"{path} 任何用户都可以修改")
        found.append(warn("config", said, Said(f"chmod o-w {path}", f"chmod o-w {path}")))
    return found, loaded


def state_findings(state: Path) -> Iterator[Finding]:
    """Look at the state directory and what is in it."""
    if not state.exists():
        yield ok("state", f"{state} will be made at the first start", f"{state} 将在首次启动时创建")
        return
    if is_read_only(state):
        hint = Said("Mount it for writing; `dmesg` says why it is not.", "请以可写方式挂载；原因见 `dmesg`。")
        yield fail("disk", Said("the disk is mounted read-only", "磁盘以只读方式挂载"), hint)
        return  # nobody can write there: neither another user nor another owner would mend it
    if not state.is_dir() or not os.access(state, os.R_OK | os.W_OK | os.X_OK):
        owner = Said(
            f"Run this as the hub's user, or: chown the directory (it is of user {owner_of(state)}).",
            f"请以运行 hub 的用户执行，或修改目录属主（现属主为 {owner_of(state)}）。",
        )
        yield fail("state", Said(f"{state} can not be written", f"{state} 无法写入"), owner)
        return
    if _mode(state) & (stat.S_IRWXG | stat.S_IRWXO):
        said = Said(f"{state} is open to other users", f"{state} 对其他用户开放")
        yield warn("state", said, Said(f"chmod 700 {state}", f"chmod 700 {state}"))
    else:
        yield ok("state", f"{state} is the hub's own", f"{state} 仅 hub 可访问")
    yield from _user_findings(state)
    yield _disk_finding(state)


def _user_findings(state: Path) -> Iterator[Finding]:
    if os.geteuid() == 0 and state.stat().st_uid != 0:
        who = owner_of(state)
        said = Said(
            f"you are root: what {who}, as whom the hub runs, may not read or write is not seen",
            f"当前为 root：hub 的运行用户 {who} 无权访问的内容不会被发现",
        )
        cure = f"sudo -u {who} apexbridge doctor --state {state}"
        yield warn("user", said, Said(cure, cure))


def _disk_finding(state: Path) -> Finding:
    found = os.statvfs(state)
    free = found.f_bavail * found.f_frsize
    said = Said(f"{free >> 20} MiB are free", f"剩余 {free >> 20} MiB")
    if found.f_files and not found.f_favail:
        hint = Said("df -i says where; delete some of many small files.", "用 df -i 查看，并删除大量小文件。")
        return fail("disk", Said("the disk takes no more files", "磁盘无法再创建文件（inode 用尽）"), hint)
    if free > LOW_BYTES:
        return Finding("disk", "ok", said)
    hint = Said(
        "Make room: results.keep_days keeps fewer results, journalctl --vacuum-size=200M less of the log.",
        "请腾出空间：减小 results.keep_days，或用 journalctl --vacuum-size=200M 清理日志。",
    )
    return warn("disk", said, hint) if free else fail("disk", said, hint)


def is_read_only(path: Path) -> bool:
    """Tell whether nothing can be written where something is, by nobody."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def secret_findings(config: Config, beside: Path, env: Mapping[str, str]) -> Iterator[Finding]:
    """Look at who may read the files that keys are in; that they can be read the config has shown."""
    names = [one.api_key_file for one in config.upstreams if one.api_key_file]
    names += [one.api_key_file for one in config.plugins.mcp if one.api_key_file]
    names += [one.secret_file for one in config.triggers if one.secret_file]
    names += [name for files in config.callbacks.signing_secret_files.values() for name in files]
    for path in {find_secret_file(name, beside=beside, env=env) for name in names}:
        if is_readable_by_others(path):
            said = Said(f"{path} can be read by every user", f"{path} 任何用户都可以读取")
            yield warn("secrets", said, Said(f"chmod 600 {path}", f"chmod 600 {path}"))
        else:
            yield ok("secrets", f"{path} is kept from other users", f"{path} 其他用户无法读取")


def _mode(path: Path) -> int:
    return path.stat().st_mode
