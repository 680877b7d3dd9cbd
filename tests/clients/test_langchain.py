"""The unmodified langchain-openai."""

import asyncio
import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr
from tests.clients.conftest import TEXT, outcome_of
from tests.clients.weather import ARGUMENTS, HISTORY, TOOL, City
from tests.network.conftest import Description

from pinaivu_node.engines.echo_embeddings import DIMENSIONS, unit_vector

Chats = Callable[..., ChatOpenAI]


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """Closed at the test's end. A client of LangChain's own waits for the garbage collector, which may warn of it."""
    with httpx.Client() as found:
        yield found


@pytest.fixture
def chat(network: Description, http: httpx.Client) -> Chats:
    """Of a model, with options; `echo` where none is named."""
    return functools.partial(chat_of, network, http_client=http)


def chat_of(network: Description, model: str = "echo", **options: Any) -> ChatOpenAI:
    key = SecretStr(options.pop("api_key", network["api_key"]))
    return ChatOpenAI(base_url=network["base_url"], api_key=key, model=model, **options)


def test_an_unstreamed_answer_is_the_engines(chat: Chats) -> None:
    answer = chat().invoke(TEXT)
    assert (answer.content, answer.response_metadata["finish_reason"]) == (TEXT, "stop")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


def test_a_stream_carries_the_same_text_and_usage(chat: Chats) -> None:
    whole = chat().invoke(TEXT)
    chunks = list(chat(stream_usage=True).stream(TEXT))
    assert "".join(str(chunk.content) for chunk in chunks) == TEXT
    assert [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata] == [whole.usage_metadata]


def test_the_async_calls_answer_alike(chat: Chats) -> None:
    async def ask() -> tuple[object, str]:
        async with httpx.AsyncClient() as http_async_client:
            talk = chat(http_async_client=http_async_client)
            chunks = [str(chunk.content) async for chunk in talk.astream(TEXT)]
            return (await talk.ainvoke(TEXT)).content, "".join(chunks)

    assert asyncio.run(ask()) == (TEXT, TEXT)


def test_a_history_with_content_parts_is_understood(chat: Chats) -> None:
    system, user, assistant, parts = (message["content"] for message in HISTORY)
    history = [SystemMessage(system), HumanMessage(user), AIMessage(assistant), HumanMessage(parts)]
    assert chat().invoke(history).content == "four five six"


def test_max_tokens_ends_the_answer_with_length(chat: Chats) -> None:
    answer = chat(max_tokens=2).invoke(TEXT)
    assert answer.response_metadata["finish_reason"] == "length"


def test_a_tool_is_called_and_its_result_understood(chat: Chats) -> None:
    talk = chat("caller").bind_tools([TOOL])
    asked = talk.invoke(ARGUMENTS)
    (call,) = asked.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Zürich"})
    answer = talk.invoke([HumanMessage(ARGUMENTS), asked, ToolMessage("rain", tool_call_id=call["id"])])
    assert answer.content == "rain"


def test_a_streamed_tool_call_is_put_together(chat: Chats) -> None:
    chunks: Any = chat("caller").bind_tools([TOOL]).stream(ARGUMENTS)
    whole = functools.reduce(operator.add, chunks)
    assert [call["args"] for call in whole.tool_calls] == [{"city": "Zürich"}]


@pytest.mark.parametrize(("method", "model"), [("json_schema", "structured"), ("function_calling", "caller")])
def test_structured_output_is_parsed(chat: Chats, method: Any, model: str) -> None:
    structured = chat(model).with_structured_output(City, method=method)
    assert structured.invoke(ARGUMENTS) == City(city="Zürich")


def test_a_response_is_the_engines_streamed_and_not(chat: Chats) -> None:
    talk = chat(use_responses_api=True)
    answer = talk.invoke(TEXT)
    assert (answer.text, answer.response_metadata["object"]) == (TEXT, "response")
    whole: Any = functools.reduce(operator.add, talk.stream(TEXT))
    assert (whole.text, whole.usage_metadata) == (TEXT, answer.usage_metadata)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == len(TEXT.split())


def test_a_conversation_goes_on_by_responses(chat: Chats) -> None:
    talk = chat(use_responses_api=True)
    history = [SystemMessage("You are brief."), HumanMessage("one two"), talk.invoke("one two"), HumanMessage("three")]
    assert talk.invoke(history).text == "three"


