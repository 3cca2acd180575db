//! Looks how it stands. What is final is proved, and the rest is taken as the node tells it, so that it can change.

use std::time::Duration;

use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{B256, U256};
use alloy_rpc_types_eth::{Filter, TransactionReceipt};
use alloy_sol_types::{SolCall, SolEvent};
use jiff::Timestamp;

use super::abi::{self, Router};
use super::key::Key;
use super::node::{At, NodeError};
use super::prove::{Contents, Proven};
use super::seen::{Elsewhere, Mined, Pool, Seen};
use super::{Evm, damaged, fees, transaction};
use crate::network::{Payment, Submission, Trouble, Work};

/// How often a node is asked for a piece of the log, whatever height it claims.
const MOST_RANGES: u64 = 10_000;

/// Where a transaction is said to be.
struct Claimed {
    transaction: B256,
    block: u64,
    hash: B256,
}

impl<K: Key> Evm<K> {
    pub(super) async fn see(&self, work: &Work, kept: &[Submission], now: Timestamp) -> Result<Seen, Trouble> {
        let nonces = kept.iter().map(|one| one.nonce.ok_or_else(|| damaged(one))).collect::<Result<Vec<_>, _>>()?;
        let account = self.key.address();
        self.check_chain().await?;
        let head = self.node.head().await?;
        // Asked before the receipts: what is mined while they are asked for is then not taken for somebody else's.
        let settled = match self.settled(&head) {
            Some(block) => self.node.nonce(account, BlockNumberOrTag::Number(block)).await?,
            None => 0,
        };
        let mut mined = Vec::new();
        for one in kept {
            if let Some(receipt) = self.node.receipt(transaction(one)?).await? {
                mined.extend(self.mined(work, receipt, &head).await?);
            }
        }
        let lost = nonces.last().is_none_or(|nonce| *nonce < settled);
        let reverted = mined.iter().any(|mined| matches!(mined, Mined::Reverted(_)));
        let elsewhere = match work {
            Work::Pay(payment) if reverted || (mined.is_empty() && lost) => self.elsewhere(payment, &head).await?,
            Work::Pay(_) | Work::Anchor(_) => Elsewhere::No,
        };
        let pool = match kept.last() {
            Some(newest) if mined.is_empty() => Pool {
                latest: self.node.nonce(account, BlockNumberOrTag::Latest).await?,
                pending: self.node.nonce(account, BlockNumberOrTag::Pending).await?,
                known: self.node.knows(transaction(newest)?).await?,
                room: fees::outbid(newest.max_fee.unwrap_or(0)) <= self.settings.max_fee_per_gas,
            },
            Some(_) | None => Pool::default(),
        };
        let age = kept.last().map_or(0, |newest| now.duration_since(newest.at).as_secs());
        let age = Duration::from_secs(u64::try_from(age).unwrap_or(0));
        Ok(Seen { mined, elsewhere, nonces, settled, pool, age, stall: self.settings.stall })
    }

    /// The newest block that is final.
    fn settled(&self, head: &At) -> Option<u64> {
        head.number.checked_sub(self.settings.confirmations.get() - 1)
    }

    /// How one of the submissions stands that the node says is in a block; `None` where that block is not the chain's.
    async fn mined(&self, work: &Work, said: TransactionReceipt, head: &At) -> Result<Option<Mined>, Trouble> {
        let (Some(block), Some(hash)) = (said.block_number, said.block_hash) else { return Ok(None) };
        let (settings, account) = (&self.settings, self.key.address());
        let claimed = Claimed { transaction: said.transaction_hash, block, hash };
        let succeeded = said.inner.status();
        let logs = said.inner.into_primitives_receipt().into_logs();
        let by_us = |logs: &[_]| abi::done_by(work, settings.router, Some(account), logs).is_some();
        if succeeded && !by_us(&logs) {
            return Err(self.node.nonsense(&format!("that {} did something else", claimed.transaction)));
        }
        if !self.is_canonical(&claimed, head).await? {
            return Ok(None);
        }
        if self.confirmations(block, head) < settings.confirmations.get() {
            return Ok(Some(Mined::Shallow));
        }
        let Proven { succeeded, logs, gas_used, gas_limit, receipt } = self.prove(&claimed).await?;
        if !succeeded {
            let all = gas_used == gas_limit;
            return Ok(Some(Mined::Reverted(self.why(work, &claimed, all).await?)));
        }
        if by_us(&logs) {
            Ok(Some(Mined::Done(receipt)))
        } else {
            Err(self.node.nonsense(&format!("that {} is for this", claimed.transaction)))
        }
    }

