//! What a step pays: read from its input and its Skill's contract when it is judged, so that it is part of what people
//! sign and of what is on record before anything runs. Nothing in the sandbox can make it another payment.

use std::fmt;

use alloy_primitives::utils::format_units;
use alloy_primitives::{Address, B256, U256, keccak256};
use countersign_crds::{Asset, BuiltinName, PaymentContract, PaymentMode, SkillSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::json::canonical;
use crate::money::Money;
use crate::problem::Problem;

/// One payment, as it is recorded with the attempt that may ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    /// Its id, under which it is made once.
    pub id: PaymentId,
    /// The name of the network, one of the chart's `signer.networks`.
    pub network: String,
    /// What the network's name stood for when it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<PaymentNetwork>,
    /// Whether money moves.
    pub mode: PaymentMode,
    /// What people call what is paid.
    pub asset: String,
    /// The ERC-20 token's contract; left out for the network's own coin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub token: Option<Address>,
    /// How many decimal places one whole unit has.
    pub decimals: u8,
    /// The address that is paid: `0x` and 40 hexadecimal digits.
    #[schemars(with = "String")]
    pub to: Address,
    /// How much is paid, in the asset's smallest unit.
    pub amount: Amount,
    /// What it counts against budgets.
    pub price: Money,
}

/// What the name of a network stands for: where money moves, through what, and out of which account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentNetwork {
    /// The chain's number (EIP-155).
    pub chain_id: u64,
    /// The contract that pays each payment once.
    #[schemars(with = "String")]
    pub router: Address,
    /// The account that pays.
    #[schemars(with = "String")]
    pub account: Address,
}

impl PaymentNetwork {
    /// The first member in which what was signed for differs from what the signer is set to, with both; `None` where
    /// none does.
    pub fn difference(signed: Option<&PaymentNetwork>, set: Option<&PaymentNetwork>) -> Option<String> {
        let (signed, set) = match (signed, set) {
            (None, None) => return None,
            (Some(signed), Some(set)) => (signed, set),
            (None, Some(_)) => return Some("it was signed for without saying what its network stands for".to_owned()),
            (Some(_), None) => return Some("its network is none that pays".to_owned()),
        };
        let PaymentNetwork { chain_id, router, account } = signed;
        let texts = |chain_id: &u64, router: &Address, account: &Address| {
            [("chainId", chain_id.to_string()), ("router", router.to_string()), ("account", account.to_string())]
        };
        let both = texts(chain_id, router, account).into_iter().zip(texts(&set.chain_id, &set.router, &set.account));
        let mut differing = both.filter(|((_, signed), (_, set))| signed != set);
        differing
            .next()
            .map(|((field, signed), (_, set))| format!("{field} was signed for as {signed}, and the signer's is {set}"))
    }
}

/// Keccak-256 over the canonical JSON of [run, step, key]: the same for every attempt at a step, another for every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PaymentId(#[schemars(with = "String")] pub B256);

impl PaymentId {
    /// `run` is the Task's uid. Names of steps have no say in each other, as JSON keeps them apart.
    pub fn of(run: &str, step: &str, key: &str) -> PaymentId {
        let text = canonical::to_vec(&serde_json::json!([run, step, key])).unwrap_or_default();
        PaymentId(keccak256(text))
    }
}

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// In the smallest unit; a decimal string in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub struct Amount(#[schemars(with = "String")] pub U256);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        let text = String::deserialize(deserializer)?;
        U256::from_str_radix(&text, 10).map(Amount).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// As people read it: `7 USDC (token 0x…, 6 decimals) to 0x… on NETWORK (chain 1, router 0x…, out of 0x…)`, with every
/// address in its checksummed form (EIP-55).
impl fmt::Display for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Payment { id: _, network, on, mode, asset, token, decimals, to, amount, price: _ } = self;
        let checked = |address: &Address| address.to_checksum(None);
        write!(f, "{} {asset}", units(*amount, *decimals))?;
        if let Some(token) = token {
            write!(f, " (token {}, {decimals} decimals)", checked(token))?;
        }
        write!(f, " to {} on {network}", checked(to))?;
        if let Some(PaymentNetwork { chain_id, router, account }) = on {
            write!(f, " (chain {chain_id}, router {}, out of {})", checked(router), checked(account))?;
        }
        match mode {
            PaymentMode::Live => Ok(()),
            PaymentMode::Mock => f.write_str(" (mock: nothing moves)"),
        }
    }
}

