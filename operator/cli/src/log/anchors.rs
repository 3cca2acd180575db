//! What networks outside have of the log: that a checkpoint was there at a time which nobody here can set back.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use anyhow::{Context, Error, anyhow, bail};
use countersign_chain::network::Work;
use countersign_chain::timestamp::Roots;
use countersign_chain::{evm, qubic, timestamp};
use countersign_core::event::{Event, PaymentReceipt};
use countersign_core::payment::{Payment, PaymentId};
use countersign_core::tlog::{Anchor, Checkpoint, entry, verify_consistency};
use countersign_crds::{PaymentMode, PaymentState};
use jiff::Timestamp;
use reqwest::Client;
use serde::Deserialize;

use super::bundle::{ANCHORS, Bundle};
use super::means::{Means, Rpc};
use super::report::{Finding, Open};
use super::verify::Proved;

/// Proves every anchor and every payment of an export as far as the means go, and says what holds and what is only claimed.
pub async fn prove(bundle: &Bundle, proved: &Proved, means: &Means) -> anyhow::Result<Vec<Finding>> {
    let roots = match &means.tsa_roots {
        None => None,
        Some(file) => {
            let pem = std::fs::read(file).with_context(|| file.display().to_string())?;
            Some(Roots::from_pem(&pem).with_context(|| file.display().to_string())?)
        }
    };
    let client = countersign_chain::settings::client(None)?;
    let mut said = Vec::new();
    if let (Some(option), true) = (means.asks_for_anchors(), bundle.anchors.is_empty()) {
        bail!("{ANCHORS}: holds no anchor, which {option} asks for; export again when one covers these entries");
    }
    for (index, anchor) in bundle.anchors.iter().enumerate() {
        let line = of_anchor(anchor, proved, roots.as_ref(), means, &client).await;
        said.push(line.with_context(|| format!("{ANCHORS}: line {}, of {}", index + 1, anchor.network))?);
    }
    for payment in payments(bundle)? {
        let id = payment.terms.id;
        let line = of_payment(&payment, means, &client).await;
        said.push(line.with_context(|| format!("entry {}: the payment {id}", payment.index))?);
    }
    Ok(said)
}

async fn of_anchor(
    anchor: &Anchor,
    proved: &Proved,
    roots: Option<&Roots>,
    means: &Means,
    client: &Client,
) -> anyhow::Result<Finding> {
    let checkpoint = proved.keys.open(&anchor.checkpoint).map_err(Error::msg).context("checkpoint")?;
    follows(anchor, &checkpoint, &proved.checkpoint)?;
    let digest = Checkpoint::anchored(&anchor.checkpoint)?;
    let evidence = anchor.evidence().map_err(Error::msg)?;
    let covers = match checkpoint.size {
        size if size == proved.checkpoint.size => format!("All {size} entries"),
        size => format!("The first {size} of its entries"),
    };
    let named = |transaction: &str| match transaction == anchor.transaction {
        true => Ok(()),
        false => Err(anyhow!("transaction: is {}, and the evidence is of {transaction}", anchor.transaction)),
    };
    match kind(&evidence)? {
        Kind::Timestamp => {
            let stamp = match roots {
                Some(roots) => timestamp::verify(&evidence, &digest, roots)?,
                None => timestamp::claimed(&evidence, &digest)?,
            };
            named(&stamp.serial)?;
            placed(anchor, None, Some(stamp.time))?;
            if roots.is_none() {
                let said = format!("{covers} were there at {}, as a time stamp of {} has it.", stamp.time, stamp.tsa);
                let what = "who signed time stamps (give --tsa-roots FILE)".to_owned();
                return Ok(Finding { said, open: vec![Open { what, asked: means.asks_for_anchors() }] });
            }
            let said = format!("{covers} were there at {}, as {} has signed.", stamp.time, stamp.tsa);
            Ok(Finding { said, open: Vec::new() })
        }
        Kind::Ethereum => {
            let work = Work::Anchor(digest);
            let expected = evm::Expected { work: &work, chain_id: None, router: None, account: None };
            let found = evm::verify(&evidence, &expected)?;
            named(&found.transaction.to_string())?;
            placed(anchor, Some(found.block_number), Some(found.block_time))?;
            let (on, open) = on_chain(&found, means, means.asks_for_anchors(), client).await?;
            let said = format!("{covers} were there at {}: transaction {} {on}.", found.block_time, found.transaction);
            Ok(Finding { said, open: open.into_iter().collect() })
        }
        Kind::Qubic => {
            let found = qubic::verify(&evidence, &digest, None)?;
            named(&found.transaction)?;
            // Its tick's time is the nodes' word.
            placed(anchor, Some(found.tick.into()), None)?;
            let asked = means.asks_for_anchors().or(means.qubic_rpc.is_some().then_some("--qubic-rpc"));
            let (included, open) = match &means.qubic_rpc {
                None => (String::new(), Some("whether transactions of Qubic were included (give --qubic-rpc URL)")),
                Some(url) => match qubic::confirm(client, url, FINAL_TICKS, &found).await? {
                    qubic::Inclusion::Included(at) => (format!(", and was included at {at}"), None),
                    qubic::Inclusion::Unknown => (
                        String::new(),
                        Some("whether transactions of Qubic were included, which the node cannot tell yet"),
                    ),
                    qubic::Inclusion::Absent => bail!("the node says that it was not included"),
                },
            };
            let said = format!(
                "{covers} are in transaction {}, which {} has signed for tick {}{included}.",
                found.transaction, found.source, found.tick
            );
            let open = open.map(|what| Open { what: what.to_owned(), asked });
            Ok(Finding { said, open: open.into_iter().collect() })
        }
    }
}

