//! Addresses that must not be reached, however they are spelt, resolved or pointed at.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::upstream::{Upstream, status, text};
use crate::world::{World, limits, loopback};

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn listing(egress: &[Value]) -> Value {
    json!({"effect": "External", "egress": egress})
}

#[tokio::test]
async fn a_listed_host_with_listed_addresses_is_reached() {
    let upstream =
        Upstream::start("127.0.0.1", None, |seen| async move { text(format!("{} {}", seen.method, seen.path)) }).await;
    let port = upstream.address.port();
    let world = World::new(listing(&[loopback("api.example", port, json!({}))])).await;
    world.names.set("api.example", &[&["127.0.0.1"]]);
    let answer = world.client().await.get(&format!("http://api.example:{port}/x?q=1")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /x?q=1"));
    assert_eq!(upstream.seen()[0].headers["host"], format!("api.example:{port}"));
    world.settled().await;
    let call = world.record.calls().remove(0);
    assert_eq!(call.url, format!("http://api.example:{port}/x"), "without its query");
    assert_eq!(
        (call.outcome.as_deref(), call.status, call.address),
        (Some("answered"), Some(200), Some(upstream.address.to_string()))
    );
    assert_eq!((call.method.as_str(), call.sent, call.received), ("GET", 0, 10));
}

#[tokio::test]
async fn a_name_that_resolves_to_what_is_not_public_is_refused_and_nothing_is_sent() {
    let decoy = Upstream::decoy(at("127.0.0.2", 0)).await;
    let port = decoy.address.port();
    let egress = json!({"host": "*.example", "protocol": "Http", "port": port, "addresses": ["127.0.0.1/32"]});
    let world = World::new(listing(&[egress])).await;
    let client = world.client().await;
    let answers: [&[&str]; 12] = [
        &["127.0.0.2"],
        &["1.1.1.1", "127.0.0.2"],
        &["127.0.0.2", "1.1.1.1"],
        &["127.0.0.1", "127.0.0.2"],
        &["::ffff:127.0.0.2"],
        &["::ffff:7f00:2"],
        &["64:ff9b::7f00:2"],
        &["::127.0.0.2"],
        &["2002:7f00:2::"],
        &["::1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let name = format!("n{number}.example");
        world.names.set(&name, &[answer]);
        let refused = client.get(&format!("http://{name}:{port}/")).await;
        assert_eq!((refused.status, refused.refused().as_str()), (403, "address-refused"), "{answer:?}");
        assert!(refused.text().contains("list a range"), "{}", refused.text());
    }
    assert_eq!(decoy.connections(), 0);
    world.settled().await;
    assert!(world.outcomes().iter().all(|outcome| outcome == "address-refused"), "what was tried is recorded");
    assert_eq!(world.record.calls().len(), 12);
}

#[tokio::test]
async fn a_name_that_changes_between_two_looks_never_leads_astray() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("right") }).await;
    let port = upstream.address.port();
    let decoy = Upstream::decoy(at("127.0.0.2", port)).await;
    let egress = loopback("rebind.example", port, json!({"addresses": ["127.0.0.1/32"]}));
    let world = World::new(listing(&[egress])).await;
    world.names.set("rebind.example", &[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"], &["127.0.0.2"]]);
    let client = world.client().await;
    for expected in [200, 403, 200, 403, 403] {
        assert_eq!(client.get(&format!("http://rebind.example:{port}/")).await.status, expected);
    }
    assert_eq!(
        (upstream.connections(), decoy.connections()),
        (2, 0),
        "one lookup for each call, and it is the one that counts"
    );
}

#[tokio::test]
async fn an_address_in_disguise_is_that_address() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("right") }).await;
    let port = upstream.address.port();
    let decoy = Upstream::decoy(at("127.0.0.2", port)).await;
    let world = World::new(listing(&[loopback("127.0.0.1", port, json!({}))])).await;
    let client = world.client().await;
    for host in
        ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "%31%32%37.0.0.1", "①②⑦.0.0.1"]
    {
        assert_eq!(client.get(&format!("http://{host}:{port}/")).await.text(), "right", "{host}");
    }
    for host in [
        "127.0.0.2",
        "2130706434",
        "0x7f000002",
        "0177.0.0.2",
        "127.2",
        "0x7f.2",
        "[::ffff:127.0.0.2]",
        "[::ffff:7f00:2]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[::127.0.0.1]",
        "localhost",
        "127.0.0.1.nip.example",
        "①②⑦.0.0.2",
    ] {
        let refused = client.get(&format!("http://{host}:{port}/")).await;
        assert_eq!((refused.status, refused.refused().as_str()), (403, "egress-denied"), "{host}");
    }
    for url in [
        format!("http://127.0.0.1@127.0.0.2:{port}/"),
        format!("http://127.0.0.1:80@127.0.0.2:{port}/"),
        format!("http://127.0.0.1\\@127.0.0.2:{port}/"),
        format!("http://127.0.0.2:{port}\\@127.0.0.1/"),
    ] {
        assert_eq!(client.get(&url).await.refused(), "bad-request", "{url}");
    }
    assert_eq!(decoy.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_each_hop_is_judged() {
    let decoy = Upstream::decoy(at("127.0.0.2", 0)).await;
    let to = decoy.url("/secret");
    let location = to.clone();
    let upstream = Upstream::start("127.0.0.1", None, move |seen| {
        let location =
            if seen.path == "/meta" { "http://169.254.169.254/latest/".to_owned() } else { location.clone() };
        async move { status(302, &[("location", &location)]) }
    })
    .await;
    let world = World::new(listing(&[loopback("127.0.0.1", upstream.address.port(), json!({}))])).await;
    let client = world.client().await;
    for (path, location) in [("/", to.as_str()), ("/meta", "http://169.254.169.254/latest/")] {
        let answer = client.get(&upstream.url(path)).await;
        assert_eq!((answer.status, answer.headers["location"].to_str().unwrap()), (302, location));
        assert!(!answer.headers.contains_key("countersign-refused"));
        assert_eq!(client.get(location).await.refused(), "egress-denied");
    }
    assert_eq!(decoy.connections(), 0);
}

#[tokio::test]
async fn what_the_cluster_refuses_is_refused_even_where_it_looks_public() {
    let world = World::with(listing(&[json!({"host": "pod.example"})]), limits(), &["44.0.0.0/8"]).await;
    world.names.set("pod.example", &[&["44.1.2.3"]]);
    let refused = world.client().await.get("https://pod.example/").await;
    assert_eq!(refused.refused(), "address-refused");
    assert!(refused.text().contains("44.0.0.0/8"), "{}", refused.text());
}

#[tokio::test]
async fn a_certificate_must_be_of_the_name() {
    let world = World::new(json!({"effect": "External"})).await;
    let right =
        Upstream::start("127.0.0.1", Some(world.authority.acceptor(&["secure.example"])), |_| async { text("ok") })
            .await;
    let wrong =
        Upstream::start("127.0.0.1", Some(world.authority.acceptor(&["other.example"])), |_| async { text("no") })
            .await;
    let stranger = crate::world::Authority::new().acceptor(&["secure.example"]);
    let unknown = Upstream::start("127.0.0.1", Some(stranger), |_| async { text("no") }).await;
    world.names.set("secure.example", &[&["127.0.0.1"]]);
    let ports = [&right, &wrong, &unknown].map(|upstream| upstream.address.port());
    let egress: Vec<Value> = ports
        .iter()
        .map(|port| json!({"host": "secure.example", "port": port, "addresses": ["127.0.0.0/8"]}))
        .collect();
    world.admit(crate::world::ATTEMPT, listing(&egress));
    let client = world.client().await;
    let ask = |port: u16| {
        let client = &client;
        async move { client.get(&format!("https://secure.example:{port}/")).await }
    };
    assert_eq!(ask(ports[0]).await.text(), "ok");
    for port in &ports[1..] {
        assert_eq!(ask(*port).await.refused(), "unreachable");
    }
    assert_eq!((wrong.seen().len(), unknown.seen().len()), (0, 0), "nothing was said to them");
}
