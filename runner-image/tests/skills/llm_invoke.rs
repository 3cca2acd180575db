//! `llm_invoke` against a real server of OpenAI's API, which streams in pieces of four characters.

use serde_json::{Value, json};

use crate::counterpart::{Server, model};
use crate::proxy::{Place, Proxy, fixed};
use crate::skill::{Ran, through};

const URL: &str = "https://llm.example.com/v1/chat/completions";

struct Model {
    _server: Server,
    proxy: Proxy,
}

impl Model {
    fn start() -> Model {
        let (server, address) = model();
        Model { _server: server, proxy: Proxy::new(&[("https://llm.example.com", Place::Tcp(address))]) }
    }

    fn ask(&self, prompt: &str, more: Value) -> Ran {
        let mut input =
            json!({"url": URL, "model": "m-1", "maxTokens": 50, "messages": [{"role": "user", "content": prompt}]});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        through(&self.proxy, "llm_invoke", &input)
    }

    fn last(&self) -> Value {
        self.proxy.seen().last().unwrap().json()
    }
}

fn tools() -> Value {
    json!([
        {"name": "get_weather", "description": "The weather", "parameters": {"type": "object"}},
        {"name": "get_time", "parameters": {"type": "object"}},
    ])
}

#[test]
fn an_answer_is_the_same_whole_and_streamed() {
    let model = Model::start();
    let expected = json!({
        "message": {"role": "assistant", "content": "Hello, wörld! How are you?"},
        "finishReason": "stop", "model": "m-1",
        "usage": {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18},
    });
    assert_eq!(model.ask("greet", json!({})).output(), expected);
    let sent = json!({"model": "m-1", "max_tokens": 50, "messages": [{"role": "user", "content": "greet"}]});
    assert_eq!(model.last(), sent);
    assert_eq!(model.ask("greet", json!({"stream": true})).output(), expected);
    assert_eq!(model.last()["stream_options"], json!({"include_usage": true}));
}

#[test]
fn tool_calls_come_back_with_their_arguments_and_can_be_answered() {
    let model = Model::start();
    let calls = json!([
        {"id": "call_1", "name": "get_weather", "arguments": {"city": "Graz", "days": 2}},
        {"id": "call_2", "name": "get_time", "arguments": {}},
    ]);
    for stream in [false, true] {
        let output = model.ask("weather", json!({"stream": stream, "tools": tools(), "toolChoice": "auto"})).output();
        let message = json!({"role": "assistant", "content": "Let me look.", "toolCalls": calls});
        assert_eq!((&output["message"], &output["finishReason"]), (&message, &json!("tool_calls")), "stream {stream}");
        assert_eq!(output["usage"], json!({"inputTokens": 20, "outputTokens": 15, "totalTokens": 35}));
    }
    let function = json!({"name": "get_weather", "description": "The weather", "parameters": {"type": "object"}});
    assert_eq!(model.last()["tools"][0], json!({"type": "function", "function": function}));

    let messages = json!([
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": "Let me look.", "toolCalls": [calls[0]]},
        {"role": "tool", "content": "sunny", "toolCallId": "call_1"},
    ]);
    let output = model.ask("", json!({"messages": messages})).output();
    assert_eq!(output["message"]["content"], "It is sunny in Graz.");
    let call = json!({"name": "get_weather", "arguments": r#"{"city":"Graz","days":2}"#});
    assert_eq!(
        model.last()["messages"][1]["tool_calls"],
        json!([{"id": "call_1", "type": "function", "function": call}])
    );
    assert_eq!(model.last()["messages"][2], json!({"role": "tool", "content": "sunny", "tool_call_id": "call_1"}));
}

#[test]
fn options_go_out_in_the_form_of_the_api() {
    let model = Model::start();
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let input = json!({
        "temperature": 0.5, "tools": tools(), "toolChoice": {"name": "get_time"},
        "responseFormat": {"name": "answer", "schema": schema},
    });
    model.ask("greet", input).output();
    let sent = model.last();
    assert_eq!(sent["temperature"], 0.5);
    assert_eq!(sent["tool_choice"], json!({"type": "function", "function": {"name": "get_time"}}));
    let format = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}});
    assert_eq!(sent["response_format"], format);
    model.ask("greet", json!({"responseFormat": "json"})).output();
    assert_eq!(model.last()["response_format"], json!({"type": "json_object"}));
}