/// In whole units, without zeros that say nothing.
fn units(Amount(raw): Amount, decimals: u8) -> String {
    let text = format_units(raw, decimals).unwrap_or_else(|_| raw.to_string());
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// What a step of this run would pay; `None` where its Skill pays nothing. What its network stands for is the caller's to
/// say. An error names the input's field.
pub fn payment(
    run: &str,
    step: &str,
    contract: &SkillSpec,
    input: &Map<String, Value>,
) -> Result<Option<Payment>, String> {
    let (Some(terms), Some(builtin)) = (&contract.payment, &contract.builtin) else { return Ok(None) };
    let PaymentContract { network, mode, assets, recipients } = terms;
    let text = |field: &str| input.get(field).and_then(Value::as_str);
    let asset = asset(builtin.name, assets, input)?;
    let Asset { name, token, decimals, most, price } = asset;
    let field = "input.amount";
    let raw = match builtin.name {
        BuiltinName::OnchainAction => smallest(input.get("amount")).ok_or_else(|| {
            format!("{field}: write a whole number of the smallest unit of {name}, as a string beyond 2^53 - 1")
        })?,
        _ => text("amount").and_then(|text| whole(text, *decimals)).ok_or_else(|| {
            format!("{field}: write a decimal string of whole {name}, such as \"1.5\", with at most {decimals} places")
        })?,
    };
    let limit = whole(most, *decimals).ok_or_else(|| format!("the Skill's payment: most of {name} is no amount"))?;
    if raw.is_zero() {
        return Err(format!("{field}: is 0; a payment moves something"));
    }
    if raw > limit {
        return Err(format!("{field}: {} {name} is more than the Skill's most, {most}", units(Amount(raw), *decimals)));
    }
    let to = text("to").ok_or("input.to: write the address that is paid: 0x and 40 hexadecimal digits")?;
    let to = address(to).map_err(|error| format!("input.to: {error}"))?;
    if to.is_zero() {
        return Err("input.to: is the zero address, from which nobody gets anything back".to_owned());
    }
    let allowed = |text: &String| text.parse::<Address>().is_ok_and(|allowed| allowed == to);
    if !recipients.is_empty() && !recipients.iter().any(allowed) {
        return Err(format!("input.to: {to} is none of the Skill's payment.recipients"));
    }
    let price = counts(price, raw, *decimals).ok_or_else(|| {
        format!("{field}: what {} {name} counts against budgets is beyond reckoning", units(Amount(raw), *decimals))
    })?;
    within_ceiling(contract, price)?;
    let token = token.as_deref().map(address).transpose();
    Ok(Some(Payment {
        id: PaymentId::of(run, step, text("key").unwrap_or_default()),
        network: network.clone(),
        on: None,
        mode: *mode,
        asset: name.clone(),
        token: token.map_err(|error| format!("the Skill's payment: token of {name}: {error}"))?,
        decimals: *decimals,
        to,
        amount: Amount(raw),
        price,
    }))
}

/// Which of the Skill's assets the input means: by name, or by its contract.
fn asset<'a>(builtin: BuiltinName, assets: &'a [Asset], input: &Map<String, Value>) -> Result<&'a Asset, String> {
    let names = || assets.iter().map(|asset| asset.name.as_str()).collect::<Vec<_>>().join(", ");
    match builtin {
        BuiltinName::OnchainAction => {
            let wanted = match input.get("token") {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(address(text).map_err(|error| format!("input.token: {error}"))?),
                Some(_) => return Err("input.token: write the address of the token's contract".to_owned()),
            };
            let is = |asset: &&Asset| match (&asset.token, wanted) {
                (None, None) => true,
                (Some(text), Some(wanted)) => text.parse::<Address>().is_ok_and(|token| token == wanted),
                (None, Some(_)) | (Some(_), None) => false,
            };
            assets.iter().find(is).ok_or_else(|| match wanted {
                None => format!("input.token: the Skill may not pay the network's own coin, only {}", names()),
                Some(token) => format!("input.token: {token} is none of the Skill's assets ({})", names()),
            })
        }
        _ => match (input.get("asset").and_then(Value::as_str), assets) {
            (Some(name), _) => {
                let found = assets.iter().find(|asset| asset.name == name);
                found.ok_or_else(|| format!("input.asset: {name:?} is none of the Skill's assets: {}", names()))
            }
            (None, [only]) => Ok(only),
            (None, _) => Err(format!("input.asset: write one of {}", names())),
        },
    }
}

