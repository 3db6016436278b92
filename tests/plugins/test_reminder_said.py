"""Sentences that a person at home says: each means what it says, exactly, or is not done at all."""

from datetime import datetime
from typing import Any

import pytest

from apexbridge_trio.errors import ToolFailed
from tests.harness.world import content, open_world, say
from tests.plugins.folders import SHANGHAI
from tests.plugins.test_reminder import REMINDER
from tests.test_intents import Home

WEDNESDAY = datetime(2026, 11, 25, 10, 20, tzinfo=SHANGHAI)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("state"))


def meant(asked: dict[str, Any]) -> Any:
    REMINDER.be_whole(asked["text"], asked)
    return REMINDER.when_of(asked, WEDNESDAY)


@pytest.mark.parametrize(
    ("said", "text", "when"),
    [
        ("remind me on the 5th of next month to pay the rent", "pay the rent", {"at": "2026-12-05T09:00"}),
        ("remind me on the first Monday of each month to check the smoke alarm", "check the smoke alarm", {"cron": "0 9 * * 1#1"}),
        ("remind me on the first Monday of every month at 8 am to check the smoke alarm", "check the smoke alarm", {"cron": "0 8 * * 1#1"}),
        ("remind me on the last day of the month to send the invoice", "send the invoice", {"at": "2026-11-30T09:00"}),
        ("remind me on the last Friday of every month at 5 pm to back up", "back up", {"cron": "0 17 * * 5L"}),
        ("remind me every third Thursday of the month to go to the book club", "go to the book club", {"cron": "0 9 * * 4#3"}),
        ("remind me on weekends to feed the fish", "feed the fish", {"cron": "0 9 * * 6,0"}),
        ("remind me on the weekend to clean the car", "clean the car", {"at": "2026-11-28T09:00"}),
        ("remind me this weekend to clean the car", "clean the car", {"at": "2026-11-28T09:00"}),
        ("remind me in an hour and a half to turn off the oven", "turn off the oven", {"in": 5400}),
        ("remind me in one and a half hours to turn off the oven", "turn off the oven", {"in": 5400}),
        ("remind me in two hours and a half to leave", "leave", {"in": 9000}),
        ("remind me at noon to eat", "eat", {"at": "2026-11-25T12:00"}),
        ("remind me tomorrow at noon to eat", "eat", {"at": "2026-11-26T12:00"}),
        ("remind me tomorrow night to lock the shed", "lock the shed", {"at": "2026-11-26T20:00"}),
        ("remind me to take my pills every day at 8 am and 8 pm", "take my pills", {"cron": "0 8,20 * * *"}),
        ("remind me every morning and evening to take the pills", "take the pills", {"cron": "0 8,20 * * *"}),
        ("remind me every year on December 24 to buy a tree", "buy a tree", {"cron": "0 9 24 12 *"}),
        ("remind me in a week to cancel the trial", "cancel the trial", {"at": "2026-12-02T10:20"}),
        ("remind me in 3 days at 9 to call the plumber", "call the plumber", {"at": "2026-11-28T09:00"}),
        ("remind me a week from now to call the plumber", "call the plumber", {"at": "2026-12-02T10:20"}),
        ("remind me in a month to renew the pass", "renew the pass", {"at": "2026-12-25T10:20"}),
        ("remind me on Tuesday next week at 3 pm to call the dentist", "call the dentist", {"at": "2026-12-01T15:00"}),
        ("remind me the day after tomorrow at 15:30 to fetch the parcel", "fetch the parcel", {"at": "2026-11-27T15:30"}),
        ("remind me at 7 tomorrow morning to call Anna", "call Anna", {"at": "2026-11-26T07:00"}),
        ("remind me from Monday to Friday at 7 to get up", "get up", {"cron": "0 7 * * 1,2,3,4,5"}),
        ("remind me to stretch every 20 minutes", "stretch", {"cron": "*/20 * * * *"}),
        ("remind me at the end of the month to pay the rent", "pay the rent", {"at": "2026-11-30T09:00"}),
        ("remind me to stop the washing machine at 10 to 8", "stop the washing machine", {"at": "2026-11-25T19:50"}),
        ("remind me at five past seven to take the bread out", "take the bread out", {"at": "2026-11-25T19:05"}),
        ("remind me at twenty past 6 to take the bread out", "take the bread out", {"at": "2026-11-25T18:20"}),
        ("remind me tomorrow that the plumber comes at 9", "the plumber comes at 9", {"at": "2026-11-26T09:00"}),
        ("remind me about the meeting on Friday", "the meeting", {"at": "2026-11-27T09:00"}),
        ("remind me on 5 December at 9 to bake", "bake", {"at": "2026-12-05T09:00"}),
        ("remind me on the 31st to pay", "pay", {"at": "2026-12-31T09:00"}),
        ("wake me at seven tomorrow", "Wake up", {"at": "2026-11-26T07:00"}),
        ("wake me every weekday at 6:30", "Wake up", {"cron": "30 6 * * 1-5"}),
        ("wake me in 20 minutes", "Wake up", {"in": 1200}),
        ("set a timer for an hour and a half", "Time is up", {"in": 5400}),
        ("set a 20 minute timer", "Time is up", {"in": 1200}),
        ("set a timer for 5 minutes and 30 seconds", "Time is up", {"in": 330}),
        ("下个月5号提醒我交房租", "交房租", {"at": "2026-12-05T09:00"}),
        ("下个月5号上午10点提醒我交房租", "交房租", {"at": "2026-12-05T10:00"}),
        ("下月五号提醒我交房租", "交房租", {"at": "2026-12-05T09:00"}),
        ("每个月第一个周一提醒我检查烟雾报警器", "检查烟雾报警器", {"cron": "0 9 * * 1#1"}),
        ("每月最后一个星期五下午5点提醒我备份", "备份", {"cron": "0 17 * * 5L"}),
        ("每月最后一天提醒我发账单", "发账单", {"cron": "0 9 L * *"}),
        ("月底提醒我交房租", "交房租", {"at": "2026-11-30T09:00"}),
        ("每月月底提醒我交房租", "交房租", {"cron": "0 9 L * *"}),
        ("周末提醒我洗车", "洗车", {"at": "2026-11-28T09:00"}),
        ("这个周末提醒我洗车", "洗车", {"at": "2026-11-28T09:00"}),
        ("每个周末提醒我洗车", "洗车", {"cron": "0 9 * * 6,0"}),
        ("每到周末提醒我洗车", "洗车", {"cron": "0 9 * * 6,0"}),
        ("提醒我开会，明天早上八点", "开会", {"at": "2026-11-26T08:00"}),
        ("提醒我明天早上八点开会", "开会", {"at": "2026-11-26T08:00"}),
        ("提醒我吃药，每天早上8点", "吃药", {"cron": "0 8 * * *"}),
        ("提醒我关火，十分钟后", "关火", {"in": 600}),
        ("提醒我交电费 明天", "交电费", {"at": "2026-11-26T09:00"}),
        ("后天下午三点半提醒我取快递", "取快递", {"at": "2026-11-27T15:30"}),
        ("下下周一提醒我交报告", "交报告", {"at": "2026-12-07T09:00"}),
        ("下下个星期三上午10点提醒我看牙", "看牙", {"at": "2026-12-09T10:00"}),
        ("一个半小时后提醒我关烤箱", "关烤箱", {"in": 5400}),
        ("一小时后提醒我", "时间到了", {"in": 3600}),
        ("半小时后叫我", "时间到了", {"in": 1800}),
        ("一个小时零五分钟后提醒我", "时间到了", {"in": 3900}),
        ("过一个半小时提醒我出门", "出门", {"in": 5400}),
        ("中午提醒我吃饭", "吃饭", {"at": "2026-11-25T12:00"}),
        ("明天中午12点提醒我吃饭", "吃饭", {"at": "2026-11-26T12:00"}),
        ("明晚提醒我锁门", "锁门", {"at": "2026-11-26T20:00"}),
        ("明天凌晨两点提醒我抢票", "抢票", {"at": "2026-11-26T02:00"}),
        ("每天早上8点和晚上8点提醒我吃药", "吃药", {"cron": "0 8,20 * * *"}),
        ("每天早晚提醒我吃药", "吃药", {"cron": "0 8,20 * * *"}),
        ("周一到周五早上7点提醒我起床", "起床", {"cron": "0 7 * * 1,2,3,4,5"}),
        ("周一至周五早上七点叫我起床", "起床", {"cron": "0 7 * * 1,2,3,4,5"}),
        ("每周一到周五早上7点提醒我起床", "起床", {"cron": "0 7 * * 1,2,3,4,5"}),
        ("每周一、周四晚上7点提醒我跑步", "跑步", {"cron": "0 19 * * 1,4"}),
        ("一个月后提醒我续卡", "续卡", {"at": "2026-12-25T10:20"}),
        ("三天后早上9点提醒我打电话", "打电话", {"at": "2026-11-28T09:00"}),
        ("一周后提醒我取消试用", "取消试用", {"at": "2026-12-02T10:20"}),
        ("每小时提醒我喝水", "喝水", {"cron": "0 */1 * * *"}),
        ("每个小时提醒我喝水", "喝水", {"cron": "0 */1 * * *"}),
        ("差十分八点提醒我出门", "出门", {"at": "2026-11-25T19:50"}),
        ("八点差五分提醒我出门", "出门", {"at": "2026-11-25T19:55"}),
        ("明天八点半提醒我出门", "出门", {"at": "2026-11-26T08:30"}),
        ("7点05分提醒我取面包", "取面包", {"at": "2026-11-25T19:05"}),
        ("十二月五号早上九点提醒我烤饼干", "烤饼干", {"at": "2026-12-05T09:00"}),
        ("今晚十二点提醒我抢购", "抢购", {"at": "2026-11-26T00:00"}),
        ("31号提醒我付款", "付款", {"at": "2026-12-31T09:00"}),
        ("remind me to run from Monday to Friday", "run", {"cron": "0 9 * * 1,2,3,4,5"}),
        ("remind me at 8 to take pills every day", "take pills", {"cron": "0 8 * * *"}),
        ("remind me at 8 to take pills daily", "take pills", {"cron": "0 8 * * *"}),
        ("remind me tomorrow to call Anna at 3 pm", "call Anna", {"at": "2026-11-26T15:00"}),
        ("remind me every day to take pills at 8 pm", "take pills", {"cron": "0 20 * * *"}),
        ("remind me at 10 to 8 to leave", "leave", {"at": "2026-11-25T19:50"}),
        ("remind me at 10 to eat", "eat", {"at": "2026-11-25T22:00"}),
        ("remind me tomorrow at 9 to call Anna about the party at 3", "call Anna about the party at 3", {"at": "2026-11-26T09:00"}),
        ("remind me on Friday to pay the rent at noon", "pay the rent", {"at": "2026-11-27T12:00"}),
        ("remind me tomorrow to buy a gift for each guest", "buy a gift for each guest", {"at": "2026-11-26T09:00"}),
        ("remind me in 5 minutes to check on the cat and dog", "check on the cat and dog", {"in": 300}),
        ("remind me every 4 hours to drink", "drink", {"cron": "0 */4 * * *"}),
        ("remind me at 8 on Mondays to swim", "swim", {"cron": "0 8 * * 1"}),
        ("remind me on Mondays at 8 to swim", "swim", {"cron": "0 8 * * 1"}),
        ("remind me tonight at 11 to lock up", "lock up", {"at": "2026-11-25T23:00"}),
        ("remind me this evening at 7 to cook", "cook", {"at": "2026-11-25T19:00"}),
        ("remind me tomorrow morning at 10 to 7 to leave", "leave", {"at": "2026-11-26T06:50"}),
        ("remind me tomorrow 8am to call", "call", {"at": "2026-11-26T08:00"}),
        ("remind me to call mom tomorrow 8 pm", "call mom", {"at": "2026-11-26T20:00"}),
        ("remind me to fetch Tom from school at 3", "fetch Tom from school", {"at": "2026-11-25T15:00"}),
        ("remind me in 2 hours to call back in 3 hours", "call back in 3 hours", {"in": 7200}),
        ("提醒我8点前往机场", "前往机场", {"at": "2026-11-25T20:00"}),
        ("提醒我周一和妈妈吃饭", "和妈妈吃饭", {"at": "2026-11-30T09:00"}),
        ("提醒我周末洗车", "洗车", {"at": "2026-11-28T09:00"}),
        ("提醒我月底交房租", "交房租", {"at": "2026-11-30T09:00"}),
        ("提醒我这个月底交房租", "交房租", {"at": "2026-11-30T09:00"}),
        ("下月底提醒我交房租", "交房租", {"at": "2026-12-31T09:00"}),
        ("下个月最后一天提醒我交房租", "交房租", {"at": "2026-12-31T09:00"}),
        ("两个月后提醒我体检", "体检", {"at": "2027-01-25T10:20"}),
        ("一年后提醒我续保", "续保", {"at": "2027-11-25T10:20"}),
        ("提醒我每周一到周五七点起床", "起床", {"cron": "0 7 * * 1,2,3,4,5"}),
        ("每周一到周五早上7点和晚上9点提醒我吃药", "吃药", {"cron": "0 7,21 * * 1,2,3,4,5"}),
        ("后天晚上提醒我看球", "看球", {"at": "2026-11-27T20:00"}),
        ("提醒我下周二晚上七点半家长会", "家长会", {"at": "2026-12-01T19:30"}),
        ("请你一小时后提醒我", "时间到了", {"in": 3600}),
        ("每天早上提醒我", "时间到了", {"cron": "0 8 * * *"}),
        ("每月1号和15号提醒我交钱", "交钱", {"cron": "0 9 1,15 * *"}),
        ("remind me every month on the 1st and the 15th to pay", "pay", {"cron": "0 9 1,15 * *"}),
        ("remind me on the 2nd Tuesday of every month at 8 pm to meet", "meet", {"cron": "0 20 * * 2#2"}),
        ("从周一到周五早上7点提醒我起床", "起床", {"cron": "0 7 * * 1,2,3,4,5"}),
    ],
)  # fmt: skip
async def test_it_is_set_as_it_was_meant(home: Home, said: str, text: str, when: Any) -> None:
    tool, asked = await home.call(said)
    assert (tool, asked["text"], meant(asked)) == ("reminder_set", text, when)


