"""The embedded model: a sentence, a call, a result, an answer; and honest in between.

Where tools are called the clock stands, so that none is ever too slow.
"""

import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from apexbridge_trio.errors import BadRequest, ToolFailed
from apexbridge_trio.intents import IntentModel
from apexbridge_trio.intents.matcher import MAX_CHINESE, MAX_LENGTH, Matcher
from apexbridge_trio.plugins import Plugins
from apexbridge_trio.protocol.answer import Source
from apexbridge_trio.protocol.sentences import Sentences
from tests.harness.kill import kill_at_every_step
from tests.plugins.folders import SHIPPED, call_tool, load

Json = dict[str, Any]
SAFETY_S = 300.0  # a net: to compile all sentences takes a busy machine its time


class Home:
    """The shipped plugins with the embedded model, and the smallest loop of a turn."""

    def __init__(self, state: Path) -> None:
        self.plugins: Plugins = load(SHIPPED, state=state)
        assert self.plugins.faults == []
        self.model = IntentModel(self.plugins)
        self.tools = [{"type": "function", "function": {"name": name}} for name in self.plugins.tools]

    def body(self, said: Any, **fields: Any) -> Json:
        return {
            "model": "apex-intents",
            "messages": [{"role": "user", "content": said}],
            "tools": self.tools,
            **fields,
        }

    async def ask(self, said: Any, **fields: Any) -> Any:
        return await self.choice(self.body(said, **fields))

    async def choice(self, body: Json) -> Any:
        async with self.model.open_answer(json.dumps(body).encode()) as answer:
            assert not answer.is_stream
            document = json.loads(await answer.receive())
            assert await answer.receive() == b""
        assert document["object"] == "chat.completion"
        assert document["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        [choice] = document["choices"]
        return choice

    async def call(self, said: Any, **fields: Any) -> tuple[str, Json]:
        choice = await self.ask(said, **fields)
        assert choice["finish_reason"] == "tool_calls"
        [call] = choice["message"]["tool_calls"]
        return call["function"]["name"], json.loads(call["function"]["arguments"])

    async def text(self, said: Any, **fields: Any) -> Any:
        choice = await self.ask(said, **fields)
        assert choice["finish_reason"] == "stop"
        return choice["message"]["content"]

    async def told(self, said: str, result: Any, tool: str = "agenda_list") -> Any:
        """Return how a result of `tool` is worded for who said `said`."""
        body = self.body(said)
        call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": "{}"}}
        text = result if isinstance(result, str) else json.dumps(result)
        body["messages"] += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": text},
        ]
        return (await self.choice(body))["message"]["content"]

    async def turn(self, said: str) -> Any:
        """Ask, run the call, tell the result, and return the answer."""
        body = self.body(said)
        while (message := (await self.choice(body))["message"])["content"] is None:
            [call] = message["tool_calls"]
            tool = self.plugins.tools[call["function"]["name"]]
            try:
                result = await call_tool(tool, json.loads(call["function"]["arguments"]))
            except ToolFailed as fault:
                result = {"error": {"code": fault.code, "message": fault.message}}
            body["messages"] += [
                message,
                {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)},
            ]
        return message["content"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home whose agenda stays empty: compiling the sentences takes most of a test's time."""
    return Home(tmp_path_factory.mktemp("state"))


@pytest.fixture
def fresh_home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def test_the_agenda_in_whole_turns(fresh_home: Home, mock_clock: object) -> None:
    source: Source = fresh_home.model
    assert source.name == "apex-intents"
    assert await fresh_home.turn("今天日程是什么？") == "今天（11月22日 星期日）没有日程。"
    assert (
        await fresh_home.turn("What is on my agenda today?")
        == "Today (Sunday 22 November): nothing on the agenda."
    )
    assert await fresh_home.turn("明天上午9点半加一个牙医预约") == "已添加：11月23日 星期一 09:30 牙医预约。"
    assert await fresh_home.turn("添加明天的家长会") == "已添加：11月23日 星期一 全天 家长会。"
    assert (
        await fresh_home.turn("明天有什么安排？")
        == "明天（11月23日 星期一）有 2 项日程：全天 家长会；09:30 牙医预约。"
    )
    assert (
        await fresh_home.turn("add dentist on friday at 9:30 am")
        == "Added: Friday 27 November, 09:30, dentist."
    )
    assert await fresh_home.turn("下周有什么安排") == (
        "下周（11月23日 星期一 至 11月29日 星期日）有 3 项日程："
        "11月23日 星期一 全天 家长会；11月23日 星期一 09:30 牙医预约；11月27日 星期五 09:30 dentist。"
    )
    assert await fresh_home.turn("Remove Friday's dentist") == "Removed: Friday 27 November, 09:30, dentist."
    assert await fresh_home.turn("Show my calendar for tomorrow") == (
        "Tomorrow (Monday 23 November): 2 events: all day 家长会; 09:30 牙医预约."
    )
    assert await fresh_home.turn("删除明天的牙医") == "已删除：11月23日 星期一 09:30 牙医预约。"
    assert await fresh_home.turn("删除明天的牙医") == "明天没有“牙医”，没有删除任何日程。"
    assert (
        await fresh_home.turn("2月30号有什么安排") == "没有办成：'2月30号' is no day I know / 看不懂这个日期"
    )


async def test_the_clock_in_whole_turns(home: Home, mock_clock: object) -> None:
    assert await home.turn("现在几点") == "现在是 08:00（11月22日 星期日）。"
    assert await home.turn("东京现在几点了？") == "Asia/Tokyo 现在是 09:00（11月22日 星期日）。"
    assert await home.turn("what time is it") == "It is 08:00 (Sunday 22 November)."
    assert (
        await home.turn("What time is it in New York?")
        == "It is 19:00 in America/New_York (Saturday 21 November)."
    )
    assert await home.turn("今天星期几") == "今天是 11月22日 星期日。"
    assert await home.turn("今天几号？") == "今天是 2026年11月22日 星期日。"
    assert await home.turn("what's the date today?") == "It is Sunday 22 November 2026."


async def test_an_ambiguous_removal_is_asked_back(fresh_home: Home, mock_clock: object) -> None:
    await fresh_home.turn("明天9点加一个牙医复查")
    await fresh_home.turn("明天10点加一个牙医洗牙")
    assert await fresh_home.turn("取消明天的牙医") == (
        "有 2 项符合，没有删除。是哪一项：11月23日 星期一 09:00 牙医复查；11月23日 星期一 10:00 牙医洗牙？"
    )
    assert (await fresh_home.turn("delete the 牙医 tomorrow")).startswith(
        "2 events fit, nothing was removed. Which one:"
    )


@pytest.mark.parametrize(
    ("said", "tool", "arguments"),
    [
        ("今天日程是什么？", "agenda_list", {"date": "今天"}),
        ("  请问，今天的日程是什么呢？谢谢！", "agenda_list", {"date": "今天"}),
        ("你好！麻烦查一下 ２０２６－１１－２５ 的安排。", "agenda_list", {"date": "２０２６－１１－２５"}),
        ("日程", "agenda_list", {"date": "今天"}),
        ("我这周有什么事吗", "agenda_list", {"date": "这周"}),
        ("周三 有 什么 安排", "agenda_list", {"date": "周三"}),
        ("3月5号有哪些活动", "agenda_list", {"date": "3月5号"}),
        ("把“买牛奶（两盒），鸡蛋”安排在11月25号 下午3点15分", "agenda_add", {"summary": "买牛奶（两盒），鸡蛋", "date": "11月25号", "time": "下午3点15分"}),
        ("请帮我添加后天下午三点的家长会", "agenda_add", {"summary": "家长会", "date": "后天", "time": "下午三点"}),
        ("添加日程：春节聚会在2027年2月6号", "agenda_add", {"summary": "春节聚会", "date": "2027年2月6号"}),
        ("加一个明天9：30的请假", "agenda_add", {"summary": "请假", "date": "明天", "time": "9：30"}),
        ("周六加一个去网吧", "agenda_add", {"summary": "去网吧", "date": "周六"}),
        ("add dentist tomorrow at 9:30 am", "agenda_add", {"summary": "dentist", "date": "tomorrow", "time": "9:30 am"}),
        ('Please add "Lunch, downtown" on Friday at 3 p.m., thanks!', "agenda_add", {"summary": "Lunch, downtown", "date": "Friday", "time": "3 p.m"}),
        ("could you schedule a meeting with Bob for next Monday at 10", "agenda_add", {"summary": "meeting with Bob", "date": "next Monday", "time": "10"}),
        ("Add dinner at 7pm on March 5th", "agenda_add", {"summary": "dinner", "date": "March 5th", "time": "7pm"}),
        ("add 请假 tomorrow", "agenda_add", {"summary": "请假", "date": "tomorrow"}),
        ("WHAT’S ON MY CALENDAR NEXT WEEK?", "agenda_list", {"date": "NEXT WEEK"}),
        ("do I have anything on 2026-11-25", "agenda_list", {"date": "2026-11-25"}),
        ("取消周三上午十点的体检", "agenda_remove", {"summary": "体检", "date": "周三", "time": "上午十点"}),
        ("cancel the team lunch on friday at 3pm", "agenda_remove", {"summary": "team lunch", "date": "friday", "time": "3pm"}),
        ("what time is it in São Paulo?", "clock_now", {"zone": "São Paulo"}),
        ("纽约几点了", "clock_now", {"zone": "America/New_York"}),
    ],
)  # fmt: skip
async def test_sentences_become_calls(home: Home, said: str, tool: str, arguments: Json) -> None:
    assert await home.call(said) == (tool, arguments)


async def test_the_last_user_message_counts_whatever_its_form(home: Home) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "现在几点？"}, "odd"]
    assert await home.call(parts) == ("clock_now", {})
    earlier = [{"role": "user", "content": "今天日程是什么"}, {"role": "assistant", "content": "…"}]
    last = [{"role": "user", "content": "what time is it"}, {"role": "system", "content": "Be brief."}]
    assert (await home.call("", messages=earlier + last))[0] == "clock_now"


