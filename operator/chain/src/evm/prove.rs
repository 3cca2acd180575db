//! What a node says of a block, held against the block's own hash.

use alloy_consensus::{Header, ReceiptEnvelope, Transaction as _, TxEnvelope};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Log, U256, keccak256};
use alloy_rpc_types_eth::{Block, BlockTransactions, TransactionReceipt};
use alloy_trie::root::ordered_trie_root_encoded;
use thiserror::Error;

use super::evidence::{self, Evidence, EvidenceError};
use super::trie;
use crate::network::Receipt;

/// A transaction and its receipt as the block of that hash holds them.
#[derive(Clone, Debug)]
pub struct Proven {
    pub succeeded: bool,
    pub logs: Vec<Log>,
    pub gas_used: u64,
    pub gas_limit: u64,
    pub receipt: Receipt,
}

/// The node contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Nonsense {
    #[error("a header that is not of the block {0}")]
    Header(B256),
    #[error("a block without its transactions")]
    NoTransactions,
    #[error("transactions that are not those of the block {0}")]
    Transactions(B256),
    #[error("receipts that are not those of the block {0}")]
    Receipts(B256),
    #[error("that {transaction} is in the block {block}, and does not show it there")]
    Absent { transaction: B256, block: B256 },
    #[error("a block of the year 10000 or later")]
    Time,
    #[error("what cannot be kept: {0}")]
    Unkept(EvidenceError),
}

/// All that a block holds, in its order, each as EIP-2718 has it as well.
#[derive(Clone, Debug)]
pub struct Contents {
    hash: B256,
    header: Header,
    transactions: Vec<(TxEnvelope, Vec<u8>)>,
    receipts: Vec<(ReceiptEnvelope, Vec<u8>)>,
}

impl Contents {
    /// Takes what a node says, if the block of this hash holds just that.
    pub fn check(hash: B256, block: Block, receipts: Vec<TransactionReceipt>) -> Result<Contents, Nonsense> {
        let header = block.header.inner;
        if header.hash_slow() != hash {
            return Err(Nonsense::Header(hash));
        }
        let BlockTransactions::Full(transactions) = block.transactions else { return Err(Nonsense::NoTransactions) };
        let transactions = with_bytes(transactions.into_iter().map(|transaction| transaction.inner.into_inner()));
        let receipts = with_bytes(receipts.into_iter().map(|receipt| receipt.inner.into_primitives_receipt()));
        if root(&transactions) != header.transactions_root {
            return Err(Nonsense::Transactions(hash));
        }
        if root(&receipts) != header.receipts_root {
            return Err(Nonsense::Receipts(hash));
        }
        Ok(Contents { hash, header, transactions, receipts })
    }

    /// Proves that it holds the transaction, and gives its receipt.
    pub fn prove(&self, transaction: B256, chain_id: u64, router: Address) -> Result<Proven, Nonsense> {
        let Contents { hash, header, transactions, receipts } = self;
        let index = transactions.iter().position(|(_, body)| keccak256(body) == transaction);
        let found = index.and_then(|index| Some((index, transactions.get(index)?, receipts.get(index)?)));
        let Some((index, (sent, body), (receipt, given))) = found else {
            return Err(Nonsense::Absent { transaction, block: *hash });
        };
        let before = index.checked_sub(1).and_then(|before| receipts.get(before));
        let before = before.map_or(0, |(before, _)| before.cumulative_gas_used());
        let gas_used = receipt.cumulative_gas_used().saturating_sub(before);
        let evidence = Evidence {
            version: Evidence::VERSION,
            chain_id,
            router,
            block_hash: *hash,
            header: alloy_rlp::encode(header).into(),
            index,
            transaction: body.clone().into(),
            transaction_proof: trie::prove(&bytes(transactions), index).1,
            receipt: given.clone().into(),
            receipt_proof: trie::prove(&bytes(receipts), index).1,
        };
        let price = sent.effective_gas_price(header.base_fee_per_gas);
        Ok(Proven {
            succeeded: receipt.status(),
            logs: receipt.logs().to_vec(),
            gas_used,
            gas_limit: sent.gas_limit(),
            receipt: Receipt {
                transaction: transaction.to_string(),
                place: Some(header.number),
                at: evidence::time(header.timestamp).ok_or(Nonsense::Time)?,
                fee: Some(U256::from(gas_used).saturating_mul(U256::from(price))),
                evidence: evidence.write().map_err(Nonsense::Unkept)?,
            },
        })
    }
}

fn with_bytes<T: Encodable2718>(all: impl Iterator<Item = T>) -> Vec<(T, Vec<u8>)> {
    all.map(|one| (one.encoded_2718(), one)).map(|(bytes, one)| (one, bytes)).collect()
}

fn bytes<T>(all: &[(T, Vec<u8>)]) -> Vec<&[u8]> {
    all.iter().map(|(_, bytes)| bytes.as_slice()).collect()
}

fn root<T>(all: &[(T, Vec<u8>)]) -> B256 {
    ordered_trie_root_encoded(&bytes(all))
}
