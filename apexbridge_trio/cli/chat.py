"""``chat``: one question, or a conversation on a terminal."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.options import AsJson, print_json

if TYPE_CHECKING:
    from apexbridge_trio.cli.asking import Asking

Message = Annotated[
    str | None, typer.Argument(help="The question. Without it: stdin, or a conversation on a terminal.")
]
ModelId = Annotated[str | None, typer.Option("--model", help="Default: the hub's own default model.")]
System = Annotated[str, typer.Option("--system", help="A system prompt before the conversation.")]
Stream = Annotated[bool, typer.Option("--stream/--no-stream", help="Show the text as it arrives, or whole.")]


def chat(
    message: Message = None,
    model: ModelId = None,
    system: System = "",
    stream: Stream = True,
    as_json: AsJson = False,
) -> None:
    """Ask a model. Ctrl-C stops the answer and says what has stopped."""
    conversation = Conversation(
        model, system, is_stream=stream and not as_json, write=_nothing if as_json else _write
    )
    if message is None and sys.stdin.isatty() and not as_json:
        _converse(conversation)
        return
    asking = conversation.ask(sys.stdin.read() if message is None else message)
    told = asking.receipt or asking.document
    if as_json and told:
        print_json(told)
    elif asking.is_stopping:
        print(asking.words, file=sys.stderr)
    if asking.is_stopping:
        raise typer.Exit(Exit.INTERRUPTED)


class Conversation:
    """What was said so far, on this side."""

    def __init__(
        self, model: str | None, system: str, *, is_stream: bool, write: Callable[[str], None]
    ) -> None:
        self._fields: dict[str, Any] = {"stream": is_stream} | ({"model": model} if model else {})
        self._write = write
        self._messages = [{"role": "system", "content": system}] if system else []

    def ask(self, text: str) -> "Asking":
        """Ask the next question, print the answer, and remember both.

        Raises:
            Failure: There is no answer, or not a whole one; the question is forgotten.
        """
        import trio

        from apexbridge_trio.cli.asking import Asking

        question = {"role": "user", "content": text}
        asking = Asking({**self._fields, "messages": [*self._messages, question]}, write=self._write)
        trio.run(asking.ask)
        self._messages += [question, {"role": "assistant", "content": asking.text}]
        return asking


def _nothing(_text: str) -> None:
    """Say nothing: the document is printed when it is whole."""


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _converse(conversation: Conversation) -> None:
    """Ask, answer, and again, until Ctrl-D, or Ctrl-C while nothing is asked."""
    import readline  # noqa: F401  # gives input() history and editing

    print("Ctrl-C stops an answer, Ctrl-D leaves.", file=sys.stderr)
    while True:
        try:
            text = input("> ")
        except EOFError:
            print(file=sys.stderr)
            return
        if text.strip():
            _answer(conversation, text)


def _answer(conversation: Conversation, text: str) -> None:
    try:
        asking = conversation.ask(text)
    except Failure as fault:
        print(f"apexbridge: {fault}", file=sys.stderr)
        return
    if asking.is_stopping:
        print(asking.words, file=sys.stderr)
