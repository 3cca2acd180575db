//! One tool of a Model Context Protocol server, over Streamable HTTP: the very tool that was signed for, or none.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use futures::stream::BoxStream;
use hyper::header::{HeaderName, HeaderValue};
use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, CallToolResult, ClientJsonRpcMessage, Tool};
use rmcp::transport::UnixSocketHttpClient;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
    StreamableHttpError, StreamableHttpPostResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sse_stream::Sse;

use super::http::{Client, HttpUrl, JSON_BYTES};
use crate::output::sha256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    url: HttpUrl,
    tool: String,
    #[serde(default)]
    arguments: Map<String, Value>,
    schema_sha256: Option<Pin>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Pin(String);

impl TryFrom<String> for Pin {
    type Error = String;

    fn try_from(text: String) -> Result<Pin, String> {
        match text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            true => Ok(Pin(text)),
            false => Err(format!("{text:?} is not a SHA-256; write 64 hexadecimal digits in lower case")),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    content: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_content: Option<Value>,
    is_error: bool,
}

pub async fn run(client: Client, input: Input) -> anyhow::Result<Output> {
    let Input { url: HttpUrl(url), tool: name, arguments, schema_sha256 } = input;
    let socket = client.socket().to_str().context("the runner's socket has no UTF-8 path")?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
    // What was sent is not sent again.
    config.reinit_on_expired_session = false;
    config.max_sse_event_size = JSON_BYTES;
    let client = PostOnly(UnixSocketHttpClient::new(socket, url.as_str()));
    let service = ().serve(StreamableHttpClientTransport::with_client(client, config));
    let service = service.await.with_context(|| format!("{url}: no session"))?;
    let result = async {
        let tools = service.list_all_tools().await.with_context(|| format!("{url}: tools/list"))?;
        let tool = find(&tools, &name)?;
        check_pin(tool, schema_sha256)?;
        check_arguments(tool, &arguments)?;
        let params = CallToolRequestParams::new(name.clone()).with_arguments(arguments);
        let result = service.call_tool(params).await.with_context(|| format!("{url}: tools/call of {name}"))?;
        output(&name, result)
    }
    .await;
    // The server may forget the session now; whether it did changes nothing.
    let _ = service.cancel().await;
    result
}

fn find<'a>(tools: &'a [Tool], name: &str) -> anyhow::Result<&'a Tool> {
    let names = || tools.iter().map(|tool| tool.name.as_ref()).collect::<Vec<_>>().join(", ");
    let found = tools.iter().find(|tool| tool.name == name);
    found.ok_or_else(|| anyhow!("input.tool: the server has no tool {name:?}; it has {}", names()))
}

/// What a person signed for is what the tool still says of itself.
fn check_pin(tool: &Tool, pinned: Option<Pin>) -> anyhow::Result<()> {
    let mut said = json!({"name": tool.name, "inputSchema": tool.input_schema});
    if let Some(description) = &tool.description {
        said["description"] = description.as_ref().into();
    }
    if let Some(schema) = &tool.output_schema {
        said["outputSchema"] = Value::Object(schema.as_ref().clone());
    }
    let current = sha256(&serde_json_canonicalizer::to_vec(&said)?);
    match pinned {
        Some(Pin(pinned)) if pinned == current => Ok(()),
        Some(Pin(pinned)) => bail!(
            "input.schemaSha256: the tool {:?} is now {current}, not {pinned}; read what it says of itself, and write \
             that if you agree",
            tool.name
        ),
        None => bail!(
            "input.schemaSha256: it is missing; the tool {:?} is {current} now; read what it says of itself, and write \
             that if you agree",
            tool.name
        ),
    }
}

fn check_arguments(tool: &Tool, arguments: &Map<String, Value>) -> anyhow::Result<()> {
    let schema = Value::Object(tool.input_schema.as_ref().clone());
    let schema = jsonschema::validator_for(&schema)
        .map_err(|error| anyhow!("the tool {:?} has an inputSchema that is none: {error}", tool.name))?;
    let arguments = Value::Object(arguments.clone());
    let wrong: Vec<String> = schema
        .iter_errors(&arguments)
        .map(|error| format!("input.arguments{}: {error}", error.instance_path()))
        .collect();
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("; ")) }
}

fn output(name: &str, result: CallToolResult) -> anyhow::Result<Output> {
    let texts = || result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.as_str());
    if result.is_error == Some(true) {
        bail!("the tool {name:?} failed: {}", texts().collect::<Vec<_>>().join("; "));
    }
    Ok(Output {
        content: serde_json::to_value(&result.content)?,
        structured_content: result.structured_content,
        is_error: false,
    })
}

/// One tool needs no stream of the server's own, which would stay open and be a request more to allow.
#[derive(Clone)]
struct PostOnly(UnixSocketHttpClient);

type Inner = <UnixSocketHttpClient as StreamableHttpClient>::Error;

impl StreamableHttpClient for PostOnly {
    type Error = Inner;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        authorization: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<Inner>> {
        self.0.post_message(uri, message, session, authorization, headers).await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        authorization: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        most: usize,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<Inner>> {
        self.0.post_message_with_max_sse_event_size(uri, message, session, authorization, headers, most).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        authorization: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), StreamableHttpError<Inner>> {
        self.0.delete_session(uri, session, authorization, headers).await
    }

    async fn get_stream(
        &self,
        _uri: Arc<str>,
        _session: Option<Arc<str>>,
        _last_event: Option<String>,
        _authorization: Option<String>,
        _headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, StreamableHttpError<Inner>> {
        Err(StreamableHttpError::ServerDoesNotSupportSse)
    }
}