@pytest.mark.parametrize(
    "said",
    [
        "remind me every other day at 9 to water the plants",
        "remind me every 2 weeks on Friday to pay the cleaner",
        "remind me every second Tuesday to put out the paper bin",
        "remind me next Friday at half past six to call Mum",
        "remind me at half past six next Friday to call Mum",
        "remind me to call Mum next Friday at half past six",
        "remind me twice a day to drink water",
        "remind me every 3 months to change the filter",
        "remind me every quarter to change the filter",
        "remind me on Monday and Thursday at 7 to run",
        "remind me next month to renew the pass",
        "remind me next week to call the dentist",
        "remind me to call the dentist next week on Tuesday at 3",
        "remind me later to call Anna",
        "remind me soon to call Anna",
        "remind me after dinner to call Anna",
        "remind me when I get home to feed the cat",
        "remind me every hour between 9 and 17 to drink",
        "remind me every 45 minutes to stand up",
        "remind me every 10 days to water the cactus",
        "remind me at 6ish to leave",
        "remind me to buy milk on the way home",
        "remind me 10 minutes before 8 to leave",
        "remind me on Christmas to call grandma",
        "set an alarm for 6:45 every weekday",
        "每隔一天早上9点提醒我浇花",
        "隔天提醒我浇花",
        "每两天提醒我浇花",
        "每两周周五提醒我付钱",
        "每隔一周的周五晚上8点提醒我打扫",
        "明天夜里提醒我关灯",
        "下周五六点半提醒我给妈妈打电话",
        "每天三次提醒我吃药",
        "每三个月提醒我换滤芯",
        "每季度提醒我换滤芯",
        "每年春节提醒我给奶奶打电话",
        "每年农历八月十五提醒我吃月饼",
        "下周提醒我约牙医",
        "下个月提醒我续卡",
        "待会儿提醒我打电话",
        "等一下提醒我打电话",
        "过会儿提醒我打电话",
        "到家提醒我喂猫",
        "吃完饭提醒我吃药",
        "每45分钟提醒我站起来",
        "元旦提醒我打电话",
        "提前10分钟提醒我开会",
        "8点前提醒我出门",
        "推迟10分钟再提醒我",
        "remind me to run on Monday and Thursday",
        "remind me to take pills at 8 am and at 8 pm",
        "remind me to call Anna at 7 and 9",
        "remind me to pay rent before Friday",
        "remind me to buy milk every second Tuesday",
        "remind me to pay the cleaner every 2 weeks on Friday",
        "remind me to water every other day at 9",
        "remind me to water the plants every other day",
        "remind me at 8 to call Anna tomorrow",
        "remind me tomorrow to call Anna at 3",
        "remind me on the 5th of every second month to pay",
        "remind me every 30 minutes at 9 to drink",
        "remind me every month on the 31st to pay",
        "remind me not to forget the cake at 5",
        "remind me at 25:00 to eat",
        "remind me on February 30 to jump",
        "remind me on the 15th and the 30th to pay",
        "remind me every Monday and on Thursday at 8 to run",
        "提醒我5号和20号交房租",
        "提醒我周一和周三跑步",
        "周一和周三提醒我跑步",
        "提醒我每两天浇花",
        "提醒我每周一次浇花",
        "提醒我8点前出门",
        "提醒我明天中午前交作业",
        "提醒我浇花每两周周五",
        "提醒我下个月交房租5号",
        "提醒我明天开会下午三点",
        "明天提醒我开会，下午三点",
        "提醒我三点到五点开会",
        "每天提醒我吃药晚上8点",
        "提醒我每隔两天浇花",
        "提醒我浇花隔天",
        "提醒我告诉每个人明天开会",
        "提醒我去找李四十点",
        "每周五隔周提醒我倒垃圾",
    ],
)  # fmt: skip
async def test_what_can_not_be_kept_is_refused_and_something_else_suggested(home: Home, said: str) -> None:
    tool, asked = await home.call(said)
    assert tool == "reminder_set"
    with pytest.raises(ToolFailed, match=r"[Ss]ay|可以说|请|看不懂"):
        meant(asked)