async def test_what_is_not_understood_is_said_and_examples_given(home: Home) -> None:
    chinese = await home.text("给我讲个笑话")
    assert "没有语言模型" in chinese
    assert "- 今天日程是什么？" in chinese
    english = await home.text("tell me a joke")
    assert "a small sentence matcher without a language model" in english
    assert "- What is on my agenda today?" in english
    assert "今天" not in english
    only_clock = await home.text("tell me a joke", tools=home.tools[3:])
    assert "What time is it?" in only_clock
    assert "agenda" not in only_clock


@pytest.mark.parametrize(
    "said", ["", "。？！", "明" * (MAX_LENGTH + 1), None, 7, [], "\x00😀", "{date}的<agenda>"]
)
async def test_odd_messages_are_not_understood_and_nothing_worse(home: Home, said: Any) -> None:
    assert "You can ask" in (text := await home.text(said)) or "可以这样问" in text


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "none"},
        {"tools": []},
        {"tools": None},
        {"tool_choice": {"type": "function", "function": {"name": "clock_now"}}},
        {"tool_choice": {"type": "function"}},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "clock_now"}}, 5]}}},
        {"tools": [{"type": "function", "function": {"name": "weather"}}, {"type": "custom"}]},
    ],
)  # fmt: skip
async def test_a_tool_that_is_not_offered_is_not_called(home: Home, fields: Json) -> None:
    assert (
        await home.text("今天日程是什么？", **fields)
        == "我听懂了，但需要工具“agenda_list”，而这次请求不允许我使用它。"
    )
    assert '"agenda_list"' in await home.text("what is on my agenda", **fields)


