from typing import Any

import pytest

from turntrace.panel.conversation import messages_of, said, tool_call
from turntrace.panel.fold import MAX_NODES, Node, fold

FUNCTION = {"name": "f", "arguments": '{"a": 1}'}
USER = {"role": "user", "content": "first"}


def test_messages_of_openai() -> None:
    found = messages_of(
        [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "x"}}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": '{"ok": true}'},
        ]
    )
    assert found is not None
    assert [message.role for message in found] == ["system", "user", "assistant", "tool"]
    assert [part.kind for part in found[1].parts] == ["text", "media"]
    call = found[2].parts[0].call
    assert call is not None
    assert (call.name, call.arguments, call.id) == ("f", {"a": 1}, "c1")
    assert found[3].parts[0].value == {"ok": True}


def test_messages_of_the_otel_conventions_and_of_anthropic() -> None:
    found = messages_of(
        {
            "messages": [
                {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
                {
                    "role": "assistant",
                    "parts": [{"type": "tool_call", "id": "1", "name": "weather", "arguments": {"city": "Oslo"}}],
                },
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "rain"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "hm"}, {"type": "tool_use", "name": "g", "input": {}}],
                },
            ]
        }
    )
    assert found is not None
    assert [[part.kind for part in message.parts] for message in found] == [
        ["text"],
        ["tool_call"],
        ["tool_result"],
        ["reasoning", "tool_call"],
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        5,
        [],
        {},
        {"role": "king", "content": "x"},
        [{"role": "user"}],
        [{"role": "user", "content": "x"}, 5],
        {"messages": "x"},
    ],
)
def test_other_values_are_no_conversation(value: Any) -> None:
    assert messages_of(value) is None


@pytest.mark.parametrize(
    ("value", "role", "text"),
    [
        (None, "user", ""),
        ("plain", "user", "plain"),
        ({"question": "why?"}, "user", "why?"),
        (
            [
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "x"},
                {"role": "user", "content": "last"},
            ],
            "user",
            "last",
        ),
        ([{"role": "assistant", "content": "answer"}], "assistant", "answer"),
        ({"kwargs": {"a": 1}}, "user", '{"kwargs": {"a": 1}}'),
    ],
)
def test_what_somebody_said(value: Any, role: str, text: str) -> None:
    assert said(value, role) == text


def test_a_tool_call_of_any_shape() -> None:
    assert tool_call("f").name == "f"
    assert tool_call({}).name == "tool"
    assert tool_call({"function": "x", "name": "g", "args": "not json"}).arguments == "not json"


def _size(node: Node) -> int:
    return 1 + sum(_size(child) for _, child in node.children)


def test_folding_is_bounded_in_depth_width_and_text() -> None:
    deep: Any = "end"
    for _ in range(500):
        deep = [deep]
    assert _size(fold(deep)) < 20
    assert _size(fold([[1] * 500] * 500)) <= MAX_NODES + 1
    wide = fold(list(range(1000)))
    assert (wide.size, wide.rest) == (1000, 800)
    assert len(fold("x" * 100_000).text) < 21_000
    assert [fold(value).text for value in (None, True, 1.5)] == ["null", "true", "1.5"]
