//! Makes and signs the transaction.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::{BlockNumberOrTag, Encodable2718};
use alloy_primitives::{Address, Bytes, TxKind, U256};
use alloy_rpc_types_eth::{TransactionInput, TransactionRequest};
use alloy_sol_types::{SolCall, SolError};
use jiff::Timestamp;

use super::abi::{self, Erc20, Router};
use super::fees::Fees;
use super::key::{self, Key, KeyError};
use super::node::NodeError;
use super::{Evm, check, short_of_coin};
use crate::network::{Submission, Trouble, Work};

impl<K: Key> Evm<K> {
    pub(super) async fn sign(
        &self,
        work: &Work,
        nonce: Option<u64>,
        before: &[Submission],
        now: Timestamp,
    ) -> Result<Submission, Trouble> {
        let (settings, account) = (&self.settings, self.key.address());
        let nonce = nonce.ok_or_else(|| Trouble::Permanent(format!("{account} signs nothing without a nonce")))?;
        check(work, settings.router)?;
        self.check_chain().await?;
        let (name, router) = (&settings.name, settings.router);
        if !self.node.has_code(router).await? {
            let why = format!("there is no router at {router} on {name}: deploy it, or correct the router of {name}");
            return Err(Trouble::NotNow(why));
        }
        self.check_provable().await?;
        let (value, input) = abi::call(work);
        let gas = self.gas(work, value, &input).await?;
        let fees = self.fees(nonce, before).await?;
        let most = U256::from(gas).saturating_mul(U256::from(fees.max_fee)).saturating_add(value);
        let has = self.node.balance(account).await?;
        if has < most {
            let why = format!(
                "{account} has {has} wei on {name} and may need {most}, for this and its gas: send it the rest"
            );
            return Err(Trouble::NotNow(why));
        }
        let transaction = TxEip1559 {
            chain_id: settings.chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: fees.max_fee,
            max_priority_fee_per_gas: fees.tip,
            to: TxKind::Call(router),
            value,
            access_list: Default::default(),
            input,
        };
        let signature = key::signed(&self.key, transaction.signature_hash()).await.map_err(unsigned)?;
        let signed = transaction.into_signed(signature);
        Ok(Submission {
            body: signed.encoded_2718(),
            transaction: signed.hash().to_string(),
            nonce: Some(nonce),
            max_fee: Some(fees.max_fee),
            tip: Some(fees.tip),
            place: None,
            at: now,
        })
    }

    pub(super) fn request(&self, value: U256, input: &Bytes) -> TransactionRequest {
        TransactionRequest {
            from: Some(self.key.address()),
            to: Some(TxKind::Call(self.settings.router)),
            value: Some(value),
            input: TransactionInput::new(input.clone()),
            ..TransactionRequest::default()
        }
    }

    /// Some more than it takes now, as it may take more when it comes to it.
    async fn gas(&self, work: &Work, value: U256, input: &Bytes) -> Result<u64, Trouble> {
        let gas = match self.node.estimate(&self.request(value, input)).await {
            Ok(gas) => gas,
            Err(NodeError::Said { name, said }) => match said.as_revert_data() {
                Some(data) => return Err(self.reverted(work, &data).await),
                None if said.message.to_lowercase().contains("revert") => return Err(self.reverted(work, &[]).await),
                None if short_of_coin(&said.message) => return Err(self.too_little_coin(&name)),
                None => return Err(NodeError::Said { name, said }.into()),
            },
            Err(error) => return Err(error.into()),
        };
        let (asks, most) = (gas.saturating_add(gas / 4), self.settings.max_gas);
        if gas > most {
            let why =
                format!("it takes {gas} units of gas, and maxGas allows {most}: raise maxGas, or pay somebody else");
            return Err(Trouble::NotNow(why));
        }
        Ok(asks.min(most))
    }

    /// Why it would be refused as things are. Old tokens do not say, so they are asked.
    async fn reverted(&self, work: &Work, data: &[u8]) -> Trouble {
        let said = abi::reason(data);
        let name = &self.settings.name;
        let because = |why: String| Trouble::NotNow(format!("the router on {name} would refuse it: {why}"));
        let token = match work {
            Work::Pay(payment) => payment.token.map(|token| (token, payment.amount)),
            Work::Anchor(_) => None,
        };
        match token {
            Some((token, amount)) if Router::AlreadyPaid::abi_decode(data).is_err() => {
                match self.short(token, amount).await {
                    Ok(Some(why)) => because(why),
                    Ok(None) => because(said),
                    Err(trouble) => trouble,
                }
            }
            Some(_) | None => because(said),
        }
    }

    async fn short(&self, token: Address, amount: U256) -> Result<Option<String>, Trouble> {
        let (account, router) = (self.key.address(), self.settings.router);
        let has = self.of_token(token, Erc20::balanceOfCall { account }.abi_encode()).await?;
        let may = self.of_token(token, Erc20::allowanceCall { owner: account, spender: router }.abi_encode()).await?;
        Ok(match (has, may) {
            (None, _) | (_, None) => Some(format!("{token} is no ERC-20 token on {}", self.settings.name)),
            (Some(has), _) if has < amount => Some(abi::short_of_tokens(account, has, amount)),
            (_, Some(may)) if may < amount => Some(abi::short_of_allowance(router, may, amount)),
            (Some(_), Some(_)) => None,
        })
    }

    /// A number; `None` where it does not answer with one.
    async fn of_token(&self, token: Address, input: Vec<u8>) -> Result<Option<U256>, Trouble> {
        let call = TransactionRequest {
            to: Some(TxKind::Call(token)),
            input: TransactionInput::new(input.into()),
            ..TransactionRequest::default()
        };
        match self.node.call(&call, BlockNumberOrTag::Latest).await {
            Ok(answer) => Ok(<[u8; 32]>::try_from(&answer[..]).ok().map(U256::from_be_bytes)),
            Err(NodeError::Said { name: _, said }) if said.message.to_lowercase().contains("revert") => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn fees(&self, nonce: u64, before: &[Submission]) -> Result<Fees, Trouble> {
        let history = self.node.fees().await?;
        let base = history.base_fee_per_gas.last().copied();
        let base = base.ok_or_else(|| self.node.nonsense("a history of fees without any"))?;
        let mut tips: Vec<u128> =
            history.reward.unwrap_or_default().iter().filter_map(|block| block.first().copied()).collect();
        tips.sort_unstable();
        let tip = tips.get(tips.len() / 2).copied().unwrap_or(0);
        let offered = before.iter().filter(|submission| submission.nonce == Some(nonce));
        let offered = offered
            .map(|submission| Fees { max_fee: submission.max_fee.unwrap_or(0), tip: submission.tip.unwrap_or(0) })
            .reduce(|a, b| Fees { max_fee: a.max_fee.max(b.max_fee), tip: a.tip.max(b.tip) });
        Fees::offer(base, tip, offered, self.settings.max_fee_per_gas).map_err(|dear| Trouble::NotNow(dear.to_string()))
    }
}

fn unsigned(error: KeyError) -> Trouble {
    match &error {
        KeyError::Unsigned(_) => Trouble::Unavailable(error.to_string()),
        KeyError::Form | KeyError::Range | KeyError::File(_) | KeyError::Stranger { .. } => {
            Trouble::NotNow(error.to_string())
        }
    }
}