@pytest.mark.parametrize(
    "choice", ["auto", "required", None, {"type": "function", "function": {"name": "agenda_list"}}]
)
async def test_a_tool_that_is_allowed_is_called(home: Home, choice: Any) -> None:
    assert (await home.call("今天日程是什么？", tool_choice=choice))[0] == "agenda_list"


@pytest.mark.parametrize("said", ["help", "Help!", "What can you do?", "帮助", "你能做什么？"])
async def test_who_asks_for_help_is_not_told_that_nobody_understood(home: Home, said: str) -> None:
    text = await home.text(said)
    assert "\n- " in text
    assert "Sorry" not in text
    assert "抱歉" not in text


async def test_nothing_offered_and_nothing_understood(home: Home) -> None:
    assert (await home.text("tell me a joke", tools=[])).endswith("there is nothing I can do.")
    assert (await home.text("讲个笑话", tools=[])).endswith("所以我什么也做不了。")


@pytest.mark.parametrize(
    ("code", "chinese", "english"),
    [
        ("tool_failed", "没有办成：why", "That did not work: why"),
        ("tool_timeout", "等待超时", "took too long"),
        ("interrupted", "已按要求停止", "was stopped as asked"),
        ("invalid_arguments", "参数不对：why", "the arguments are wrong: why"),
        ("unknown_tool", "没有这个工具：why", "there is no such tool: why"),
        ("new_code", "没有办成：why", "That did not work: why"),
    ],
)
async def test_what_went_wrong_is_said(home: Home, code: str, chinese: str, english: str) -> None:
    error = {"error": {"code": code, "message": "why"}}
    assert chinese in await home.told("今天日程是什么？", error)
    assert english in await home.told("What is on my agenda today?", error)