@pytest.mark.parametrize(
    ("said", "tool", "asked"),
    [
        ("move the reminder to call Anna to 8 pm", "reminder_change", {"text": "call Anna", "time": "8 pm"}),
        ("change my pills reminder to 9", "reminder_change", {"text": "pills", "time": "9"}),
        ("what is my next reminder", "reminder_list", {}),
        ("when is my next reminder", "reminder_list", {}),
        ("do I have any reminders tomorrow", "reminder_list", {}),
        ("list reminders", "reminder_list", {}),
        ("how many reminders do I have", "reminder_list", {}),
        ("cancel the timer", "reminder_remove", {"text": "Time is up"}),
        ("cancel tomorrow's reminder", "reminder_remove", {"text": "tomorrow's"}),
        ("stop reminding me to drink water", "reminder_remove", {"text": "drink water"}),
        ("cancel my 8 pm reminder", "reminder_remove", {"text": "8 pm"}),
        ("把喝水的提醒改到晚上8点", "reminder_change", {"text": "喝水", "time": "晚上8点"}),
        ("把吃药的提醒改成每天9点", "reminder_change", {"text": "吃药", "every": "每天", "time": "9点"}),
        ("下一个提醒是什么时候", "reminder_list", {}),
        ("我明天有什么提醒", "reminder_list", {}),
        ("列出提醒", "reminder_list", {}),
        ("有几个提醒", "reminder_list", {}),
        ("取消明天的提醒", "reminder_remove", {"text": "明天"}),
        ("删除8点的提醒", "reminder_remove", {"text": "8点"}),
        ("取消闹钟", "reminder_remove", {"text": "时间到了"}),
        ("关掉闹钟", "reminder_remove", {"text": "时间到了"}),
        ("别再提醒我喝水了", "reminder_remove", {"text": "喝水"}),
        ("把所有提醒都删了", "reminder_remove", {"all": True}),
        ("cancel my alarm", "reminder_remove", {"text": "Time is up"}),
        ("cancel the tea timer", "reminder_remove", {"text": "tea"}),
        ("stop the timer", "reminder_remove", {"text": "Time is up"}),
        ("取消泡茶的计时器", "reminder_remove", {"text": "泡茶"}),
        ("change the reminder to take pills to every day at 9 am", "reminder_change", {"text": "take pills", "every": "every day", "time": "9 am"}),
        ("move the dentist reminder to Friday", "reminder_change", {"text": "dentist", "date": "Friday"}),
        ("postpone my reminder to tomorrow at 9", "reminder_change", {"date": "tomorrow", "time": "9"}),
        ("move the reminder to call Anna to the party to 9 pm", "reminder_change", {"text": "call Anna to the party", "time": "9 pm"}),
        ("reschedule the reminder about the car to next Monday at 10", "reminder_change", {"text": "the car", "date": "next Monday", "time": "10"}),
        ("吃药的提醒改成晚上9点", "reminder_change", {"text": "吃药", "time": "晚上9点"}),
        ("提醒改到明天", "reminder_change", {"date": "明天"}),
        ("把开会的提醒推迟到后天下午三点", "reminder_change", {"text": "开会", "date": "后天", "time": "下午三点"}),
    ],
)  # fmt: skip
async def test_it_is_listed_changed_and_removed(home: Home, said: str, tool: str, asked: Any) -> None:
    assert await home.call(said) == (tool, asked)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("take pills and", {"time": "8 pm"}),
        ("call Anna tomorrow", {"time": "8"}),
        ("water the plants every other day", {"time": "9"}),
        ("每两天浇花", {"time": "9点"}),
        ("和周三跑步", {"date": "周一"}),
        ("次浇花", {"every": "每周一"}),
        ("前出门", {"time": "8点"}),
        ("开会下午三点", {"date": "明天"}),
        ("feed the cat every 12 hours starting", {"time": "8"}),
        ("feed the cat for the next three days", {"time": "8"}),
        ("drink until 5 pm", {"every": "every hour"}),
        ("call at 9 and eat", {"time": "10"}),
        ("call and at 9 to eat", {"in": "an hour"}),
        ("run on friday and call", {"time": "9"}),
        ("be home by", {"time": "8"}),
        ("喝水直到晚上", {"every": "每小时"}),
        ("和10分钟后各一次", {"in": "5分钟"}),
        ("和大后天吃药", {"date": "后天"}),
    ],
)
def test_words_for_when_that_are_left_over_are_not_reminded_of(text: str, more: Any) -> None:
    with pytest.raises(ToolFailed):
        REMINDER.be_whole(text, more)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("call Anna about tomorrow", {"date": "today", "time": "8 pm"}),
        ("buy a gift for each guest", {"date": "tomorrow"}),
        ("check on the cat and dog", {"in": "5 minutes"}),
        ("和妈妈吃饭", {"date": "周一"}),
        ("前往机场", {"time": "8点"}),
        ("告诉每个人", {"date": "明天"}),
        ("开会下午三点", {"date": "明天", "time": "9点"}),
        ("rent a car for two weeks", {"time": "8"}),
        ("buy a cake for 8", {"date": "tomorrow"}),
    ],
)
def test_words_of_the_wish_are_left_alone(text: str, more: Any) -> None:
    REMINDER.be_whole(text, more)


