"""Anthropic. https://docs.anthropic.com/en/api/messages (contract: services/anthropic.md)"""

from typing import Any

from inferd.core.inputs import Chat, Tool, ToolChoice
from inferd.core.service import Ask, Call, Service
from inferd.core.settings import API_KEY, Kind, Setting, rate_limit
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.upstream.auth import header
from inferd.upstream.faults import ANTHROPIC_RULES, at, chat_fault
from inferd.wire import anthropic
from inferd.wire.texts import texts

_URL = "https://api.anthropic.com/v1/messages"
_NAME = "Anthropic chat completions"

OPTIONS = (
    Setting(key="max_tokens", kind=Kind.INTEGER, positive=True, required=True, label="Max Tokens"),
    Setting(key="temperature", kind=Kind.DOUBLE, label="Temperature"),
    Setting(key="top_k", kind=Kind.INTEGER, label="Top K"),
    Setting(key="top_p", kind=Kind.DOUBLE, label="Top P"),
)


def _headers(ask: Ask) -> dict[str, str]:
    return {"anthropic-version": "2023-06-01"}


def _completion_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": text} for text in texts(ask)],
        "model": ask.settings["model_id"],
    }
    for key in ("max_tokens", "temperature", "top_p", "top_k"):
        if ask.options.get(key) is not None:
            body[key] = ask.options[key]
    if ask.stream:
        body["stream"] = True
    return body


def _chat_body(ask: Ask) -> dict[str, Any]:
    """``stop`` is not sent (contract)."""
    chat = ask.inputs
    assert isinstance(chat, Chat)
    limit = ask.options["max_tokens"] if chat.max_completion_tokens is None else chat.max_completion_tokens
    members = {
        "model": chat.model or ask.settings["model_id"],
        "system": anthropic.system(chat),
        "messages": anthropic.messages(chat),
        "temperature": ask.options.get("temperature") if chat.temperature is None else chat.temperature,
        "top_p": ask.options.get("top_p") if chat.top_p is None else chat.top_p,
        "top_k": ask.options.get("top_k"),
        "tool_choice": _tool_choice(chat),
        "tools": [_tool(tool) for tool in chat.tools or ()] or None,
        "thinking": anthropic.thinking(chat.reasoning, limit),
        "stream": ask.stream,
        "max_tokens": limit,
    }
    return {key: value for key, value in members.items() if value is not None}


_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def _tool_choice(chat: Chat) -> dict[str, Any] | None:
    choice = chat.tool_choice
    if choice is None:
        return None
    if isinstance(choice, ToolChoice):
        return {"type": "tool", "name": choice.name}
    if choice not in _CHOICES:
        raise StatusError(
            400, f"Unsupported tool_choice value [{choice}] for the Anthropic chat completion API."
        )
    return {"type": _CHOICES[choice]}


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.function.strict is not None:
        raise StatusError(
            400,
            "The [strict] field in tool function definitions is not supported by the Anthropic chat completion API.",
        )
    return anthropic.tool(tool)


SERVICE = Service(
    name="anthropic",
    title="Anthropic",
    settings=(
        API_KEY,
        Setting(
            key="model_id",
            label="Model ID",
            description="Name of the provider's model to use.",
            required=True,
        ),
        rate_limit(50, "Requests per minute, 50 by default."),
    ),
    auth=header("x-api-key"),
    fault=at("error", "message"),
    rules=ANTHROPIC_RULES,
    replaces_task_settings=True,
    calls={
        TaskType.COMPLETION: Call(
            post=_URL,
            headers=_headers,
            body=_completion_body,
            reply=anthropic.completion(_NAME),
            chunks=anthropic.text_chunks,
            reads_errors=True,
            options=OPTIONS,
            one_input=_NAME,
            verb="chat completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_URL,
            headers=_headers,
            body=_chat_body,
            reply=anthropic.answer,
            chunks=anthropic.chunks,
            options=OPTIONS,
            fault=chat_fault,
            verb="chat completions",
        ),
    },
)