/// An address whose capitals, if it has both kinds of letters, are its checksum (EIP-55).
pub fn address(text: &str) -> Result<Address, String> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40);
    let Some((digits, address)) = digits.and_then(|digits| Some((digits, digits.parse::<Address>().ok()?))) else {
        return Err(format!("{text:?} is not an address; write 0x and 40 hexadecimal digits"));
    };
    let has = |kind: fn(&u8) -> bool| digits.bytes().any(|byte| kind(&byte));
    if has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && address.to_checksum(None) != text {
        return Err(format!("{text:?} fails its checksum (EIP-55): a digit is wrong; take it from its source again"));
    }
    Ok(address)
}

fn smallest(value: Option<&Value>) -> Option<U256> {
    match value? {
        Value::Number(number) => number.as_u64().map(U256::from),
        Value::String(text) if is_digits(text) => U256::from_str_radix(text, 10).ok(),
        _ => None,
    }
}

/// A decimal string of whole units, in the smallest one; never rounded.
pub fn whole(text: &str, decimals: u8) -> Option<U256> {
    let (before, after) = text.split_once('.').unwrap_or((text, "0"));
    let (places, decimals) = (after.trim_end_matches('0'), usize::from(decimals));
    if !is_digits(before) || !is_digits(after) || places.len() > decimals {
        return None;
    }
    U256::from_str_radix(&format!("{before}{places:0<decimals$}"), 10).ok()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.len() <= 78 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Rounded up to the millionth.
fn counts(price: &str, raw: U256, decimals: u8) -> Option<Money> {
    let price: Money = price.parse().ok()?;
    let unit = U256::from(10).checked_pow(U256::from(decimals))?;
    let micros = U256::from(price.micros()).checked_mul(raw)?.div_ceil(unit);
    u64::try_from(micros).ok().map(Money::from_micros)
}

fn within_ceiling(contract: &SkillSpec, price: Money) -> Result<(), String> {
    let Some(cost) = &contract.cost else {
        return match price {
            Money::ZERO => Ok(()),
            price => Err(format!("it counts {price} against budgets, and the Skill has no cost; set cost.ceiling")),
        };
    };
    let read = |text: &str| text.parse::<Money>().map_err(|error| format!("the Skill's cost: {error}"));
    let owed = cost.per_attempt.as_deref().map_or(Ok(Money::ZERO), read)?;
    let ceiling = read(&cost.ceiling)?;
    match price.saturating_add(owed) {
        most if most > ceiling => Err(format!(
            "input.amount: it counts {price} against budgets, which is more than the Skill's ceiling of {ceiling} leaves"
        )),
        _ => Ok(()),
    }
}

/// What is wrong with a Skill's payment beyond its schema.
pub(crate) fn check_payment(payment: &PaymentContract, field: &str) -> Vec<Problem> {
    let PaymentContract { network: _, mode: _, assets, recipients } = payment;
    let mut problems = Vec::new();
    for (index, Asset { name: _, token, decimals, most, price }) in assets.iter().enumerate() {
        let of = |name: &str| format!("{field}.assets[{index}].{name}");
        if let Some(error) = token.as_deref().and_then(|token| address(token).err()) {
            problems.push(Problem::new(of("token"), error));
        }
        if whole(most, *decimals).is_none_or(|most| most.is_zero()) {
            let message = format!("{most:?} is no amount above 0 with at most {decimals} places");
            problems.push(Problem::new(of("most"), message));
        }
        if let Err(error) = price.parse::<Money>() {
            problems.push(Problem::new(of("price"), error.to_string()));
        }
    }
    for (index, recipient) in recipients.iter().enumerate() {
        if let Err(error) = address(recipient) {
            problems.push(Problem::new(format!("{field}.recipients[{index}]"), error));
        }
    }
    problems
}

#[cfg(test)]
mod tests;