#[test]
fn what_the_server_refuses_is_quoted() {
    let model = Model::start();
    for stream in [false, true] {
        let ran = model.ask("hurry", json!({"stream": stream}));
        ran.fails_with(&format!("POST {URL}: answered 429 Too Many Requests: "));
        ran.fails_with("You are too fast");
    }
}

#[test]
fn a_stream_that_is_not_whole_is_no_answer() {
    let event = |value: Value| format!("data: {value}\n\n");
    let text = |text: &str| event(json!({"model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}));
    let end = event(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
    let call = event(
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{\"a\""}}]}}]}),
    );
    let done = "data: [DONE]\n\n";
    let table = [
        (text("Hel"), "the model's answer ended before the model did (no finish_reason)"),
        (text("Hel") + done, "the model's answer ended before the model did (no finish_reason)"),
        (text("Hel") + &event(json!({"error": {"message": "overloaded"}})), "the model server says: overloaded"),
        (text("Hel") + "data: {\n\n", "the model's stream has an event that is no JSON: \"{\""),
        (call + &end + done, r#"the model calls f with arguments that are no JSON: "{\"a\"""#),
        (text(&"x".repeat(5 << 20)), "the model's stream broke off"),
    ];
    let ask = |body: String| {
        let place = fixed(200, &[("content-type", "text/event-stream")], body);
        let proxy = Proxy::new(&[("https://llm.example.com", place)]);
        let messages = json!([{"role": "user", "content": "x"}]);
        through(
            &proxy,
            "llm_invoke",
            &json!({"url": URL, "model": "m", "maxTokens": 5, "messages": messages, "stream": true}),
        )
    };
    for (body, message) in table {
        ask(body).fails_with(message);
    }
    // Comments, other events, carriage returns and a stream without usage are all allowed.
    let odd =
        format!(": hello\r\n\r\nevent: ping\r\ndata: {{\"choices\": []}}\r\n\r\n{}{end}{done}ignored", text("Hi"));
    let output = ask(odd).output();
    assert_eq!(
        output,
        json!({"message": {"role": "assistant", "content": "Hi"}, "finishReason": "stop", "model": "m"})
    );
}

#[test]
fn wrong_inputs_name_the_field() {
    let with = |field: &str, value: Value| {
        let messages = json!([{"role": "user", "content": "x"}]);
        let mut input = json!({"url": URL, "model": "m", "maxTokens": 5, "messages": messages});
        input[field] = value;
        input
    };
    let without = |field: &str| {
        let mut input = with("stream", json!(false));
        input.as_object_mut().unwrap().remove(field);
        input
    };
    let table = [
        (without("maxTokens"), "input: missing field `maxTokens`"),
        (without("model"), "input: missing field `model`"),
        (with("maxTokens", json!(0)), "input.maxTokens: invalid value: integer `0`, expected a nonzero u32"),
        (
            with("max_tokens", json!(5)),
            "input.max_tokens: unknown field `max_tokens`, expected one of `url`, `model`, `messages`, `tools`, `toolChoice`, `maxTokens`, `temperature`, `stream`, `responseFormat`",
        ),
        (with("messages", json!([])), "input.messages: there is none; write at least one"),
        (
            with("messages", json!([{"role": "robot"}])),
            "input.messages[0].role: unknown variant `robot`, expected one of `system`, `developer`, `user`, `assistant`, `tool`",
        ),
        (
            with("messages", json!([{"role": "tool", "content": "x"}])),
            "input.messages[0]: toolCallId: a message of role tool names the call that it answers",
        ),
        (
            with("messages", json!([{"role": "user", "content": "x", "toolCallId": "1"}])),
            "input.messages[0]: toolCallId: it goes with role tool; leave it out",
        ),
        (with("tools", json!([{"name": "f"}])), "input.tools[0]: missing field `parameters`"),
        (
            with("toolChoice", json!("any")),
            r#"input.toolChoice: "any" is no choice; write auto, none, required or {"name": "TOOL"}"#,
        ),
        (
            with("responseFormat", json!("yaml")),
            r#"input.responseFormat: "yaml" is no format; write text, json or {"name": "NAME", "schema": {…}}"#,
        ),
    ];
    let proxy = Proxy::new(&[]);
    for (input, message) in table {
        through(&proxy, "llm_invoke", &input).fails(message);
    }
    assert!(proxy.seen().is_empty());
}
