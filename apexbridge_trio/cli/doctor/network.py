"""Where the hub listens, whether one is there and how it is, and whether providers can be reached."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import trio

from apexbridge_trio.cli.doctor.finding import Finding, Said, fail, ok, warn
from apexbridge_trio.config import Config, parse_bind, why_not_bound
from apexbridge_trio.config import Upstream as Entry
from apexbridge_trio.errors import ApexError, UpstreamBroken, UpstreamError, UpstreamRefused
from apexbridge_trio.upstream import Upstream

ASK_S: Final = 5.0
# Signed callbacks are refused beyond 5 minutes; a minute is more than any network takes.
SKEW_S: Final = 60.0


def hub_findings(config: Config, holder: str | None = None) -> Iterator[Finding]:
    """Look at the address: a hub that runs tells how it is, else it must be free to be bound.

    Args:
        config: Has the address.
        holder: The process that has the state directory; None: nobody has.
    """
    host, port = parse_bind(config.server.bind)
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # asked, not bound
    shown = f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}"
    if port == 0:
        yield ok("port", "any free port is taken", "将使用任意空闲端口")
        return
    try:
        reply = httpx.get(f"http://{shown}/health", timeout=ASK_S, trust_env=False)
        told = reply.json()
        is_hub = isinstance(told, dict) and "uptimeS" in told
    except (httpx.HTTPError, ValueError) as fault:
        told, is_hub = {}, False
        if isinstance(
            fault, httpx.ConnectError | httpx.ConnectTimeout
        ):  # or the address is another machine's
            yield _bindable(host, port) if holder is None else _elsewhere(holder, shown)
            return
    if not is_hub:
        hint = Said(
            f"ss -ltnp 'sport = :{port}' says which; or change server.bind.",
            f"用 ss -ltnp 'sport = :{port}' 查看，或修改 server.bind。",
        )
        yield fail("port", Said(f"another program listens at {shown}", f"{shown} 已被其他程序占用"), hint)
        return
    yield from _told(told, shown)
    if holder is None:
        yield _another(shown)


def _another(shown: str) -> Finding:
    said = Said(
        f"the hub at {shown} keeps its state elsewhere: what is said here of files is not about it",
        f"{shown} 的 hub 使用另一个状态目录：这里关于文件的结论与它无关",
    )
    hint = Said(
        "Name its directory: --state /var/lib/apexbridge for the system's hub.",
        "请指定它的目录：系统服务为 --state /var/lib/apexbridge。",
    )
    return warn("state", said, hint)


def _elsewhere(holder: str, shown: str) -> Finding:
    said = Said(
        f"a hub runs (process {holder}), and not at {shown}: how it is was not asked",
        f"有 hub 在运行（进程 {holder}），但不在 {shown}，无法询问其状态",
    )
    hint = Said(
        "systemctl cat apexbridge.socket, or its log, says where; server.bind may say the same.",
        "用 systemctl cat apexbridge.socket 或日志查看地址，并写入 server.bind。",
    )
    return warn("port", said, hint)


def _bindable(host: str, port: int) -> Finding:
    if fault := why_not_bound(host, port):
        hint = Said(
            "Change server.bind; ports below 1024 need root or systemd.",
            "请修改 server.bind；1024 以下端口需要 root 或 systemd。",
        )
        what = fault.strerror or str(fault)
        said = Said(f"{host}:{port} can not be bound: {what}", f"无法监听 {host}:{port}：{what}")
        return fail("port", said, hint)
    return ok("port", f"{host}:{port} is free; no hub runs there", f"{host}:{port} 空闲，没有 hub 在运行")


def _told(told: dict[str, Any], shown: str) -> Iterator[Finding]:
    """Return what a hub that runs says of itself."""
    said = Said(
        f"the hub {told['version']} at {shown} is {told['status']}",
        f"{shown} 的 hub {told['version']} 状态为 {told['status']}",
    )
    look = Said("The lines below, and its log, say why.", "原因见下列各行及其日志。")
    is_well = told["status"] == "ok"
    yield Finding("hub", "ok", said) if is_well else fail("hub", said, look)
    for part in told.get("dependencies", ()):
        # Providers are asked below, from here.
        if part.get("kind") == "upstream" or part["state"] == "ok":
            continue
        what = f"{part['name']}: {part['state']}, {part['detail']}"
        make = fail if part["state"] == "failing" else warn
        yield make("hub", Said(what, what), _HINTS.get(part["name"], look))


_HINTS: Final = {
    "store": Said("Look at the disk: df -h, dmesg.", "请检查磁盘：df -h、dmesg。"),
    "disk": Said("Make room on the disk.", "请腾出磁盘空间。"),
    "clock": Said("timedatectl set-ntp true", "timedatectl set-ntp true"),
    "plugins": Said(
        "apexbridge plugins says which, and their last errors.",
        "用 apexbridge plugins 查看是哪些插件及其最近的错误。",
    ),
    "nodes": Said(
        "apexbridge nodes says which, and since when.", "用 apexbridge nodes 查看是哪些节点及离线时间。"
    ),
}


async def upstream_findings(config: Config) -> list[Finding]:
    """Ask each provider for its models, side by side, and one of them for the time."""
    if not config.upstreams:
        return [
            ok(
                "upstreams",
                "none is configured; apex-intents answers",
                "未配置模型服务，由 apex-intents 应答",
            )
        ]
    found: dict[int, list[Finding]] = {}

    async def ask(place: int, entry: Entry) -> None:
        found[place] = [await _reached(entry), *await _skew(entry)]

    async with trio.open_nursery() as nursery:
        for place, entry in enumerate(config.upstreams):
            nursery.start_soon(ask, place, entry, name=f"ask {entry.name}")
    return [finding for place in sorted(found) for finding in found[place]]


async def _reached(entry: Entry) -> Finding:
    try:
        upstream = Upstream(entry)
    except ApexError as fault:
        return fail("upstreams", Said(fault.message, fault.message), _LOOK_AT_IT)
    try:
        names = await upstream.look()
    except UpstreamError as fault:
        said = Said(fault.message, f"模型服务 {entry.name}：{fault.message}")
        # One that lists nothing may answer all the same, if the config names its models.
        is_key_good = not (isinstance(fault, UpstreamRefused) and fault.upstream_status in {401, 403})
        is_there = isinstance(fault, UpstreamRefused | UpstreamBroken) and is_key_good and entry.models
        return warn("upstreams", said, _LOOK_AT_IT) if is_there else fail("upstreams", said, _LOOK_AT_IT)
    finally:
        upstream.close()
    return ok(
        "upstreams",
        f"{entry.name} is there, with {len(names)} models",
        f"{entry.name} 可用，有 {len(names)} 个模型",
    )


_LOOK_AT_IT: Final = Said(
    "Is it running, is base_url right, and the key good? curl BASE_URL/models",
    "请确认服务在运行、base_url 正确、密钥有效：curl BASE_URL/models",
)


async def _skew(entry: Entry) -> list[Finding]:
    """Compare this clock with a provider's; one that can not be asked says nothing of the clock."""
    try:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=ASK_S, proxy=entry.proxy or None) as client,
            client.stream("HEAD", entry.base_url) as reply,
        ):
            there = parsedate_to_datetime(reply.headers["date"]).timestamp()
    except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError, TypeError):
        return []
    skew_s = time.time() - there
    if abs(skew_s) <= SKEW_S:
        return []
    said = Said(
        f"this clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} that of {entry.name}",
        f"本机时钟比 {entry.name} {'快' if skew_s > 0 else '慢'} {abs(skew_s):.0f} 秒",
    )
    return [warn("clock", said, Said("timedatectl set-ntp true", "timedatectl set-ntp true"))]