    /// Whether the router has the payment, by a transaction that nobody here remembers.
    pub(super) async fn elsewhere(&self, payment: &Payment, head: &At) -> Result<Elsewhere, Trouble> {
        let (settings, account) = (&self.settings, self.key.address());
        let Payment { id, .. } = payment;
        let (call, router) = (Router::paidCall { payer: account, id: *id }, settings.router);
        let request = self.request(U256::ZERO, &call.abi_encode().into());
        let answer = self.node.call(&request, BlockNumberOrTag::Latest).await?;
        let paid = Router::paidCall::abi_decode_returns_validate(&answer)
            .map_err(|_| self.node.nonsense(&format!("there is no router at {router}")))?;
        if !paid {
            return Ok(Elsewhere::No);
        }
        let Some(claimed) = self.find(*id, head).await? else {
            return Err(Trouble::Unavailable(format!(
                "the router on {} has paid {id}, and its log since block {} does not show it: check deployedAt",
                settings.name, settings.deployed_at
            )));
        };
        let (has, needs) = (self.confirmations(claimed.block, head), settings.confirmations.get());
        if has < needs || !self.is_canonical(&claimed, head).await? {
            return Ok(Elsewhere::Shallow(has.min(needs - 1), needs));
        }
        let Proven { succeeded: _, logs, gas_used: _, gas_limit: _, receipt } = self.prove(&claimed).await?;
        let work = Work::Pay(payment.clone());
        if abi::done_by(&work, router, Some(account), &logs).is_some() {
            Ok(Elsewhere::Done(receipt))
        } else if abi::id_used(*id, router, account, &logs) {
            Ok(Elsewhere::Other(format!(
                "{id} was used for another payment, by {}: give this one an id of its own",
                claimed.transaction
            )))
        } else {
            Err(self.node.nonsense(&format!("that {} paid {id}", claimed.transaction)))
        }
    }

    /// Looks through the router's log, the newest first.
    async fn find(&self, id: B256, head: &At) -> Result<Option<Claimed>, Trouble> {
        let settings = &self.settings;
        let filter = Filter::new()
            .address(settings.router)
            .event_signature(Router::Paid::SIGNATURE_HASH)
            .topic1(self.key.address().into_word())
            .topic2(id);
        let mut to = head.number;
        for _ in 0..MOST_RANGES {
            if to < settings.deployed_at {
                return Ok(None);
            }
            let from = to.saturating_sub(settings.log_range.get() - 1).max(settings.deployed_at);
            for log in self.node.logs(&filter.clone().from_block(from).to_block(to)).await? {
                if let (Some(transaction), Some(block), Some(hash)) =
                    (log.transaction_hash, log.block_number, log.block_hash)
                {
                    return Ok(Some(Claimed { transaction, block, hash }));
                }
            }
            let Some(before) = from.checked_sub(1) else { return Ok(None) };
            to = before;
        }
        Err(Trouble::Unavailable(format!("the log of {} is too long to look through: raise logRange", settings.name)))
    }

    fn confirmations(&self, block: u64, head: &At) -> u64 {
        head.number.checked_sub(block).map_or(0, |above| above.saturating_add(1))
    }

    async fn is_canonical(&self, claimed: &Claimed, head: &At) -> Result<bool, Trouble> {
        if claimed.block == head.number {
            return Ok(claimed.hash == head.hash);
        }
        let there = self.node.at(BlockNumberOrTag::Number(claimed.block)).await?;
        Ok(there.is_some_and(|there| there.hash == claimed.hash))
    }

    async fn prove(&self, claimed: &Claimed) -> Result<Proven, Trouble> {
        let Claimed { transaction, block: _, hash } = claimed;
        let (chain_id, router) = (self.settings.chain_id, self.settings.router);
        let contents = self.contents(*hash).await?;
        contents.prove(*transaction, chain_id, router).map_err(|nonsense| self.node.nonsense(&nonsense.to_string()))
    }

    pub(super) async fn contents(&self, hash: B256) -> Result<Contents, Trouble> {
        let (block, receipts) = self.node.contents(hash).await?;
        Contents::check(hash, block, receipts).map_err(|nonsense| self.node.nonsense(&nonsense.to_string()))
    }

    /// Why it was reverted, going by what the same call does on the block before.
    async fn why(&self, work: &Work, claimed: &Claimed, all_gas: bool) -> Result<String, Trouble> {
        let (value, input) = abi::call(work);
        let before = BlockNumberOrTag::Number(claimed.block.saturating_sub(1));
        let reason = match self.node.call(&self.request(value, &input), before).await {
            Err(NodeError::Said { name: _, said }) => abi::reason(&said.as_revert_data().unwrap_or_default()),
            Ok(_) if all_gas => "it ran out of gas".to_owned(),
            Ok(_) => "for a reason that is gone again".to_owned(),
            Err(error) => return Err(error.into()),
        };
        Ok(format!("{} was refused by the router, and nothing was done: {reason}", claimed.transaction))
    }
}
