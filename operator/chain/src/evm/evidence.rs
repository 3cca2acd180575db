//! Evidence that a block holds what was done, checked without a network: a header of the block's hash, and the paths
//! from its roots to the transaction and to its receipt, and the transaction's own call and signature. That the block is
//! the chain's is not in it; whoever has a node asks it (`Node::confirm_block`).

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Header, ReceiptEnvelope, Transaction, TxEnvelope};
use alloy_eips::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_rlp::Decodable;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{abi, trie};
use crate::network::Work;

const VERSION: u8 = 1;
/// In bytes. Most is a few kilobytes; a transaction may have data of 128 KiB, which is twice that in digits.
pub const MOST: usize = 1024 * 1024;

/// As it is kept: JSON, with its fields in this order, bytes in lower-case hexadecimal digits after 0x, and no spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    pub version: u8,
    pub chain_id: u64,
    pub router: Address,
    pub block_hash: B256,
    /// RLP.
    pub header: Bytes,
    /// The transaction's place in the block.
    pub index: usize,
    /// As EIP-2718 has it, and so the receipt.
    pub transaction: Bytes,
    /// The nodes of the trie, from the root down.
    pub transaction_proof: Vec<Bytes>,
    pub receipt: Bytes,
    pub receipt_proof: Vec<Bytes>,
}