/// As settings of the signer have it where they say nothing else.
const FINAL_TICKS: u32 = 10;

fn follows(anchor: &Anchor, old: &Checkpoint, new: &Checkpoint) -> anyhow::Result<()> {
    if old.size != anchor.size {
        bail!("size: is {}, and the checkpoint's is {}", anchor.size, old.size);
    }
    let proof = anchor.proof().map_err(Error::msg)?;
    verify_consistency(old.size, new.size, &proof, &old.root, &new.root)
        .context("its checkpoint is not the beginning of the exported one")
}

/// What the anchor says of its evidence beside it is what the evidence says itself.
fn placed(anchor: &Anchor, place: Option<u64>, time: Option<Timestamp>) -> anyhow::Result<()> {
    if anchor.place != place {
        let number = |place: Option<u64>| place.map_or("none".to_owned(), |place| place.to_string());
        bail!("place: is {}, and the evidence's is {}", number(anchor.place), number(place));
    }
    match time {
        // The record keeps microseconds.
        Some(time) if time.as_microsecond() != anchor.at.as_microsecond() => {
            bail!("at: is {}, and the evidence is of {time}", anchor.at)
        }
        Some(_) | None => Ok(()),
    }
}

enum Kind {
    Timestamp,
    Ethereum,
    Qubic,
}

/// DER begins with a sequence, the others are JSON of their own shape.
fn kind(evidence: &[u8]) -> anyhow::Result<Kind> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        chain_id: Option<u64>,
        tick: Option<u64>,
    }
    if evidence.first() == Some(&0x30) {
        return Ok(Kind::Timestamp);
    }
    match serde_json::from_slice(evidence).context("evidence: is of no kind that this version knows")? {
        Shape { chain_id: Some(_), tick: None } => Ok(Kind::Ethereum),
        Shape { chain_id: None, tick: Some(_) } => Ok(Kind::Qubic),
        Shape { .. } => bail!("evidence: is of no kind that this version knows"),
    }
}

/// Where it is, as a node of the reader's confirms; or what would have to be asked, and which option asks for it.
async fn on_chain(
    found: &evm::Proved,
    means: &Means,
    asked: Option<&'static str>,
    client: &Client,
) -> anyhow::Result<(String, Option<Open>)> {
    let (chain, number, hash) = (found.chain_id, found.block_number, found.block_hash);
    let place = format!("is in block {number} ({hash}) of chain {chain}");
    let Some(Rpc { url, .. }) = means.rpc.iter().find(|rpc| rpc.chain == chain) else {
        let what = format!("whether chain {chain} has the blocks that are named (give --rpc {chain}=URL)");
        return Ok((place, Some(Open { what, asked: asked.or(means.asks_for_blocks()) })));
    };
    let node = evm::Node::new("--rpc", client.clone(), url.clone());
    match node.confirm_block(chain, number, hash).await? {
        true => Ok((format!("{place}, as the node of --rpc confirms"), None)),
        false => bail!("block {number} of chain {chain} is not {hash}, says the node of --rpc"),
    }
}

