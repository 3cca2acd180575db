//! What lies outside of the sandboxes: the chain node, the receiver of webhooks, and decoys that nothing may reach.
#![allow(clippy::unwrap_used, reason = "a library of tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::{script, text};

const SCRIPT: &str = "e2e/outside/outside.sh";

/// This machine's address, as pods see it.
pub fn ip() -> String {
    script(SCRIPT, &["ip"])
}

/// Asks the chain node.
pub fn rpc(method: &str, parameters: &Value) -> String {
    script(SCRIPT, &["rpc", method, &parameters.to_string()])
}

/// What the receiver was sent, in order.
pub fn received() -> Vec<Value> {
    script(SCRIPT, &["alarms"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Something on the node that answers whoever asks, and counts them: over TCP, and over UDP at the same port.
pub struct Decoy {
    pub address: String,
    hits: Arc<AtomicU32>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    link: Option<String>,
}

impl Decoy {
    /// At an address of the node's own.
    pub fn at(address: &str) -> Decoy {
        let (tcp, udp) = (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        udp.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (hits, over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let of = || (Arc::clone(&hits), Arc::clone(&over));
        let ((counted, ended), (counted_too, ended_too)) = (of(), of());
        let threads = vec![
            std::thread::spawn(move || answer(&tcp, &counted, &ended)),
            std::thread::spawn(move || {
                while !ended_too.load(Ordering::SeqCst) {
                    let hit = udp.recv_from(&mut [0; 512]).is_ok();
                    counted_too.fetch_add(hit.into(), Ordering::SeqCst);
                }
            }),
        ];
        Decoy { address: address.to_owned(), hits, over, threads, link: None }
    }

    /// At an address that is added to the node's bridge for as long as this lives.
    pub fn at_added(ip: &str, port: u16) -> Decoy {
        let cidr = format!("{ip}/32");
        let added = ip_address(&["replace", &cidr, "dev", "csnode0"]);
        assert!(added.status.success(), "{}", text(&added.stderr));
        let mut decoy = Decoy::at(&format!("{ip}:{port}"));
        decoy.link = Some(cidr);
        decoy
    }

    pub fn hits(&self) -> u32 {
        self.hits.load(Ordering::SeqCst)
    }
}

fn answer(tcp: &TcpListener, hits: &AtomicU32, over: &AtomicBool) {
    for stream in tcp.incoming() {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        hits.fetch_add(1, Ordering::SeqCst);
        // Whoever it is may have gone, and has been counted.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\ndecoy");
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the one that waits for connections.
        drop(TcpStream::connect(&self.address));
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        if let Some(cidr) = &self.link {
            ip_address(&["del", cidr, "dev", "csnode0"]);
        }
    }
}

fn ip_address(arguments: &[&str]) -> std::process::Output {
    Command::new("ip").arg("address").args(arguments).output().unwrap()
}
