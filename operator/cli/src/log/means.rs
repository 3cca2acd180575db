//! What a reader of an export has that says more than the export itself.

use std::path::PathBuf;
use std::str::FromStr;

use alloy_primitives::Address;
use clap::Args;
use countersign_core::payment::address;
use reqwest::Url;

/// What a reader has that says more than the export itself.
#[derive(Args, Default)]
pub struct Means {
    /// Certificates (PEM) of the roots that you trust to stamp times (RFC 3161)
    #[arg(long, value_name = "FILE")]
    pub tsa_roots: Option<PathBuf>,
    /// The router that you know on a chain: without it nobody can say whose payment a receipt is of. What was paid must then
    /// be proved, which takes --rpc as well
    #[arg(long = "router", value_name = "CHAIN:ADDRESS")]
    pub routers: Vec<Router>,
    /// A node of that chain, to ask whether a block is the chain's. Every block that is named must then be proved
    #[arg(long, value_name = "CHAIN=URL")]
    pub rpc: Vec<Rpc>,
    /// A node of Qubic, to ask whether a transaction was included
    #[arg(long, value_name = "URL")]
    pub qubic_rpc: Option<Url>,
    /// There must be an anchor, and each must be proved
    #[arg(long)]
    pub require_anchors: bool,
}

impl Means {
    /// The option that asks for anchors to be proved.
    pub fn asks_for_anchors(&self) -> Option<&'static str> {
        self.require_anchors.then_some("--require-anchors")
    }

    /// The option that asks for blocks to be proved, whichever chain's: a made-up one can name any.
    pub fn asks_for_blocks(&self) -> Option<&'static str> {
        (!self.rpc.is_empty()).then_some("--rpc")
    }

    /// The option that asks for payments to be proved.
    pub fn asks_for_payments(&self) -> Option<&'static str> {
        (!self.routers.is_empty()).then_some("--router")
    }
}

#[cfg(test)]
impl Means {
    pub fn of(tsa_roots: Option<PathBuf>, chain: u64, address: Address) -> Means {
        Means { tsa_roots, routers: vec![Router { chain, address }], ..Means::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Router {
    pub chain: u64,
    pub address: Address,
}

impl FromStr for Router {
    type Err = String;

    fn from_str(text: &str) -> Result<Router, String> {
        let (chain, at) = text.split_once(':').ok_or("write CHAIN:ADDRESS, such as 1:0x…")?;
        let chain = chain.parse().map_err(|_| format!("{chain:?} is no chain's number"))?;
        Ok(Router { chain, address: address(at)? })
    }
}

#[derive(Clone, Debug)]
pub struct Rpc {
    pub chain: u64,
    pub url: Url,
}

impl FromStr for Rpc {
    type Err = String;

    fn from_str(text: &str) -> Result<Rpc, String> {
        let (chain, url) = text.split_once('=').ok_or("write CHAIN=URL, such as 1=https://…")?;
        let chain = chain.parse().map_err(|_| format!("{chain:?} is no chain's number"))?;
        Ok(Rpc { chain, url: url.parse().map_err(|error| format!("{url}: {error}"))? })
    }
}
