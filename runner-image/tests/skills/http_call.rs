//! `http_call`: what goes out, what comes back, and where redirects may lead.

use serde_json::{Value, json};

use crate::proxy::{Place, Proxy, fixed};
use crate::skill::through;

const JSON: [(&str, &str); 1] = [("content-type", "application/json; charset=utf-8")];

fn call(places: &[(&str, Place)], input: Value) -> (Proxy, crate::skill::Ran) {
    let proxy = Proxy::new(places);
    let ran = through(&proxy, "http_call", &input);
    (proxy, ran)
}

#[test]
fn a_request_goes_out_as_it_was_written() {
    let answer =
        fixed(201, &[("content-type", "application/vnd.a+json"), ("etag", "\"1\""), ("server", "x")], r#"{"id":7}"#);
    let (proxy, ran) = call(
        &[("https://api.example.com", answer)],
        json!({
            "url": "https://API.example.com/v1/things?a=1#part", "method": "POST",
            "query": {"b": "x y&z", "n": 2, "on": true},
            "headers": {"X-Trace": "abc", "Authorization": "Bearer t"}, "body": {"name": "é"},
        }),
    );
    let expected = json!({
        "status": 201, "headers": {"content-type": "application/vnd.a+json", "etag": "\"1\""},
        "json": {"id": 7}, "bytes": 8,
    });
    assert_eq!(ran.output(), expected);
    let [seen] = &proxy.seen()[..] else { panic!("one request") };
    assert_eq!(seen.line, "POST https://api.example.com/v1/things?a=1&b=x+y%26z&n=2&on=true");
    assert_eq!(seen.header("x-trace"), Some("abc"));
    assert_eq!(seen.header("authorization"), Some("Bearer t"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.json(), json!({"name": "é"}));
}

#[test]
fn text_goes_out_as_text_and_a_type_of_ones_own_is_kept() {
    let place = || [("http://a.example.com:8080", fixed(200, &[], ""))];
    let url = "http://a.example.com:8080/x";
    let (proxy, ran) = call(&place(), json!({"url": url, "method": "PUT", "text": "a,b"}));
    assert_eq!(ran.output(), json!({"status": 200, "headers": {}, "bytes": 0}));
    assert_eq!(proxy.seen()[0].header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(proxy.seen()[0].body, "a,b");
    let headers = json!({"content-type": "text/csv"});
    let (proxy, _) = call(&place(), json!({"url": url, "method": "PUT", "text": "a,b", "headers": headers}));
    assert_eq!(proxy.seen()[0].header("content-type"), Some("text/csv"));
    let (proxy, ran) = call(&place(), json!({"url": url, "method": "HEAD"}));
    assert_eq!(ran.output()["bytes"], 0);
    assert_eq!(proxy.seen()[0].header("content-type"), None);
}

#[test]
fn an_answer_is_json_only_where_nothing_of_it_is_lost() {
    let table = [
        (fixed(200, &JSON, "[1,2.5]"), "json", json!([1, 2.5])),
        (fixed(200, &JSON, "null"), "json", json!(null)),
        (fixed(200, &JSON, r#"{"id":9007199254740993}"#), "text", json!(r#"{"id":9007199254740993}"#)),
        (fixed(200, &JSON, "[100000000000000000000]"), "text", json!("[100000000000000000000]")),
        (fixed(200, &JSON, "{broken"), "text", json!("{broken")),
        (fixed(200, &[("content-type", "text/plain")], "1"), "text", json!("1")),
        (fixed(200, &[], [0xff_u8, 0xfe]), "base64", json!("//4=")),
    ];
    for (place, kind, content) in table {
        let (_, ran) = call(&[("https://a", place)], json!({"url": "https://a"}));
        let output = ran.output();
        assert_eq!(output.get(kind), Some(&content), "{output}");
        assert_eq!(output.as_object().unwrap().len(), 4, "{output}");
    }
}

#[test]
fn a_status_that_was_not_expected_is_a_failure() {
    let missing = || fixed(404, &JSON, r#"{"error":"no such thing"}"#);
    let (_, ran) = call(&[("https://a", missing())], json!({"url": "https://a/x"}));
    ran.fails(r#"GET https://a/x: answered 404 Not Found: {\"error\":\"no such thing\"}"#);
    let (_, ran) = call(&[("https://a", missing())], json!({"url": "https://a/x", "expectStatus": [200, 404]}));
    assert_eq!(ran.output()["status"], 404);
    let (_, ran) = call(&[("https://a", fixed(200, &[], ""))], json!({"url": "https://a/x", "expectStatus": [201]}));
    ran.fails("GET https://a/x: answered 200 OK");
    let (_, ran) = call(&[("https://a", fixed(500, &[], vec![b'x'; 100_000]))], json!({"url": "https://a/x"}));
    assert!(ran.error.len() < 700, "{}", ran.error.len());
    let (_, ran) = call(&[("https://a", fixed(200, &[], vec![b'x'; 300_000]))], json!({"url": "https://a/x"}));
    ran.fails("GET https://a/x: the answer has more than 262144 bytes");
}

#[test]
fn a_redirect_is_an_answer_unless_it_is_to_be_followed() {
    let places = [
        ("https://a/1", fixed(302, &[("location", "/2")], "")),
        ("https://a/2", fixed(302, &[("location", "3?q=1")], "")),
        ("https://a/3", fixed(200, &JSON, "3")),
    ];
    let (proxy, ran) = call(&places, json!({"url": "https://a/1"}));
    assert_eq!(ran.output(), json!({"status": 302, "headers": {"location": "/2"}, "bytes": 0}));
    assert_eq!(proxy.seen().len(), 1);
    let (proxy, ran) = call(&places, json!({"url": "https://a/1", "followRedirects": 2}));
    assert_eq!(ran.output()["json"], 3);
    assert_eq!(proxy.lines(), ["GET https://a/1", "GET https://a/2", "GET https://a/3?q=1"]);
    let (proxy, ran) = call(&places, json!({"url": "https://a/1", "followRedirects": 1}));
    ran.fails("input.followRedirects: more than 1 redirects; the last one led to https://a/3?q=1");
    assert_eq!(proxy.seen().len(), 2);
}

#[test]
fn the_method_of_a_redirect_is_as_rfc_9110_says() {
    for (status, method, after) in [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (301, "PUT", "PUT"),
        (302, "DELETE", "DELETE"),
        (307, "POST", "POST"),
        (308, "PATCH", "PATCH"),
    ] {
        let places = [("https://a/1", fixed(status, &[("location", "/2")], "")), ("https://a/2", fixed(200, &[], ""))];
        let mut input = json!({"url": "https://a/1", "method": method, "followRedirects": 5});
        if method != "HEAD" {
            input["body"] = json!({"a": 1});
        }
        let (proxy, ran) = call(&places, input.clone());
        assert_eq!(ran.output()["status"], 200);
        let seen = proxy.seen();
        assert_eq!(seen[1].line, format!("{after} https://a/2"), "{status}");
        let kept = after == method && method != "HEAD";
        assert_eq!(!seen[1].body.is_empty(), kept, "{status} {method}");
        assert_eq!(seen[1].header("content-type").is_some(), kept, "{status} {method}");
    }
}

#[test]
fn credentials_do_not_follow_to_another_host() {
    let places = [
        ("https://a", fixed(307, &[("location", "https://b/x")], "")),
        ("https://b/x", fixed(307, &[("location", "http://b/y")], "")),
        ("http://b/y", fixed(200, &[], "")),
    ];
    let headers = json!({"authorization": "Bearer t", "cookie": "s=1", "x-api-key": "k", "accept": "text/plain"});
    let input = json!({"url": "https://a", "method": "POST", "text": "t", "headers": headers, "followRedirects": 3});
    let (proxy, ran) = call(&places, input);
    ran.output();
    let seen = proxy.seen();
    assert_eq!(seen[0].header("x-api-key"), Some("k"));
    for later in &seen[1..] {
        for gone in ["authorization", "cookie", "x-api-key"] {
            assert_eq!(later.header(gone), None, "{}", later.line);
        }
        assert_eq!(later.header("accept"), Some("text/plain"));
        assert_eq!(later.body, "t");
    }
    let places = [("https://a/1", fixed(307, &[("location", "/2")], "")), ("https://a/2", fixed(200, &[], ""))];
    let headers = json!({"authorization": "Bearer t"});
    let (proxy, _) = call(&places, json!({"url": "https://a/1", "headers": headers, "followRedirects": 1}));
    assert_eq!(proxy.seen()[1].header("authorization"), Some("Bearer t"), "the same host may have it");
}

#[test]
fn a_redirect_leads_nowhere_that_is_not_allowed() {
    let to = |location| [("https://a", fixed(302, &[("location", location)], ""))];
    let input = || json!({"url": "https://a", "followRedirects": 5});
    let (proxy, ran) = call(&to("http://169.254.169.254/latest"), input());
    ran.fails("GET http://169.254.169.254/latest: the broker refused it (egress-denied): the Skill lists no egress to 169.254.169.254; add it to spec.egress");
    assert_eq!(proxy.seen().len(), 2, "the proxy was asked");
    let (_, ran) = call(&to("file:///etc/passwd"), input());
    ran.fails(
        r#"GET https://a/: it redirects to "file:///etc/passwd": "file:///etc/passwd" is not an http or https URL"#,
    );
    let (_, ran) = call(&to("https://u:p@b/"), input());
    ran.fails_with(r#"it redirects to "https://u:p@b/": it carries a user or a password"#);
}

#[test]
fn wrong_inputs_name_the_field() {
    let with = |field: &str, value: Value| {
        let mut input = json!({"url": "https://a"});
        input[field] = value;
        input
    };
    let table = [
        (json!({}), "input: missing field `url`"),
        (
            with("methd", json!("GET")),
            "input.methd: unknown field `methd`, expected one of `url`, `method`, `headers`, `query`, `body`, `text`, `expectStatus`, `followRedirects`",
        ),
        (
            with("method", json!("get")),
            "input.method: unknown variant `get`, expected one of `GET`, `HEAD`, `OPTIONS`, `POST`, `PUT`, `PATCH`, `DELETE`",
        ),
        (
            with("method", json!("CONNECT")),
            "input.method: unknown variant `CONNECT`, expected one of `GET`, `HEAD`, `OPTIONS`, `POST`, `PUT`, `PATCH`, `DELETE`",
        ),
        (with("headers", json!({"a b": "1"})), r#"input.headers: "a b" is not a header's name"#),
        (
            with("headers", json!({"a": "1\r\nb: 2"})),
            r#"input.headers: the value of "a" has a line break or another control character"#,
        ),
        (with("headers", json!({"Host": "b"})), r#"input.headers: "host" is not for a skill to set; leave it out"#),
        (
            with("headers", json!({"Countersign-Url": "b"})),
            r#"input.headers: "countersign-url" is not for a skill to set; leave it out"#,
        ),
        (
            with("headers", json!({"Proxy-Authorization": "b"})),
            r#"input.headers: "proxy-authorization" is not for a skill to set; leave it out"#,
        ),
        (with("headers", json!({"a": 1})), "input.headers.a: invalid type: integer `1`, expected a string"),
        (with("query", json!({"a": [1]})), "input.query.a: [1] is neither a string nor a number nor true or false"),
        (with("body", json!({})), "input.body: a GET has none; write method POST, PUT or PATCH, or leave it out"),
        (with("followRedirects", json!(6)), "input.followRedirects: 6 is more than 5"),
        (
            with("expectStatus", json!([99])),
            "input.expectStatus: 99 is not the status of an answer; write some of 200 to 599",
        ),
        (with("expectStatus", json!(200)), "input.expectStatus: invalid type: integer `200`, expected a sequence"),
        (
            json!({"url": "https://a", "method": "POST", "body": 1, "text": "1"}),
            "input.text: there is a body already; leave one of them out",
        ),
    ];
    let proxy = Proxy::new(&[]);
    for (input, message) in table {
        through(&proxy, "http_call", &input).fails(message);
    }
    assert!(proxy.seen().is_empty());
}

#[test]
fn what_the_broker_refuses_is_quoted() {
    let refused = |headers: &[(&'static str, &str)], body: &str| {
        let mut all = vec![("countersign-refused", "cost-ceiling")];
        all.extend(headers);
        let (_, ran) =
            call(&[("https://a", fixed(402, &all, body))], json!({"url": "https://a", "expectStatus": [402]}));
        ran
    };
    refused(&[], r#"{"type":"about:blank","title":"Too dear","status":402,"detail":"0.02 is more than 0.01"}"#)
        .fails("GET https://a/: the broker refused it (cost-ceiling): 0.02 is more than 0.01");
    refused(&[], r#"{"title":"Too dear"}"#).fails("GET https://a/: the broker refused it (cost-ceiling): Too dear");
    refused(&[], "plain").fails("GET https://a/: the broker refused it (cost-ceiling): plain");
}
