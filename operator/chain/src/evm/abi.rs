//! What contracts are asked, and what they answer: contracts/Router.sol, and ERC-20 (EIP-20, ERC-6093).

use alloy_primitives::{Address, B256, Bytes, Log, U256};
use alloy_sol_types::{GenericRevertReason, SolCall, SolEvent, SolInterface, sol};

use crate::network::{Payment, Work};

/// A contract's own words are shown up to here, in characters.
const MOST_WORDS: usize = 200;

sol! {
    #[derive(Debug, PartialEq, Eq)]
    interface Router {
        function pay(bytes32 id, address to) external payable;
        function payToken(bytes32 id, address token, address to, uint256 amount) external;
        function paid(address payer, bytes32 id) external view returns (bool);
        function anchor(bytes32 digest) external;

        event Paid(address indexed payer, bytes32 indexed id, address indexed to, address token, uint256 amount);
        event Anchored(address indexed by, bytes32 indexed digest);

        error AlreadyPaid(bytes32 id);
        error ZeroAmount();
        error BadRecipient(address to);
        error NotTaken(address to);
        error WrongAmount(uint256 expected, uint256 received);
        error SafeERC20FailedOperation(address token);
    }

    #[derive(Debug, PartialEq, Eq)]
    interface Erc20 {
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);

        error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
        error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
    }
}

/// The router's call for it: what coin goes with it, in wei, and its data.
pub fn call(work: &Work) -> (U256, Bytes) {
    match work {
        Work::Anchor(digest) => (U256::ZERO, Router::anchorCall { digest: B256::from(*digest) }.abi_encode().into()),
        Work::Pay(Payment { id, token: None, to, amount }) => {
            (*amount, Router::payCall { id: *id, to: *to }.abi_encode().into())
        }
        Work::Pay(Payment { id, token: Some(token), to, amount }) => {
            let call = Router::payTokenCall { id: *id, token: *token, to: *to, amount: *amount };
            (U256::ZERO, call.abi_encode().into())
        }
    }
}

/// Who did it, going by what the router logged; `None` where it logged nothing that is exactly this.
pub fn done_by(work: &Work, router: Address, account: Option<Address>, logs: &[Log]) -> Option<Address> {
    let ours = |by: &Address| account.is_none_or(|account| account == *by);
    let by = |log: &Log| match work {
        Work::Anchor(digest) => {
            let Router::Anchored { by, digest: found } = Router::Anchored::decode_log_validate(log).ok()?.data;
            (found == B256::from(*digest)).then_some(by)
        }
        Work::Pay(payment) => paid(log).filter(|(_, found)| found == payment).map(|(payer, _)| payer),
    };
    logs.iter().filter(|log| log.address == router).filter_map(by).find(ours)
}

/// Whether the router logged a payment with this id by this account, whatever it was.
pub fn id_used(id: B256, router: Address, account: Address, logs: &[Log]) -> bool {
    let same = |(payer, payment): (Address, Payment)| payer == account && payment.id == id;
    logs.iter().filter(|log| log.address == router).filter_map(paid).any(same)
}

fn paid(log: &Log) -> Option<(Address, Payment)> {
    let Router::Paid { payer, id, to, token, amount } = Router::Paid::decode_log_validate(log).ok()?.data;
    Some((payer, Payment { id, token: (token != Address::ZERO).then_some(token), to, amount }))
}

/// Why a call was reverted, and what to do about it.
pub fn reason(data: &[u8]) -> String {
    if let Ok(error) = Router::RouterErrors::abi_decode(data) {
        return of_router(error);
    }
    if let Ok(error) = Erc20::Erc20Errors::abi_decode(data) {
        return of_token(error);
    }
    match GenericRevertReason::decode(data) {
        Some(GenericRevertReason::ContractError(error)) => format!("the contract says {:?}", plain(&error.to_string())),
        Some(GenericRevertReason::RawString(words)) => format!("the contract says {:?}", plain(&words)),
        None if data.is_empty() => "the contract gives no reason".to_owned(),
        None => format!(
            "the contract gives a reason that is not known here: {}",
            plain(&Bytes::copy_from_slice(data).to_string())
        ),
    }
}

fn of_router(error: Router::RouterErrors) -> String {
    use Router::RouterErrors as E;
    match error {
        E::AlreadyPaid(Router::AlreadyPaid { id }) => format!("{id} was paid already"),
        E::ZeroAmount(Router::ZeroAmount {}) => "the amount is zero".to_owned(),
        E::BadRecipient(Router::BadRecipient { to }) => format!("{to} cannot be paid"),
        E::NotTaken(Router::NotTaken { to }) => {
            format!("the recipient {to} does not take the coin; it is a contract that refuses it")
        }
        E::WrongAmount(Router::WrongAmount { expected, received }) => {
            format!("the token moved {received} and not {expected}; tokens that keep a fee cannot be paid with")
        }
        E::SafeERC20FailedOperation(Router::SafeERC20FailedOperation { token }) => {
            format!("{token} did not move; check that it is an ERC-20 token of this network")
        }
    }
}

fn of_token(error: Erc20::Erc20Errors) -> String {
    use Erc20::Erc20Errors as E;
    match error {
        E::ERC20InsufficientBalance(Erc20::ERC20InsufficientBalance { sender, balance, needed }) => {
            short_of_tokens(sender, balance, needed)
        }
        E::ERC20InsufficientAllowance(Erc20::ERC20InsufficientAllowance { spender, allowance, needed }) => {
            short_of_allowance(spender, allowance, needed)
        }
    }
}

pub fn short_of_tokens(account: Address, has: U256, needs: U256) -> String {
    format!("{account} has {has} of the token and needs {needs}: send it the rest")
}

pub fn short_of_allowance(router: Address, may: U256, needs: U256) -> String {
    format!("the router {router} may move {may} of the account's token and needs {needs}: call approve on the token")
}

/// Somebody else's words, so that they can be shown on a line.
pub fn plain(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_WORDS).collect()
}