/// A payment that entries of the export claim was made, with all that they say of it.
struct ClaimedPayment {
    index: u64,
    terms: Payment,
    account: Option<String>,
    receipt: PaymentReceipt,
}

/// The payments that an export says were made. What was erased says nothing.
fn payments(bundle: &Bundle) -> anyhow::Result<Vec<ClaimedPayment>> {
    let mut terms: BTreeMap<PaymentId, Payment> = BTreeMap::new();
    let mut accounts: BTreeMap<PaymentId, String> = BTreeMap::new();
    let mut made = Vec::new();
    let mut seen = BTreeSet::new();
    for line in &bundle.lines {
        let Some(payload) = &line.payload else { continue };
        let wrong = |why: String| anyhow!("entry {}: {why}", line.index);
        let opened = entry::open(&line.body).map_err(wrong)?;
        if !["requestPayment", "signPayment", "endPayment"].contains(&opened.kind.as_str()) {
            continue;
        }
        let event = entry::open_payload(&opened, payload).map_err(wrong)?;
        match serde_json::from_value(event).with_context(|| format!("entry {}", line.index))? {
            Event::RequestPayment { payment, .. } => drop(terms.insert(payment.id, *payment)),
            Event::SignPayment { payment, account, .. } => drop(accounts.insert(payment, account)),
            Event::EndPayment { payment, state: PaymentState::Confirmed, receipt: Some(receipt), .. } => {
                if !seen.insert(payment) {
                    bail!("entry {}: the payment {payment} was made twice", line.index);
                }
                made.push((line.index, payment, *receipt));
            }
            _ => {}
        }
    }
    // Of a payment whose request is not exported, nobody could say what it was to be.
    let claimed = made.into_iter().filter_map(|(index, id, receipt)| {
        Some(ClaimedPayment { index, terms: terms.get(&id)?.clone(), account: accounts.get(&id).cloned(), receipt })
    });
    Ok(claimed.collect())
}

async fn of_payment(claimed: &ClaimedPayment, means: &Means, client: &Client) -> anyhow::Result<Finding> {
    let ClaimedPayment { index: _, terms, account, receipt } = claimed;
    let evidence = match (terms.mode, &receipt.evidence) {
        (PaymentMode::Mock, _) => {
            return Ok(Finding { said: format!("{terms}: nothing was paid."), open: Vec::new() });
        }
        (PaymentMode::Live, Some(evidence)) => evidence.as_bytes(),
        (PaymentMode::Live, None) => bail!("its receipt has no evidence"),
    };
    let work = Work::Pay(terms.into());
    // CAIP-10: eip155:CHAIN:ADDRESS.
    let caip = account.as_deref().and_then(|account| account.strip_prefix("eip155:")?.split_once(':'));
    let (chain, payer) = caip.context("its entries name no account that paid")?;
    let (chain, payer): (u64, Address) = (chain.parse()?, payer.parse()?);
    let router = means.routers.iter().find(|router| router.chain == chain).map(|router| router.address);
    let expected = evm::Expected { work: &work, chain_id: Some(chain), router, account: Some(payer) };
    let found = evm::verify(evidence, &expected)?;
    if found.transaction.to_string() != receipt.transaction {
        bail!("its receipt is of {}, and the evidence of {}", receipt.transaction, found.transaction);
    }
    let asked = means.asks_for_payments();
    let (on, block) = on_chain(&found, means, asked, client).await?;
    let whose = router.is_none().then(|| {
        let by = found.router;
        let what = format!(
            "whether {by} is the router of chain {chain}, as anybody can put up another (give --router {chain}:ADDRESS)"
        );
        Open { what, asked }
    });
    let said = format!(
        "{terms} was paid at {}, once, out of {payer}: transaction {} {on}.",
        found.block_time, found.transaction
    );
    Ok(Finding { said, open: block.into_iter().chain(whose).collect() })
}