def test_a_tool_is_called_by_responses_and_its_result_understood(chat: Chats) -> None:
    talk = chat("caller", use_responses_api=True).bind_tools([TOOL])
    asked = talk.invoke(ARGUMENTS)
    streamed: Any = functools.reduce(operator.add, talk.stream(ARGUMENTS))
    assert [call["args"] for call in (*asked.tool_calls, *streamed.tool_calls)] == [{"city": "Zürich"}] * 2
    (call,) = asked.tool_calls
    answer = talk.invoke([HumanMessage(ARGUMENTS), asked, ToolMessage("rain", tool_call_id=call["id"])])
    assert answer.text == "rain"


def test_structured_output_of_a_response_is_parsed(chat: Chats) -> None:
    structured = chat("structured", use_responses_api=True).with_structured_output(City)
    assert structured.invoke(ARGUMENTS) == City(city="Zürich")


def test_a_response_that_breaks_off_is_an_error_and_no_end(chat: Chats) -> None:
    with pytest.raises(openai.APIError, match="the node failed"):
        list(chat("breaks", use_responses_api=True).stream(TEXT))


def test_documents_and_a_query_become_vectors(network: Description, http: httpx.Client) -> None:
    embeddings = OpenAIEmbeddings(
        base_url=network["base_url"],
        api_key=SecretStr(network["api_key"]),
        model="echo",
        check_embedding_ctx_length=False,
        http_client=http,
    )
    expected = [pytest.approx(unit_vector(text, DIMENSIONS), abs=1e-6) for text in (TEXT, "another")]
    assert embeddings.embed_documents([TEXT, "another"]) == expected
    assert embeddings.embed_query(TEXT) == expected[0]


def test_log_probabilities_are_bound(chat: Chats) -> None:
    answer = chat(logprobs=True, top_logprobs=2).invoke("one two")
    tokens = answer.response_metadata["logprobs"]["content"]
    assert [(one["token"], len(one["top_logprobs"])) for one in tokens] == [("one ", 2), ("two", 2)]


def test_several_choices_are_generated(chat: Chats) -> None:
    (generated,) = chat(n=2).generate([[HumanMessage("one two")]]).generations
    assert [one.text for one in generated] == ["one two", "twoone "]


@pytest.mark.parametrize(
    ("options", "error", "code", "text"),
    [
        ({"api_key": "sk-pnv-wrong"}, openai.AuthenticationError, "invalid_api_key", "API key"),
        ({"model": "gpt-9"}, openai.UnprocessableEntityError, "model_not_found", "gpt-9"),
        ({"temperature": 3}, openai.UnprocessableEntityError, "invalid_value", "temperature: "),
    ],
    ids=["wrong key", "unknown model", "temperature"],
)
def test_errors_are_the_sdks_own_classes(
    chat: Chats, options: dict[str, Any], error: type[openai.APIStatusError], code: str, text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        chat(**options).invoke(TEXT)
    assert caught.value.code == code
    assert str(caught.value.request_id).startswith("req_")


def test_a_503_is_retried_as_often_as_it_is_told_to(deserted: Description) -> None:
    attempts: list[str] = []
    seen = httpx.Client(
        event_hooks={"request": [lambda request: attempts.append(request.headers["x-stainless-retry-count"])]}
    )
    with seen, pytest.raises(openai.InternalServerError, match="no node offers"):
        chat_of(deserted, max_retries=1, http_client=seen).invoke(TEXT)
    assert attempts == ["0", "1"]


def test_an_answer_that_breaks_off_is_an_error_and_no_end(chat: Chats) -> None:
    with pytest.raises(openai.APIError, match="the node failed"):
        list(chat("breaks").stream(TEXT))


def test_the_request_id_leads_to_the_receipt(chat: Chats) -> None:
    talk = chat(include_response_headers=True)
    request_id = talk.invoke(TEXT).response_metadata["headers"]["x-request-id"]
    receipt = talk.root_client.get(f"/receipts/{request_id}", cast_to=httpx.Response).json()
    assert (receipt["request_id"], receipt["outcome"]) == (request_id, "completed")


def test_a_stream_left_half_way_is_cancelled_and_the_next_request_works(network: Description, chat: Chats) -> None:
    stream = chat("slow", include_response_headers=True).stream(TEXT)
    request_id = next(stream).response_metadata["headers"]["x-request-id"]
    next(chunk for chunk in stream if chunk.content)
    stream.close()  # type: ignore[attr-defined]
    assert outcome_of(network, request_id) == "cancelled"
    assert chat().invoke(TEXT).content == TEXT
