//! `mcp_call` against the official test server, over Streamable HTTP.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::counterpart::{Server, everything};
use crate::proxy::{Place, Proxy, fixed};
use crate::skill::{Ran, through};

const URL: &str = "https://tools.example.com/mcp";

struct Tools {
    _server: Server,
    _folder: tempfile::TempDir,
    proxy: Proxy,
}

impl Tools {
    fn start() -> Tools {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("mcp.sock");
        let server = everything(&socket);
        let proxy = Proxy::new(&[("https://tools.example.com", Place::Unix(socket))]);
        Tools { _server: server, _folder: folder, proxy }
    }

    fn call(&self, tool: &str, arguments: Value, pin: Option<&str>) -> Ran {
        let mut input = json!({"url": URL, "tool": tool, "arguments": arguments});
        if let Some(pin) = pin {
            input["schemaSha256"] = pin.into();
        }
        through(&self.proxy, "mcp_call", &input)
    }

    /// What the skill says that the pin would be.
    fn pin(&self, tool: &str) -> String {
        let ran = self.call(tool, json!({}), None);
        ran.fails_with(&format!("input.schemaSha256: it is missing; the tool {tool:?} is "));
        let (_, rest) = ran.error.split_once(" is ").unwrap();
        rest.split_once("the tool").unwrap().1.split(' ').nth(3).unwrap().to_owned()
    }

    fn methods(&self) -> Vec<String> {
        let said = |seen: crate::proxy::Seen| match seen.line.split_once(' ').unwrap().0 {
            "POST" => seen.json()["method"].as_str().unwrap_or("?").to_owned(),
            other => other.to_owned(),
        };
        self.proxy.seen().into_iter().map(said).collect()
    }
}

#[test]
fn a_tool_that_is_what_was_signed_for_is_called() {
    let tools = Tools::start();
    let pin = tools.pin("echo");
    assert_eq!(
        tools.methods(),
        ["initialize", "notifications/initialized", "tools/list", "DELETE"],
        "it was not called"
    );
    let output = tools.call("echo", json!({"message": "hällo"}), Some(&pin)).output();
    assert_eq!(output, json!({"content": [{"type": "text", "text": "Echo: hällo"}], "isError": false}));
    assert_eq!(tools.methods()[4..], ["initialize", "notifications/initialized", "tools/list", "tools/call", "DELETE"]);
    assert!(tools.proxy.lines().iter().all(|line| line.ends_with(URL)), "{:?}", tools.proxy.lines());
}

#[test]
fn the_pin_is_over_the_canonical_form_of_what_the_tool_says() {
    let tools = Tools::start();
    let pin = tools.pin("get-structured-content");
    // In the form of RFC 8785, by hand: sorted keys, no white space.
    let said = concat!(
        r##"{"description":"Returns structured content along with an output schema for client data validation","##,
        r##""inputSchema":{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"location":{"description":"Choose city","enum":["New York","Chicago","Los Angeles"],"type":"string"}},"required":["location"],"type":"object"},"##,
        r##""name":"get-structured-content","outputSchema":{"$schema":"http://json-schema.org/draft-07/schema#","additionalProperties":false,"##,
        r##""properties":{"conditions":{"description":"Weather conditions description","type":"string"},"humidity":{"description":"Humidity percentage","type":"number"},"temperature":{"description":"Temperature in celsius","type":"number"}},"required":["temperature","conditions","humidity"],"type":"object"}}"##
    );
    let digest: String = Sha256::digest(said).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(pin, digest);
    let output = tools.call("get-structured-content", json!({"location": "Chicago"}), Some(&pin)).output();
    assert_eq!(output["structuredContent"]["conditions"], "Light rain / drizzle");
    assert_eq!(output["isError"], false);
}

#[test]
fn another_pin_another_tool_and_wrong_arguments_call_nothing() {
    let tools = Tools::start();
    let (echo, sum) = (tools.pin("echo"), tools.pin("get-sum"));
    tools.call("echo", json!({"message": "x"}), Some(&sum)).fails(&format!(
        "input.schemaSha256: the tool \"echo\" is now {echo}, not {sum}; read what it says of itself, and write that if you agree"
    ));
    tools.call("ecko", json!({}), Some(&echo)).fails_with("input.tool: the server has no tool \"ecko\"; it has echo, ");
    tools
        .call("get-sum", json!({"a": "one"}), Some(&sum))
        .fails("input.arguments: \"b\" is a required property; input.arguments/a: \"one\" is not of type \"number\"");
    assert!(!tools.methods().iter().any(|method| method == "tools/call"), "{:?}", tools.methods());
    let output = tools.call("get-sum", json!({"a": 1, "b": 2.5}), Some(&sum)).output();
    assert_eq!(output["content"][0]["text"], "The sum of 1 and 2.5 is 3.5.");
}

#[test]
fn a_tool_that_fails_is_a_failure() {
    let tools = Tools::start();
    let pin = tools.pin("gzip-file-as-resource");
    let arguments = json!({"name": "x", "data": "ftp://example.invalid/x", "outputType": "resource"});
    tools
        .call("gzip-file-as-resource", arguments, Some(&pin))
        .fails_with("the tool \"gzip-file-as-resource\" failed: ");
}

#[test]
fn what_stands_in_the_way_is_said() {
    let pin = "0".repeat(64);
    let call = |proxy: &Proxy| through(proxy, "mcp_call", &json!({"url": URL, "tool": "t", "schemaSha256": pin}));
    call(&Proxy::new(&[])).fails_with("the Skill lists no egress to tools.example.com; add it to spec.egress");
    let web = Proxy::new(&[("https://tools.example.com", fixed(200, &[("content-type", "text/html")], "<p>"))]);
    call(&web).fails_with("Unexpected content type: Some(\"text/html\")");
    let down = Proxy::new(&[("https://tools.example.com", fixed(503, &[], "down"))]);
    call(&down).fails_with("HTTP 503 Service Unavailable: down");
    assert_eq!(down.seen().len(), 1, "not tried again");
}

#[test]
fn wrong_inputs_name_the_field() {
    let table = [
        (json!({"tool": "t"}), "input: missing field `url`"),
        (json!({"url": URL}), "input: missing field `tool`"),
        (json!({"url": URL, "tool": "t", "arguments": [1]}), "input.arguments: invalid type: sequence, expected a map"),
        (
            json!({"url": URL, "tool": "t", "schemaSha256": "abc"}),
            "input.schemaSha256: \"abc\" is not a SHA-256; write 64 hexadecimal digits in lower case",
        ),
        (
            json!({"url": URL, "tool": "t", "args": {}}),
            "input.args: unknown field `args`, expected one of `url`, `tool`, `arguments`, `schemaSha256`",
        ),
        (json!({"url": "unix:/x", "tool": "t"}), "input.url: \"unix:/x\" is not an http or https URL"),
    ];
    let proxy = Proxy::new(&[]);
    for (input, message) in table {
        through(&proxy, "mcp_call", &input).fails(message);
    }
    assert!(proxy.seen().is_empty());
}