async def test_a_result_no_template_fits_is_shown_as_it_is(home: Home) -> None:
    assert await home.told("今天日程是什么？", {"odd": "是"}) == 'agenda_list: {"odd": "是"}'
    assert await home.told("今天日程是什么？", "not JSON") == "agenda_list: not JSON"
    assert await home.told("今天日程是什么？", '"text"') == "agenda_list: text"
    assert await home.told("tell me a joke", {"a": 1}, tool="weather") == 'weather: {"a": 1}'
    assert (
        await home.told("tell me a joke", {"error": {"code": "x", "message": "no"}}, tool="w")
        == "That did not work: no"
    )


async def test_several_results_are_told_in_order(home: Home) -> None:
    body = home.body("现在几点")
    body["messages"].append({"role": "tool", "tool_call_id": "a", "content": "1"})
    body["messages"].append({"role": "tool", "content": [{"type": "text", "text": "2"}]})
    assert (await home.choice(body))["message"]["content"] == "?: 1\n?: 2"


async def events(home: Home, said: str, **fields: Any) -> list[Any]:
    pieces: list[bytes] = []
    body = json.dumps(home.body(said, stream=True, **fields)).encode()
    async with home.model.open_answer(body) as answer:
        assert answer.is_stream
        while piece := await answer.receive():
            pieces.append(piece)
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in pieces)
    assert pieces[-1] == b"data: [DONE]\n\n"
    chunks = [json.loads(piece[6:]) for piece in pieces[:-1]]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    return chunks


async def test_a_text_is_streamed_in_chunks(home: Home) -> None:
    chunks = await events(home, "tell me a joke")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta["content"] for delta in deltas[1:-1]) == await home.text("tell me a joke")
    assert len(deltas) > 5
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "stop"]
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_call_is_streamed_with_usage_when_asked(home: Home) -> None:
    *chunks, last, usage = await events(home, "现在几点", stream_options={"include_usage": True})
    [call] = chunks[1]["choices"][0]["delta"]["tool_calls"]
    assert (call["index"], call["type"], call["function"]) == (
        0,
        "function",
        {"name": "clock_now", "arguments": "{}"},
    )
    assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 0


async def test_a_stream_can_be_interrupted_between_chunks(home: Home) -> None:
    home.model.warm()
    body = json.dumps(home.body("tell me a joke", stream=True)).encode()
    received: list[bytes] = []

    async def scenario() -> None:
        received.clear()
        async with home.model.open_answer(body) as answer:
            while piece := await answer.receive():
                received.append(piece)

    async def check(whole: bool) -> None:
        await trio.lowlevel.checkpoint()
        assert not whole or received[-1] == b"data: [DONE]\n\n"

    assert await kill_at_every_step(scenario, check) > 10


@pytest.mark.parametrize("body", [b"", b"[]", b'{"messages": 5}', b'{"messages": [{"role": 1}]}'])
async def test_a_body_that_is_no_chat_is_refused(home: Home, body: bytes) -> None:
    with pytest.raises(BadRequest):
        async with home.model.open_answer(body):
            raise AssertionError("not reached")


class Declared:
    """Sentences without a plugin."""

    def __init__(self, table: Json) -> None:
        self.sentences = {"toy": msgspec.convert(table, dict[str, Sentences])}


