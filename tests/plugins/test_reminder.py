"""Reminders in people's words: what is understood, and that each caller has only their own."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.identity import Principal
from apexbridge_trio.plugins import Plugins
from tests.harness.world import content, open_world, say
from tests.plugins.folders import (
    ECHO,
    SHANGHAI,
    SHIPPED,
    SUNDAY,
    call_tool,
    load,
    shipped_module,
    write_plugin,
)
from tests.test_intents import Home

REMINDER = shipped_module("reminder")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=SHANGHAI)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("state"))


@pytest.mark.parametrize(
    ("said", "tool", "arguments"),
    [
        ("10分钟后提醒我喝水", "reminder_set", {"in": "10分钟", "text": "喝水"}),
        ("请在半小时后提醒我关火。", "reminder_set", {"in": "半小时", "text": "关火"}),
        ("提醒我两个小时后给妈妈打电话", "reminder_set", {"in": "两个小时", "text": "给妈妈打电话"}),
        ("明天早上8点提醒我吃药", "reminder_set", {"date": "明天", "time": "早上8点", "text": "吃药"}),
        ("提醒我下周三下午3点半开会", "reminder_set", {"date": "下周三", "time": "下午3点半", "text": "开会"}),
        ("每天晚上10点提醒我锁门", "reminder_set", {"every": "每天", "time": "晚上10点", "text": "锁门"}),
        ("每周一早上7点提醒我们倒垃圾", "reminder_set", {"every": "每周一", "time": "早上7点", "text": "倒垃圾"}),
        ("工作日早上7点半提醒我起床", "reminder_set", {"every": "工作日", "time": "早上7点半", "text": "起床"}),
        ("每30分钟提醒我站起来", "reminder_set", {"every": "每30分钟", "text": "站起来"}),
        ("晚上9点提醒我收衣服", "reminder_set", {"time": "晚上9点", "text": "收衣服"}),
        ("明天提醒我交电费", "reminder_set", {"date": "明天", "text": "交电费"}),
        ("我有哪些提醒", "reminder_list", {}),
        ("看看我的提醒", "reminder_list", {}),
        ("取消喝水的提醒", "reminder_remove", {"text": "喝水"}),
        ("不用再提醒我喝水了", "reminder_remove", {"text": "喝水"}),
        ("半个小时后叫我", "reminder_set", {"in": "半个小时", "text": "时间到了"}),
        ("两个半小时后提醒我接孩子", "reminder_set", {"in": "两个半小时", "text": "接孩子"}),
        ("1小时30分钟后提醒我关火", "reminder_set", {"in": "1小时30分钟", "text": "关火"}),
        ("明天早上八点提醒我开会", "reminder_set", {"date": "明天", "time": "早上八点", "text": "开会"}),
        ("记得明天下午提醒我寄快递", "reminder_set", {"date": "明天", "time": "下午", "text": "寄快递"}),
        ("到晚上8点的时候提醒我一下去倒垃圾", "reminder_set", {"time": "晚上8点", "text": "去倒垃圾"}),
        ("每周一9点提醒我倒垃圾", "reminder_set", {"every": "每周一", "time": "9点", "text": "倒垃圾"}),
        ("每周一三五早上7点提醒我跑步", "reminder_set", {"every": "每周一三五", "time": "早上7点", "text": "跑步"}),
        ("每晚十点提醒我锁门", "reminder_set", {"every": "每晚", "time": "十点", "text": "锁门"}),
        ("每半小时提醒我站起来", "reminder_set", {"every": "每半小时", "text": "站起来"}),
        ("每年3月5日提醒我妈妈生日", "reminder_set", {"every": "每年3月5日", "text": "妈妈生日"}),
        ("设一个提醒，明天早上8点开会", "reminder_set", {"date": "明天", "time": "早上8点", "text": "开会"}),
        ("帮我设个闹钟，明天早上7点", "reminder_set", {"date": "明天", "time": "早上7点", "text": "时间到了"}),
        ("6点半叫我起床", "reminder_set", {"part": "早上", "time": "6点半", "text": "起床"}),
        ("提醒我喝水", "reminder_set", {"text": "喝水"}),
        ("今天有什么提醒", "reminder_list", {}),
        ("取消提醒", "reminder_remove", {}),
        ("取消所有提醒", "reminder_remove", {"all": True}),
        ("remind me to take the bread out at 7", "reminder_set", {"text": "take the bread out", "time": "7"}),
        ("remind me every weekday at 8am to take pills", "reminder_set", {"every": "every weekday", "time": "8am", "text": "take pills"}),
        ("in half an hour remind me to check the oven", "reminder_set", {"in": "half an hour", "text": "check the oven"}),
        ("remind me in 1 hour 30 minutes to leave", "reminder_set", {"in": "1 hour 30 minutes", "text": "leave"}),
        ("remind me in twenty-five mins to leave", "reminder_set", {"in": "twenty-five mins", "text": "leave"}),
        ("Remind me in 10 minutes", "reminder_set", {"in": "10 minutes", "text": "Time is up"}),
        ("set a timer for 10 minutes", "reminder_set", {"in": "10 minutes", "text": "Time is up"}),
        ("set a reminder for 7pm to call Bob", "reminder_set", {"time": "7pm", "text": "call Bob"}),
        ("add a reminder to buy milk on Friday at 5pm", "reminder_set", {"text": "buy milk", "date": "on Friday", "time": "5pm"}),
        ("don't let me forget to call Anna at half past 6", "reminder_set", {"text": "call Anna", "time": "half past 6"}),
        ("remind me tomorrow morning to buy milk", "reminder_set", {"date": "tomorrow morning", "text": "buy milk"}),
        ("remind me tonight to take out the bins", "reminder_set", {"date": "tonight", "text": "take out the bins"}),
        ("remind me to feed the cat at 6 in the evening", "reminder_set", {"text": "feed the cat", "time": "6 in the evening"}),
        ("remind me on weekdays at 8 to leave", "reminder_set", {"every": "on weekdays", "time": "8", "text": "leave"}),
        ("remind me every Monday, Wednesday and Friday at 7 to run", "reminder_set", {"every": "every Monday, Wednesday and Friday", "time": "7", "text": "run"}),
        ("remind me to pay rent every month on the 1st", "reminder_set", {"text": "pay rent", "every": "every month on the 1st"}),
        ("wake me up at 6:30", "reminder_set", {"text": "Wake up", "part": "morning", "time": "6:30"}),
        ("remind me to call Anna", "reminder_set", {"text": "call Anna"}),
        ("remind me to read chapter 5", "reminder_set", {"text": "read chapter 5"}),
        ("what reminders do I have today", "reminder_list", {}),
        ("cancel all reminders", "reminder_remove", {"all": True}),
        ("Remind me in 20 minutes to call Anna", "reminder_set", {"in": "20 minutes", "text": "call Anna"}),
        ("please remind me to call Anna in 20 minutes", "reminder_set", {"in": "20 minutes", "text": "call Anna"}),
        ("Every weekday at 8:30 remind me to leave", "reminder_set", {"every": "Every weekday", "time": "8:30", "text": "leave"}),
        ("Remind me every day at 10 pm to lock the door", "reminder_set", {"every": "every day", "time": "10 pm", "text": "lock the door"}),
        ("remind me to pay rent tomorrow at 9 am", "reminder_set", {"text": "pay rent", "date": "tomorrow", "time": "9 am"}),
        ("Remind us on friday to buy bread", "reminder_set", {"date": "on friday", "text": "buy bread"}),
        ("What are my reminders?", "reminder_list", {}),
        ("which reminders do I have", "reminder_list", {}),
        ("Cancel the reminder to call Anna", "reminder_remove", {"text": "call Anna"}),
        ("delete my bread reminder", "reminder_remove", {"text": "bread"}),
    ],
)  # fmt: skip
async def test_what_is_said_is_understood(home: Home, said: str, tool: str, arguments: Any) -> None:
    assert await home.call(said) == (tool, arguments)


@pytest.mark.parametrize(
    ("asked", "when"),
    [
        ({"in": "10分钟"}, {"in": 600}),
        ({"in": "half an hour"}, {"in": 1800}),
        ({"in": "two weeks"}, {"at": "2026-12-06T12:00"}),
        ({"in": "3 days", "time": "9"}, {"at": "2026-11-25T09:00"}),
        ({"in": "a month"}, {"at": "2026-12-22T12:00"}),
        ({"in": "两年后"}, {"at": "2028-11-22T12:00"}),
        ({"part": "morning", "time": "5:30"}, {"at": "2026-11-23T05:30"}),
        ({"date": "tomorrow", "part": "morning", "time": "5:30"}, {"at": "2026-11-23T05:30"}),
        ({"date": "tomorrow", "part": "morning"}, {"at": "2026-11-23T08:00"}),
        ({"every": "weekday", "part": "morning", "time": "6:30"}, {"cron": "30 6 * * 1-5"}),
        ({"in": "十五分钟后"}, {"in": 900}),
        ({"date": "明天", "time": "早上8点"}, {"at": "2026-11-23T08:00"}),
        ({"date": "tomorrow"}, {"at": "2026-11-23T09:00"}),
        ({"date": "今晚", "time": "9点"}, {"at": "2026-11-22T21:00"}),
        ({"in": "1小时30分钟"}, {"in": 5400}),
        ({"in": "两个半小时"}, {"in": 9000}),
        ({"in": "1.5小时"}, {"in": 5400}),
        ({"in": "三刻钟"}, {"in": 2700}),
        ({"in": "an hour and a half"}, {"in": 5400}),
        ({"in": "two and a half hours"}, {"in": 9000}),
        ({"in": "1 hour and 30 minutes"}, {"in": 5400}),
        ({"in": "a couple of minutes"}, {"in": 120}),
        ({"in": "twenty-five mins"}, {"in": 1500}),
        ({"in": "a quarter of an hour"}, {"in": 900}),
        ({"date": "tonight"}, {"at": "2026-11-22T20:00"}),
        ({"date": "tonight", "time": "at 9"}, {"at": "2026-11-22T21:00"}),
        ({"date": "tonight", "time": "midnight"}, {"at": "2026-11-23T00:00"}),
        ({"date": "今晚", "time": "12点"}, {"at": "2026-11-23T00:00"}),
        ({"date": "今天", "time": "晚上12点"}, {"at": "2026-11-23T00:00"}),
        ({"time": "晚上12点"}, {"at": "2026-11-23T00:00"}),
        ({"time": "晚上1点"}, {"at": "2026-11-23T01:00"}),
        ({"time": "中午"}, {"at": "2026-11-23T12:00"}),
        ({"date": "明天", "time": "下午"}, {"at": "2026-11-23T15:00"}),
        ({"date": "明早", "time": "七点"}, {"at": "2026-11-23T07:00"}),
        ({"date": "tomorrow evening", "time": "8"}, {"at": "2026-11-23T20:00"}),
        ({"date": "on friday evening"}, {"at": "2026-11-27T20:00"}),
        ({"date": "in the morning", "time": "6:30"}, {"at": "2026-11-23T06:30"}),
        ({"date": "this afternoon", "time": "3"}, {"at": "2026-11-22T15:00"}),
        ({"date": "today", "time": "5"}, {"at": "2026-11-22T17:00"}),
        ({"date": "今天", "time": "3点"}, {"at": "2026-11-22T15:00"}),
        ({"date": "today", "time": "5 am"}, {"at": "2026-11-22T05:00"}),
        ({"date": "sunday"}, {"at": "2026-11-29T09:00"}),
        ({"date": "on sunday", "time": "3"}, {"at": "2026-11-22T15:00"}),
        ({"date": "星期天", "time": "上午10点"}, {"at": "2026-11-29T10:00"}),
        ({"date": "22号"}, {"at": "2026-12-22T09:00"}),
        ({"date": "November 22", "time": "18:00"}, {"at": "2026-11-22T18:00"}),
        ({"date": "2026-11-22"}, {"at": "2026-11-22T09:00"}),
        ({"time": "5 o'clock"}, {"at": "2026-11-22T17:00"}),
        ({"time": "half past 7"}, {"at": "2026-11-22T19:30"}),
        ({"time": "quarter to 1 pm"}, {"at": "2026-11-22T12:45"}),
        ({"time": "7 in the evening"}, {"at": "2026-11-22T19:00"}),
        ({"time": "八点零五分"}, {"at": "2026-11-22T20:05"}),
        ({"time": "7"}, {"at": "2026-11-22T19:00"}),
        ({"time": "3点"}, {"at": "2026-11-22T15:00"}),
        ({"time": "七点半"}, {"at": "2026-11-22T19:30"}),
        ({"time": "07:00"}, {"at": "2026-11-23T07:00"}),
        ({"time": "7 am"}, {"at": "2026-11-23T07:00"}),
        ({"time": "12"}, {"at": "2026-11-23T00:00"}),
        ({"time": "15:00"}, {"at": "2026-11-22T15:00"}),
        ({"every": "每天", "time": "晚上10点"}, {"cron": "0 22 * * *"}),
        ({"every": "every weekday", "time": "8:30"}, {"cron": "30 8 * * 1-5"}),
        ({"every": "every evening", "time": "7"}, {"cron": "0 19 * * *"}),
        ({"every": "每晚", "time": "十点"}, {"cron": "0 22 * * *"}),
        ({"every": "每天", "time": "晚上12点"}, {"cron": "0 0 * * *"}),
        ({"every": "every friday", "time": "00:00"}, {"cron": "0 0 * * 5"}),
        ({"every": "每天", "time": "早上"}, {"cron": "0 8 * * *"}),
        ({"every": "every monday morning"}, {"cron": "0 8 * * 1"}),
        ({"every": "every Monday, Wednesday and Friday"}, {"cron": "0 9 * * 1,3,5"}),
        ({"every": "mondays"}, {"cron": "0 9 * * 1"}),
        ({"every": "on weekdays", "time": "8"}, {"cron": "0 8 * * 1-5"}),
        ({"every": "每周一三五", "time": "早上7点"}, {"cron": "0 7 * * 1,3,5"}),
        ({"every": "每周二、周四"}, {"cron": "0 9 * * 2,4"}),
        ({"every": "every month on the 1st"}, {"cron": "0 9 1 * *"}),
        ({"every": "on the 15th of every month"}, {"cron": "0 9 15 * *"}),
        ({"every": "每年3月5日"}, {"cron": "0 9 5 3 *"}),
        ({"every": "每年十二月二十五号"}, {"cron": "0 9 25 12 *"}),
        ({"every": "every year on March 5"}, {"cron": "0 9 5 3 *"}),
        ({"every": "每半小时"}, {"cron": "*/30 * * * *"}),
        ({"every": "every half hour"}, {"cron": "*/30 * * * *"}),
        ({"every": "monday"}, {"cron": "0 9 * * 1"}),
        ({"every": "每个星期天", "time": "8点"}, {"cron": "0 8 * * 0"}),
        ({"every": "每月15号", "time": "9点"}, {"cron": "0 9 15 * *"}),
        ({"every": "weekend"}, {"cron": "0 9 * * 6,0"}),
        ({"every": "hourly"}, {"cron": "0 */1 * * *"}),
        ({"every": "30 minutes"}, {"cron": "*/30 * * * *"}),
        ({"every": "每隔两小时"}, {"cron": "0 */2 * * *"}),
        ({"every": "every morning"}, {"cron": "0 8 * * *"}),
        ({"cron": "0 9 * * *", "timezone": "Asia/Tokyo"}, {"cron": "0 9 * * *", "timezone": "Asia/Tokyo"}),
    ],
)  # fmt: skip
def test_what_the_words_mean(asked: Any, when: Any) -> None:
    assert REMINDER.when_of(asked, NOON) == when


@pytest.mark.parametrize(
    "asked",
    [{}, {"in": "soon"}, {"in": "x minutes"}, {"in": "5 parsecs"}, {"every": "7 minutes"}, {"every": "5 days"},
     {"every": "blue moon"}, {"every": "0 minutes"}, {"every": "90 minutes"}, {"every": "every friday", "time": "midnight"}, {"every": "工作日", "time": "晚上12点"}, {"every": "每两周"}, {"in": "5 minutes or so"}, {"every": "month"}, {"every": "每隔周一"}, {"every": "every 30 minutes", "time": "9"},
     {"every": "every month on the 31st"}, {"every": "每月30号"}, {"every": "every day", "time": "8 am and 8:30 pm"}, {"every": "every year on foo 5"},
     {"every": "every day", "time": "3"}, {"date": "tomorrow", "time": "half past six"}, {"date": "明天", "time": "5点"}, {"in": "3 hours", "time": "9"},
     {"in": "half a month"}, {"in": "9000 years"}, {"in": "999999 weeks"}, {"date": "2月30号"}, {"time": "25:00"}, {"date": "next week"}],
)  # fmt: skip
def test_words_that_mean_nothing_are_refused(asked: Any) -> None:
    with pytest.raises(ToolFailed, match=r"\w"):
        REMINDER.when_of(asked, NOON)


async def test_without_a_hub_there_are_none(tmp_path: Path) -> None:
    tools = load(SHIPPED, state=tmp_path, now=SUNDAY).tools
    with pytest.raises(ToolFailed, match="only a hub"):
        await call_tool(tools["reminder_list"], {})


async def test_a_chat_sets_lists_and_removes_and_others_see_nothing(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_world(tmp_path, now=NOON.timestamp) as world:
        key, _ = world.hub.keys.create(tenant_id="next-door", scopes=["chat"])
        theirs = f"Authorization: Bearer {key}"

        async def turn(said: str, *headers: str) -> str:
            return content(await world.chat(say(said), *headers))

        assert (await turn("10分钟后提醒我喝水")).endswith("提醒我喝水。".replace("我", "你"))
        await turn("remind me every weekday at 8:30 to leave")
        assert await turn("我有哪些提醒", theirs) == "没有提醒。"
        assert (await turn("我有哪些提醒")).startswith("有 2 个提醒：")
        assert await turn("取消喝水的提醒", theirs) == "没有“喝水”的提醒，没有取消任何提醒。"
        assert await turn("取消喝水的提醒") == "已取消提醒：喝水。"
        assert (await turn("What are my reminders?")).startswith("1 reminder: ")
        [kept] = world.hub.reminders.rows.of_tenant("default")
        assert (kept.text, kept.cron, kept.principal_id, kept.kind) == (
            "leave",
            "30 8 * * 1-5",
            "local",
            "notify",
        )
        published = world.hub.events.published
        assert "没有办成：做不到“每7分钟”这样的重复。" in await turn("每7分钟提醒我喝水")
        assert (await turn("提醒我喝水")).startswith("没有办成：say when. ")
        assert " is past; it is now " in await turn("remind me on 2020-01-01 to pay the rent")
        assert world.hub.events.published == published, "who was not clear is no plugin that failed"


async def test_what_is_removed_is_what_was_meant(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_world(tmp_path, now=NOON.timestamp) as world:

        async def turn(said: str) -> str:
            return content(await world.chat(say(said)))

        for text in ("buy steak", "call Anna", "water plants", "make tea", "吃药", "吃饭"):
            await turn(f"remind me to {text} in 2 hours")
        assert (await turn("cancel the ea reminder")).startswith('There is no reminder like "ea"')
        assert await turn("cancel the tea reminder") == "Removed the reminder: make tea."
        assert await turn("delete the plant reminder") == "Removed the reminder: water plants."
        assert (await turn("取消吃的提醒")).startswith("有 2 个提醒符合，没有取消。")
        assert (await turn("cancel the reminder")).startswith("4 reminders fit, nothing was removed.")
        assert await turn("cancel all reminders") == "Removed 4 reminders: buy steak; call Anna; 吃药; 吃饭."
        assert await turn("取消所有提醒") == "没有提醒，没有取消任何提醒。"
        assert await turn("cancel the reminder") == "There is no reminder; nothing was removed."


async def test_a_plugin_without_the_permission_has_none(tmp_path: Path) -> None:
    asked: list[Principal] = []
    folder = tmp_path / "plugins"
    code = "async def echo(arguments, home):\n    return home.reminders is not None\n"
    write_plugin(folder, code=code)
    write_plugin(folder, code=code.replace("echo", "other"), folder="other",
                 manifest=ECHO.replace('"echo"', '"other"') + 'permissions = ["reminders"]\n')  # fmt: skip

    def reminders_of(owner: Principal) -> Any:
        asked.append(owner)
        return object()

    plugins = Plugins.load([folder], state=tmp_path, clock=lambda: SUNDAY, reminders=reminders_of)
    assert plugins.faults == []
    assert await call_tool(plugins.tools["echo"], {}) is False
    assert await call_tool(plugins.tools["other"], {}) is True
    assert [owner.id for owner in asked] == ["key_test"]
