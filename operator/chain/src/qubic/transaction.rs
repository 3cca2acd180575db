//! Transactions that hold an anchor: 184 bytes, numbers with the lowest byte first.
//!
//! | bytes | what |
//! |---|---|
//! | 32 | the source's public key |
//! | 32 | the destination's |
//! | 8 | the amount in QU |
//! | 4 | the tick, the only one in which it can be included |
//! | 2 | the type of the input |
//! | 2 | the length of the input: 40 |
//! | 8 | the tag |
//! | 32 | the SHA-256 that is anchored |
//! | 64 | the source's signature of the KangarooTwelve of all before |

use thiserror::Error;

use super::hash::k12;
use super::identity::{Identity, id};
use super::key::Key;

/// What tells an anchor from other inputs, and its version.
pub const TAG: [u8; 8] = *b"CSANCH\x00\x01";
/// Bytes of the input.
const INPUT: u16 = 40;

/// How many QU move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Nothing,
    One,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("an anchor moves 0 or 1 QU, not {0}")]
pub struct AmountError(pub i64);

impl TryFrom<i64> for Amount {
    type Error = AmountError;

    fn try_from(amount: i64) -> Result<Amount, AmountError> {
        match amount {
            0 => Ok(Amount::Nothing),
            1 => Ok(Amount::One),
            other => Err(AmountError(other)),
        }
    }
}

impl From<Amount> for i64 {
    fn from(amount: Amount) -> i64 {
        match amount {
            Amount::Nothing => 0,
            Amount::One => 1,
        }
    }
}

/// A transaction whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    source: Identity,
    destination: Identity,
    amount: Amount,
    tick: u32,
    input_type: u16,
    digest: [u8; 32],
    signature: [u8; 64],
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    #[error("it is shorter than an anchor's 184 bytes")]
    Short,
    #[error("it is longer than an anchor's 184 bytes")]
    Long,
    #[error("its input has {0} bytes, and an anchor's 40")]
    Input(u16),
    #[error("its input is no anchor of a known version")]
    Tag,
    #[error(transparent)]
    Amount(#[from] AmountError),
    #[error("the signature is not its source's")]
    Signature,
}

impl Transaction {
    pub fn sign(
        key: &Key,
        destination: Identity,
        amount: Amount,
        tick: u32,
        input_type: u16,
        digest: [u8; 32],
    ) -> Transaction {
        let source = key.identity();
        let unsigned = Transaction { source, destination, amount, tick, input_type, digest, signature: [0; 64] };
        Transaction { signature: key.sign(&k12(&[&unsigned.signed_part()])), ..unsigned }
    }

    /// What bytes hold, if the signature holds too.
    pub fn parse(bytes: &[u8]) -> Result<Transaction, TransactionError> {
        let mut rest = bytes;
        let source = Identity::from_bytes(take(&mut rest)?);
        let destination = Identity::from_bytes(take(&mut rest)?);
        let amount = Amount::try_from(i64::from_le_bytes(take(&mut rest)?))?;
        let tick = u32::from_le_bytes(take(&mut rest)?);
        let input_type = u16::from_le_bytes(take(&mut rest)?);
        let size = u16::from_le_bytes(take(&mut rest)?);
        if size != INPUT {
            return Err(TransactionError::Input(size));
        }
        if take(&mut rest)? != TAG {
            return Err(TransactionError::Tag);
        }
        let digest = take(&mut rest)?;
        let signature = take(&mut rest)?;
        if !rest.is_empty() {
            return Err(TransactionError::Long);
        }
        let transaction = Transaction { source, destination, amount, tick, input_type, digest, signature };
        match source.has_signed(&k12(&[&transaction.signed_part()]), &signature) {
            true => Ok(transaction),
            false => Err(TransactionError::Signature),
        }
    }

    /// As it leaves.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.signed_part().as_slice(), &self.signature].concat()
    }

    fn signed_part(&self) -> Vec<u8> {
        let Transaction { source, destination, amount, tick, input_type, digest, signature: _ } = self;
        [
            source.as_bytes().as_slice(),
            destination.as_bytes(),
            &i64::from(*amount).to_le_bytes(),
            &tick.to_le_bytes(),
            &input_type.to_le_bytes(),
            &INPUT.to_le_bytes(),
            &TAG,
            digest,
        ]
        .concat()
    }

    /// What the network knows it by: 60 small letters.
    pub fn id(&self) -> String {
        id(&k12(&[&self.to_bytes()]))
    }

    pub fn source(&self) -> Identity {
        self.source
    }

    pub fn destination(&self) -> Identity {
        self.destination
    }

    pub fn amount(&self) -> Amount {
        self.amount
    }

    pub fn tick(&self) -> u32 {
        self.tick
    }

    pub fn input_type(&self) -> u16 {
        self.input_type
    }

    /// The SHA-256 that it anchors.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Result<[u8; LENGTH], TransactionError> {
    let (first, after) = rest.split_first_chunk().ok_or(TransactionError::Short)?;
    *rest = after;
    Ok(*first)
}