async def test_bad_templates_are_faults_and_the_rest_works() -> None:
    say = {"tool": "toy", "answer": "{{ result }}!"}
    model = IntentModel(
        Declared(
            {
                "en": {"phrases": [say | {"say": ["broken (one"]}, say | {"say": ["play"]}]},
                "fr": {"phrases": [say | {"say": ["jouer"], "answer": "{% if %}"}]},
            }
        )
    )
    template, answer = model.warm()
    assert template.startswith("toy: sentences.en.phrases[0]: ")
    assert "{% if %}" in answer
    tools = [{"function": {"name": "toy"}}]
    for said in ("play", "jouer"):
        body = {"messages": [{"role": "user", "content": said}], "tools": tools}
        async with model.open_answer(json.dumps(body).encode()) as reply:
            document = json.loads(await reply.receive())
        assert document["choices"][0]["finish_reason"] == "tool_calls"


async def test_templates_nested_without_end_are_faults() -> None:
    deep = "(" * 1900 + "a" + ")" * 1900
    say = {"tool": "toy", "answer": "yes", "say": ["play"]}
    phrases = [say | {"say": [deep]}, say | {"answer": f"{{{{ {deep} }}}}"}, say]
    model = IntentModel(Declared({"en": {"phrases": phrases}}))
    assert len(model.warm()) == 2
    assert model._known.match("play") is not None


def test_a_chinese_sentence_may_say_its_last_part_first() -> None:
    phrases = [
        {"tool": "toy", "answer": "好", "say": ["{day}提醒我{text}", "提醒我{text}", "甲{text}乙"]},
    ]
    table = {"zh": {"phrases": phrases, "any": ["text"], "lists": {"day": ["明天"]}}}
    matcher = Matcher(Declared(table).sentences)

    def asked(said: str) -> Any:
        found = matcher.match(said)
        return found and found.arguments

    assert asked("提醒我 买（两盒）牛奶，明天。") == {"day": "明天", "text": "买（两盒）牛奶"}
    assert asked("提醒我买牛奶，鸡蛋") == {"text": "买牛奶，鸡蛋"}, "no part of it says more in front"
    assert asked("丙乙，甲丁") is None, "no slot is made of the end and the beginning"


@pytest.mark.parametrize(("said", "is_read"), [("明" * MAX_CHINESE, True), ("明" * (MAX_CHINESE + 1), False)])
def test_a_sentence_that_is_too_long_is_not_looked_at(said: str, is_read: bool) -> None:
    phrases = [{"tool": "toy", "answer": "好", "say": ["{text}"]}]
    matcher = Matcher(Declared({"zh": {"phrases": phrases, "any": ["text"]}}).sentences)
    assert (matcher.match(said) is not None) is is_read


async def test_warming_in_a_thread_is_enough(fresh_home: Home, mock_clock: object) -> None:
    assert await trio.to_thread.run_sync(fresh_home.model.warm) == []
    assert await fresh_home.turn("现在几点") == "现在是 08:00（11月22日 星期日）。"


async def test_no_sentences_is_no_fault() -> None:
    model = IntentModel(Declared({}))
    assert model.warm() == []
    async with model.open_answer(b'{"messages": []}') as reply:
        assert "there is nothing I can do" in (await reply.receive()).decode()


TOY = [{"function": {"name": "toy"}}]


async def test_a_question_waits_for_a_warming_and_does_not_do_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    say = {"tool": "toy", "answer": "yes", "say": ["play"]}
    model = IntentModel(Declared({"en": {"phrases": [say]}}))
    begun, go_on = threading.Event(), threading.Event()
    made: list[int] = []

    class Slow(Matcher):
        def __init__(self, declared: Any) -> None:
            made.append(threading.get_ident())
            begun.set()
            assert go_on.wait(SAFETY_S)
            super().__init__(declared)

    monkeypatch.setattr("apexbridge_trio.intents.matcher.Matcher", Slow)
    body = json.dumps({"messages": [{"role": "user", "content": "play"}], "tools": TOY}).encode()
    with trio.fail_after(SAFETY_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(model.warm_aside)
            assert await trio.to_thread.run_sync(begun.wait, SAFETY_S)
            nursery.start_soon(_answered, model, body)
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
    assert len(made) == 1
    assert made[0] != threading.get_ident()


async def _answered(model: IntentModel, body: bytes) -> None:
    async with model.open_answer(body) as reply:
        assert b'"finish_reason":"tool_calls"' in await reply.receive()