DENTIST = {"next": "2026-11-27T09:00:00+08:00", "cron": None, "timezone": "Asia/Shanghai"}
PILLS = {"next": "2026-11-25T20:00:00+08:00", "cron": "0 20 * * 1-5", "timezone": "Asia/Shanghai"}
TOKYO = {"next": "2026-11-25T21:00:00+09:00", "cron": "0 21 * * *", "timezone": "Asia/Tokyo"}


@pytest.mark.parametrize(
    "said",
    [
        "remind me to feed the cat at 8 for a week",
        "remind me to buy a cake for 8",
        "remind me to walk 10 minutes",
    ],
)
async def test_for_so_long_or_so_many_is_not_when(home: Home, said: str) -> None:
    _, asked = await home.call(said)
    assert asked.keys() == {"text"}


@pytest.mark.parametrize(
    ("old", "asked", "when"),
    [
        (DENTIST, {"time": "10"}, {"at": "2026-11-27T10:00"}),
        (DENTIST, {"date": "next Monday"}, {"at": "2026-11-30T09:00"}),
        (DENTIST, {"date": "tomorrow", "time": "8 pm"}, {"at": "2026-11-26T20:00"}),
        (DENTIST, {"in": "20 minutes"}, {"in": 1200}),
        (DENTIST, {"every": "every friday", "time": "9 am"}, {"cron": "0 9 * * 5"}),
        (PILLS, {"time": "9 pm"}, {"cron": "0 21 * * 1-5"}),
        (PILLS, {"every": "每天", "time": "早上8点"}, {"cron": "0 8 * * *"}),
        (TOKYO, {"time": "22:30"}, {"cron": "30 22 * * *", "timezone": "Asia/Tokyo"}),
        (TOKYO | {"cron": None}, {"time": "22:30"}, {"at": "2026-11-25T22:30", "timezone": "Asia/Tokyo"}),
    ],
)
def test_what_is_not_said_stays_as_it_was(old: Any, asked: Any, when: Any) -> None:
    assert REMINDER.changed(old, asked, WEDNESDAY) == when


