//! A chat completion of a language model that speaks OpenAI's API, whole or put together from its stream.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use anyhow::{Context, bail};
use futures::StreamExt;
use http_body_util::{BodyExt, Limited};
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sse_stream::SseStream;

use super::http::{Answer, Client, HttpUrl, JSON_BYTES, json_headers};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    url: HttpUrl,
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Tool>,
    tool_choice: Option<ToolChoice>,
    max_tokens: NonZeroU32,
    temperature: Option<f64>,
    #[serde(default)]
    stream: bool,
    response_format: Option<ResponseFormat>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    message: Message,
    finish_reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    model: String,
}

/// As it is given and as it comes back, so that an answer can be part of the next question.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Message {
    role: Role,
    /// Text, or parts as OpenAI's API has them.
    #[serde(default)]
    content: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
    /// Which call a message of role `tool` answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    /// Why the model would not.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ToolCall {
    id: String,
    name: String,
    arguments: Value,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// JSON Schema of the arguments.
    parameters: Map<String, Value>,
}

/// `auto`, `none`, `required`, or `{"name": "…"}`, in the API's own form.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
struct ToolChoice(Value);

impl TryFrom<Value> for ToolChoice {
    type Error = String;

    fn try_from(value: Value) -> Result<ToolChoice, String> {
        match (value.as_str(), value["name"].as_str()) {
            (Some("auto" | "none" | "required"), _) => Ok(ToolChoice(value)),
            (_, Some(name)) => Ok(ToolChoice(json!({"type": "function", "function": {"name": name}}))),
            (_, None) => Err(format!(r#"{value} is no choice; write auto, none, required or {{"name": "TOOL"}}"#)),
        }
    }
}

/// `text`, `json`, or `{"name": "…", "schema": {…}}`, in the API's own form.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
struct ResponseFormat(Value);

impl TryFrom<Value> for ResponseFormat {
    type Error = String;

    fn try_from(value: Value) -> Result<ResponseFormat, String> {
        match (value.as_str(), value["name"].as_str(), &value["schema"]) {
            (Some("text"), _, _) => Ok(ResponseFormat(json!({"type": "text"}))),
            (Some("json"), _, _) => Ok(ResponseFormat(json!({"type": "json_object"}))),
            (_, Some(name), schema @ Value::Object(_)) => Ok(ResponseFormat(
                json!({"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": true}}),
            )),
            _ => Err(format!(r#"{value} is no format; write text, json or {{"name": "NAME", "schema": {{…}}}}"#)),
        }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase"))]
struct Usage {
    #[serde(rename(deserialize = "prompt_tokens"))]
    input_tokens: u64,
    #[serde(rename(deserialize = "completion_tokens"), default)]
    output_tokens: u64,
    #[serde(default)]
    total_tokens: u64,
}

pub async fn run(client: Client, input: Input) -> anyhow::Result<Output> {
    if input.messages.is_empty() {
        bail!("input.messages: there is none; write at least one");
    }
    let streamed = input.stream;
    let (url, body) = request(input)?;
    let answer = client.send(Method::POST, &url.0, json_headers(), body.to_string()).await?;
    if !answer.status().is_success() {
        return Err(answer.failure().await);
    }
    // A server may answer as a whole although it was asked for a stream.
    let completion = if streamed && !answer.is_json() { assemble(answer).await? } else { whole(answer).await? };
    completion.output()
}

fn request(input: Input) -> anyhow::Result<(HttpUrl, Value)> {
    let Input { url, model, messages, tools, tool_choice, max_tokens, temperature, stream, response_format } = input;
    let messages = messages
        .into_iter()
        .enumerate()
        .map(|(index, message)| message.outgoing().with_context(|| format!("input.messages[{index}]")));
    let messages: Vec<Value> = messages.collect::<Result<_, _>>()?;
    let mut body = json!({"model": model, "messages": messages, "max_tokens": max_tokens});
    if !tools.is_empty() {
        body["tools"] = tools.iter().map(|tool| json!({"type": "function", "function": tool})).collect();
    }
    if let Some(ToolChoice(choice)) = tool_choice {
        body["tool_choice"] = choice;
    }
    if let Some(temperature) = temperature {
        body["temperature"] = temperature.into();
    }
    if let Some(ResponseFormat(format)) = response_format {
        body["response_format"] = format;
    }
    if stream {
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
    }
    Ok((url, body))
}

impl Message {
    fn outgoing(self) -> anyhow::Result<Value> {
        let Message { role, content, tool_calls, tool_call_id, refusal } = self;
        match (&role, &tool_call_id) {
            (Role::Tool, None) => bail!("toolCallId: a message of role tool names the call that it answers"),
            (Role::System | Role::Developer | Role::User | Role::Assistant, Some(_)) => {
                bail!("toolCallId: it goes with role tool; leave it out")
            }
            (Role::Tool, Some(_)) | (Role::System | Role::Developer | Role::User | Role::Assistant, None) => {}
        }
        let mut message = json!({"role": role, "content": content});
        if !tool_calls.is_empty() {
            let function = |ToolCall { id, name, arguments }: ToolCall| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}});
            message["tool_calls"] = tool_calls.into_iter().map(function).collect();
        }
        if let Some(id) = tool_call_id {
            message["tool_call_id"] = id.into();
        }
        if let Some(refusal) = refusal {
            message["refusal"] = refusal.into();
        }
        Ok(message)
    }
}

/// What the API says, whole or in part: the same fields under `message` and `delta`.
#[derive(Deserialize)]
struct Wire {
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, alias = "delta")]
    message: Part,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Part {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallPart>>,
}

#[derive(Deserialize)]
struct CallPart {
    /// In a stream: which call it is a part of.
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionPart>,
}

#[derive(Default, Deserialize)]
struct FunctionPart {
    name: Option<String>,
    arguments: Option<String>,
}

async fn whole(answer: Answer) -> anyhow::Result<Completion> {
    let mut completion = Completion::default();
    completion.take(answer.json(JSON_BYTES).await?)?;
    Ok(completion)
}

async fn assemble(answer: Answer) -> anyhow::Result<Completion> {
    let mut completion = Completion::default();
    let body = Limited::new(answer.into_body(), JSON_BYTES).map_err(std::io::Error::other);
    let mut events = std::pin::pin!(SseStream::new(body));
    while let Some(event) = events.next().await {
        match event.context("the model's stream broke off")?.data {
            None => {}
            Some(data) if data.trim() == "[DONE]" => break,
            Some(data) => completion.take(
                serde_json::from_str(&data)
                    .with_context(|| format!("the model's stream has an event that is no JSON: {data:?}"))?,
            )?,
        }
    }
    Ok(completion)
}

/// A completion as far as it has come.
#[derive(Default)]
struct Completion {
    model: String,
    content: Option<String>,
    refusal: Option<String>,
    calls: BTreeMap<u64, PartialCall>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
}

#[derive(Default)]
struct PartialCall {
    id: String,
    name: String,
    arguments: String,
}

impl Completion {
    fn take(&mut self, wire: Wire) -> anyhow::Result<()> {
        let Wire { model, choices, usage, error } = wire;
        if let Some(error) = error.filter(|error| !error.is_null()) {
            bail!("the model server says: {}", error["message"].as_str().map_or(error.to_string(), str::to_owned));
        }
        if let Some(model) = model {
            self.model = model;
        }
        if usage.is_some() {
            self.usage = usage;
        }
        // One was asked for.
        let Some(Choice { message: Part { content, refusal, tool_calls }, finish_reason }) = choices.into_iter().next()
        else {
            return Ok(());
        };
        add(&mut self.content, content);
        add(&mut self.refusal, refusal);
        if finish_reason.is_some() {
            self.finish_reason = finish_reason;
        }
        for (place, CallPart { index, id, function }) in (0_u64..).zip(tool_calls.unwrap_or_default()) {
            let FunctionPart { name, arguments } = function.unwrap_or_default();
            let call = self.calls.entry(index.unwrap_or(place)).or_default();
            call.id.extend(id);
            call.name.extend(name);
            call.arguments.extend(arguments);
        }
        Ok(())
    }

    fn output(self) -> anyhow::Result<Output> {
        let Completion { model, content, refusal, calls, finish_reason, usage } = self;
        let Some(finish_reason) = finish_reason else {
            bail!("the model's answer ended before the model did (no finish_reason)");
        };
        let whole = |PartialCall { id, name, arguments }: PartialCall| {
            // Some models write nothing where a tool takes nothing.
            let text = if arguments.trim().is_empty() { "{}" } else { &arguments };
            let arguments = serde_json::from_str(text)
                .with_context(|| format!("the model calls {name} with arguments that are no JSON: {arguments:?}"))?;
            Ok(ToolCall { id, name, arguments })
        };
        let tool_calls = calls.into_values().map(whole).collect::<anyhow::Result<_>>()?;
        let content = content.filter(|text| !text.is_empty()).map_or(Value::Null, Value::from);
        let message = Message { role: Role::Assistant, content, tool_calls, tool_call_id: None, refusal };
        Ok(Output { message, finish_reason, usage, model })
    }
}

fn add(to: &mut Option<String>, more: Option<String>) {
    if let Some(more) = more {
        to.get_or_insert_default().push_str(&more);
    }
}
