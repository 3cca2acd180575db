//! The record, kept in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use countersign_broker::record::{
    Admitted, Begun, Call, CallEnd, PaymentProblem, Record, RecordError, RequestedPayment,
};
use countersign_core::digest::Digest;
use countersign_core::money::Money;
use countersign_core::payment::Payment;
use countersign_crds::PaymentState;

#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
pub struct State {
    pub attempts: BTreeMap<String, Admitted>,
    pub sessions: BTreeMap<[u8; 32], String>,
    taken: BTreeSet<String>,
    pub calls: Vec<Recorded>,
    pub files: BTreeMap<Digest, Vec<u8>>,
    pub kept: u64,
    left: BTreeMap<String, BTreeSet<Digest>>,
    pub away: bool,
    /// What was asked to be paid, and how it stands.
    pub paid: Vec<Payment>,
    pub paying: Option<PaymentState>,
    pub spent: Money,
    /// The most that was ever spent or set aside.
    pub peak: Money,
}

#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub method: String,
    pub url: String,
    pub reserved: Money,
    pub outcome: Option<String>,
    pub status: Option<u16>,
    pub address: Option<String>,
    pub sent: u64,
    pub received: u64,
    pub cost: Money,
}

impl Memory {
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn here<T>(&self, look: impl FnOnce(&mut State) -> T) -> Result<T, RecordError> {
        self.with(|state| if state.away { Err(RecordError("away".into())) } else { Ok(look(state)) })
    }

    pub fn calls(&self) -> Vec<Recorded> {
        self.with(|state| state.calls.clone())
    }
}

impl Record for Memory {
    async fn ready(&self) -> Result<(), RecordError> {
        self.here(|_| ())
    }

    async fn admitted(&self, attempt: &str) -> Result<Option<Admitted>, RecordError> {
        self.here(|state| state.attempts.get(attempt).cloned())
    }

    async fn open_session(&self, of: &Admitted, secret: &[u8; 32]) -> Result<bool, RecordError> {
        self.here(|state| {
            let first = state.taken.insert(of.attempt.clone());
            if first {
                state.sessions.insert(*secret, of.attempt.clone());
            }
            first
        })
    }

    async fn session(&self, secret: &[u8; 32]) -> Result<Option<Admitted>, RecordError> {
        self.here(|state| state.attempts.get(state.sessions.get(secret)?).cloned())
    }

    async fn begin_call(&self, of: &Admitted, call: &Call<'_>) -> Result<Begun, RecordError> {
        self.here(|state| {
            if state.attempts[&of.attempt].over {
                return Begun::Over;
            }
            let sum = state.spent.checked_add(call.reserved).unwrap();
            if call.ceiling.is_some_and(|ceiling| sum > ceiling) {
                return Begun::CeilingReached { cost: state.spent };
            }
            state.spent = sum;
            state.peak = state.peak.max(sum);
            let (method, url) = (call.method.to_owned(), call.url.to_owned());
            state.calls.push(Recorded { method, url, reserved: call.reserved, ..Recorded::default() });
            Begun::Number(state.calls.len() as u32)
        })
    }

    async fn end_call(&self, _: &Admitted, number: u32, end: CallEnd<'_>) -> Result<(), RecordError> {
        self.here(|state| {
            let call = &mut state.calls[number as usize - 1];
            let CallEnd { outcome, status, address, sent, received, cost } = end;
            assert_eq!(call.outcome, None, "a call ends once");
            state.spent = Money::from_micros(state.spent.micros() - call.reserved.micros() + cost.micros());
            let outcome = Some(outcome.to_owned());
            *call = Recorded { outcome, status, address, sent, received, cost, ..call.clone() };
        })
    }

    async fn request_payment(
        &self,
        of: &Admitted,
        payment: &Payment,
        ceiling: Option<Money>,
    ) -> Result<RequestedPayment, PaymentProblem> {
        let url = payment.id.to_string();
        if !self.with(|state| state.paid.contains(payment)) {
            let call = Call { method: "PAY", url: &url, reserved: payment.price, ceiling };
            match self.begin_call(of, &call).await {
                Ok(Begun::Number(_)) => self.with(|state| state.paid.push(payment.clone())),
                Ok(Begun::CeilingReached { cost }) => return Err(PaymentProblem::CeilingReached(cost)),
                Ok(Begun::Over) => return Err(PaymentProblem::Over),
                Err(error) => {
                    return Err(PaymentProblem::Store(countersign_store::StoreError::Corrupt(error.0.into())));
                }
            }
        }
        Ok(self.with(|state| {
            let call = state.calls.iter().position(|call| call.url == url).unwrap();
            RequestedPayment {
                state: state.paying.unwrap_or(PaymentState::Confirmed),
                transaction: Some("0x07".to_owned()),
                place: Some(7),
                last_error: Some("told why".to_owned()),
                call: call as u32 + 1,
                cost: payment.price,
                open: state.calls[call].outcome.is_none(),
            }
        }))
    }

    async fn kept(&self, of: &Admitted) -> Result<BTreeSet<Digest>, RecordError> {
        self.here(|state| state.left.get(&of.attempt).cloned().unwrap_or_default())
    }

    async fn keep_file(&self, of: &Admitted, body: &[u8], most: u64) -> Result<Option<Digest>, RecordError> {
        self.here(|state| {
            if state.kept + body.len() as u64 > most {
                return None;
            }
            state.kept += body.len() as u64;
            let digest = Digest::of_bytes(body);
            state.files.insert(digest, body.to_vec());
            state.left.entry(of.attempt.clone()).or_default().insert(digest);
            Some(digest)
        })
    }

    async fn file(&self, digest: Digest) -> Result<Option<Vec<u8>>, RecordError> {
        self.here(|state| state.files.get(&digest).cloned())
    }
}