@pytest.mark.parametrize(
    ("old", "asked"),
    [
        (DENTIST, {}),
        (DENTIST, {"time": "3"}),
        (PILLS, {"time": "9"}),
        (PILLS, {"date": "tomorrow"}),
        (PILLS, {"in": "10 minutes"}),
        (PILLS, {"time": "midnight"}),
        (PILLS | {"cron": "0 8,20 * * *"}, {"time": "9 pm"}),
        (PILLS | {"cron": "*/5 * * * *"}, {"time": "9 pm"}),
    ],
)
def test_a_change_that_would_lose_something_is_refused(old: Any, asked: Any) -> None:
    with pytest.raises(ToolFailed):
        REMINDER.changed(old, asked, WEDNESDAY)


async def test_one_that_is_changed_comes_at_the_new_time_alone(tmp_path: Any, autojump_clock: Any) -> None:
    async with open_world(tmp_path, now=WEDNESDAY.timestamp) as world:

        async def turn(said: str) -> str:
            return content(await world.chat(say(said)))

        def crons() -> list[str | None]:
            return [one.cron for one in world.hub.reminders.rows.of_tenant("default")]

        await turn("remind me every day at 8 pm to take pills")
        assert await turn("把喝水的提醒改到晚上8点") == "没有“喝水”的提醒，没有改动。"
        assert "take pills" in await turn("move the reminder to take pills to 9 pm")
        assert crons() == ["0 21 * * *"]
        await turn("remind me every friday at 9 am to take pills out")
        assert (await turn("change the reminder to 7 am")).startswith("2 reminders fit, nothing was changed.")
        assert "morning" in await turn("change the reminder to take pills to 9")
        assert sorted(map(str, crons())) == ["0 21 * * *", "0 9 * * 5"]


async def test_one_that_does_more_than_tell_is_left_alone(tmp_path: Any, autojump_clock: Any) -> None:
    async with open_world(tmp_path, now=WEDNESDAY.timestamp) as world:
        wanted = {"text": "lights", "in": 3600, "action": {"chat": "lights off"}}
        key, _ = world.hub.keys.create(scopes=["chat"])
        mine = f"Authorization: Bearer {key}"
        assert (await world.ask("POST", "/v1/reminders", wanted, mine)).status == 201
        said = content(await world.chat(say("move the lights reminder to 9 pm tomorrow"), mine))
        assert "more than tell" in said
        [kept] = world.hub.reminders.rows.of_tenant("default")
        assert kept.kind == "chat"