/// What is to be proved. What is `None` may be anything, and is told by [`Proved`].
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    pub work: &'a Work,
    pub chain_id: Option<u64>,
    /// Anybody can put up a router that says whatever is wanted, so a payment proves nothing without it.
    pub router: Option<Address>,
    pub account: Option<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    pub block_number: u64,
    pub block_hash: B256,
    pub block_time: Timestamp,
    pub transaction: B256,
    pub chain_id: u64,
    pub router: Address,
    /// Who paid or anchored.
    pub account: Address,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvidenceError {
    #[error("the evidence has {0} bytes, and {MOST} are the most")]
    TooLarge(usize),
    #[error("the evidence is not readable: {0}")]
    Form(String),
    #[error("the evidence is not written as it should be: something in it was changed")]
    NotCanonical,
    #[error("the evidence is of version {0}, which is not known here")]
    Version(u8),
    #[error("the header is not of the block {0}")]
    Header(B256),
    #[error("the block does not hold the {0} at that place")]
    NotInBlock(&'static str),
    #[error("the transaction is for {}, and the evidence is for chain {expected}", found.map_or("any chain".to_owned(), |id| format!("chain {id}")))]
    Chain { found: Option<u64>, expected: u64 },
    #[error("it is on chain {found}, and not on chain {expected}")]
    OtherChain { found: u64, expected: u64 },
    #[error("it went through the router {found}, and not through {expected}")]
    OtherRouter { found: Address, expected: Address },
    #[error("the transaction was reverted: nothing was done")]
    Reverted,
    #[error("the transaction did something else")]
    SomethingElse,
    #[error("the transaction does not ask the router for what its receipt says was done: nobody's block holds both")]
    NotAsked,
    #[error("the transaction is signed by {}, and its receipt says that {account} did it: nobody's block holds both", found.map_or("nobody".to_owned(), |found| found.to_string()))]
    Signer { found: Option<Address>, account: Address },
}

/// Proves that the block of that hash holds what is expected. Asks nobody.
pub fn verify(evidence: &[u8], expected: &Expected) -> Result<Proved, EvidenceError> {
    let Expected { work, chain_id: on, router: through, account } = expected;
    let read = Evidence::read(evidence)?;
    let Evidence {
        version: _,
        chain_id,
        router,
        block_hash,
        header,
        index,
        transaction,
        transaction_proof,
        receipt,
        receipt_proof,
    } = read;
    if let Some(expected) = on.filter(|on| *on != chain_id) {
        return Err(EvidenceError::OtherChain { found: chain_id, expected });
    }
    if let Some(expected) = through.filter(|through| *through != router) {
        return Err(EvidenceError::OtherRouter { found: router, expected });
    }
    let form = |what: &str, error: &dyn std::fmt::Display| EvidenceError::Form(format!("the {what}: {error}"));
    if keccak256(&header) != block_hash {
        return Err(EvidenceError::Header(block_hash));
    }
    let header = {
        let mut rest: &[u8] = &header;
        let header = Header::decode(&mut rest).map_err(|error| form("header", &error))?;
        if rest.is_empty() { header } else { return Err(form("header", &"it goes on")) }
    };
    if !trie::proves(header.transactions_root, index, &transaction, &transaction_proof) {
        return Err(EvidenceError::NotInBlock("transaction"));
    }
    if !trie::proves(header.receipts_root, index, &receipt, &receipt_proof) {
        return Err(EvidenceError::NotInBlock("receipt"));
    }
    let hash = keccak256(&transaction);
    let transaction = TxEnvelope::decode_2718_exact(&transaction).map_err(|error| form("transaction", &error))?;
    if transaction.chain_id() != Some(chain_id) {
        return Err(EvidenceError::Chain { found: transaction.chain_id(), expected: chain_id });
    }
    let receipt = ReceiptEnvelope::decode_2718_exact(&receipt).map_err(|error| form("receipt", &error))?;
    if !receipt.status() {
        return Err(EvidenceError::Reverted);
    }
    let account = abi::done_by(work, router, *account, receipt.logs()).ok_or(EvidenceError::SomethingElse)?;
    asked(work, router, account, &transaction)?;
    let block_time = time(header.timestamp).ok_or_else(|| form("header", &"its time is beyond the year 9999"))?;
    Ok(Proved { block_number: header.number, block_hash, block_time, transaction: hash, chain_id, router, account })
}

/// A receipt is the block maker's word alone; the call is signed by the account that it is told of.
fn asked(work: &Work, router: Address, account: Address, transaction: &TxEnvelope) -> Result<(), EvidenceError> {
    let call = (transaction.value(), transaction.input().clone());
    if transaction.to() != Some(router) || call != abi::call(work) {
        return Err(EvidenceError::NotAsked);
    }
    match transaction.recover_signer().ok() {
        Some(found) if found == account => Ok(()),
        found => Err(EvidenceError::Signer { found, account }),
    }
}

/// Of a header's time, in seconds since 1970.
pub fn time(seconds: u64) -> Option<Timestamp> {
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
}

impl Evidence {
    pub const VERSION: u8 = VERSION;

    pub fn write(&self) -> Result<Vec<u8>, EvidenceError> {
        serde_json::to_vec(self).map_err(|error| EvidenceError::Form(error.to_string()))
    }

    /// Takes nothing but what [`Evidence::write`] gives.
    pub fn read(bytes: &[u8]) -> Result<Evidence, EvidenceError> {
        if bytes.len() > MOST {
            return Err(EvidenceError::TooLarge(bytes.len()));
        }
        let read: Evidence = serde_json::from_slice(bytes).map_err(|error| EvidenceError::Form(error.to_string()))?;
        if read.version != VERSION {
            return Err(EvidenceError::Version(read.version));
        }
        if read.write()? != bytes {
            return Err(EvidenceError::NotCanonical);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{Receipt, SignableTransaction, TxEip1559};
    use alloy_eips::Encodable2718;
    use alloy_primitives::{Log, TxKind, U256};
    use alloy_sol_types::SolEvent;

    use super::super::key::{Key, SecretKey};
    use super::*;

    const ROUTER: Address = Address::repeat_byte(7);

    fn key(secret: u8) -> SecretKey {
        SecretKey::parse(&format!("{secret:02x}").repeat(32)).unwrap()
    }

    /// A block that somebody made up around one transaction, signed by this key, and a receipt that tells of `account`.
    async fn made_up(signer: &SecretKey, account: Address, call: (Address, U256, Bytes)) -> Vec<u8> {
        let (to, value, input) = call;
        let transaction = TxEip1559 { chain_id: 1, to: TxKind::Call(to), value, input, ..TxEip1559::default() };
        let signature = signer.sign_hash(transaction.signature_hash()).await.unwrap();
        let transaction = TxEnvelope::from(transaction.into_signed(signature)).encoded_2718();
        let event = abi::Router::Anchored { by: account, digest: B256::repeat_byte(3) };
        let log = Log { address: ROUTER, data: event.encode_log_data() };
        let receipt = Receipt { status: true.into(), cumulative_gas_used: 50_000, logs: vec![log] };
        let receipt = ReceiptEnvelope::Eip1559(receipt.with_bloom()).encoded_2718();
        let (transactions_root, transaction_proof) = trie::prove(&[&transaction], 0);
        let (receipts_root, receipt_proof) = trie::prove(&[&receipt], 0);
        let header = Header { transactions_root, receipts_root, number: 5, ..Header::default() };
        let evidence = Evidence {
            version: VERSION,
            chain_id: 1,
            router: ROUTER,
            block_hash: header.hash_slow(),
            header: alloy_rlp::encode(&header).into(),
            index: 0,
            transaction: transaction.into(),
            transaction_proof,
            receipt: receipt.into(),
            receipt_proof,
        };
        evidence.write().unwrap()
    }

    #[tokio::test]
    async fn a_made_up_block_holds_only_what_the_account_itself_has_signed() {
        let work = Work::Anchor([3; 32]);
        let expected = Expected { work: &work, chain_id: None, router: None, account: None };
        let (ours, other) = (key(1), key(2));
        let (value, input) = abi::call(&work);
        let call = || (ROUTER, value, input.clone());
        let found = verify(&made_up(&ours, ours.address(), call()).await, &expected);
        assert!(found.is_ok(), "nothing in it tells that it is made up: {found:?}");
        let found = verify(&made_up(&other, ours.address(), call()).await, &expected);
        assert_eq!(found, Err(EvidenceError::Signer { found: Some(other.address()), account: ours.address() }));
        let others = abi::call(&Work::Anchor([4; 32])).1;
        for call in [
            (ROUTER, value, others),
            (ROUTER, value, Bytes::new()),
            (ROUTER, U256::from(1), input.clone()),
            (Address::ZERO, value, input.clone()),
        ] {
            let said = format!("{call:?}");
            let found = verify(&made_up(&ours, ours.address(), call).await, &expected);
            assert_eq!(found, Err(EvidenceError::NotAsked), "{said}");
        }
    }
}
