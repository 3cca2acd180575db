//! What the broker asks of the record, and writes into it. PostgreSQL keeps it.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use countersign_core::digest::Digest;
use countersign_core::money::Money;
use countersign_core::payment::Payment;
use countersign_service::causes::told;
use countersign_service::clock::now;
use countersign_store::{Store, StoreError, within};
use thiserror::Error;

pub use countersign_store::{Admitted, Begun, Call, CallEnd, PaymentProblem, RequestedPayment};

/// For how long the record may be waited for; a caller is told so then, rather than kept for as long as TCP tries.
const PATIENCE: Duration = Duration::from_secs(40);

/// Nothing was concluded, and nothing may leave.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct RecordError(pub String);

pub trait Record: Clone + Send + Sync + 'static {
    /// Whether it can be written to.
    fn ready(&self) -> impl Future<Output = Result<(), RecordError>> + Send;

    /// The attempt of this key, once its pod was let in.
    fn admitted(&self, attempt: &str) -> impl Future<Output = Result<Option<Admitted>, RecordError>> + Send;

    /// Takes the attempt's token for a session; `false` where it was taken before.
    fn open_session(&self, of: &Admitted, secret: &[u8; 32]) -> impl Future<Output = Result<bool, RecordError>> + Send;

    /// The attempt that a session is of, as it is now.
    fn session(&self, secret: &[u8; 32]) -> impl Future<Output = Result<Option<Admitted>, RecordError>> + Send;

    /// Durable before a byte leaves.
    fn begin_call(&self, of: &Admitted, call: &Call<'_>) -> impl Future<Output = Result<Begun, RecordError>> + Send;

    /// A second end of a call counts for nothing.
    fn end_call(
        &self,
        of: &Admitted,
        number: u32,
        end: CallEnd<'_>,
    ) -> impl Future<Output = Result<(), RecordError>> + Send;

    /// Hands the attempt's payment to the signer, once however often it is asked; says how it stands.
    fn request_payment(
        &self,
        of: &Admitted,
        payment: &Payment,
        ceiling: Option<Money>,
    ) -> impl Future<Output = Result<RequestedPayment, PaymentProblem>> + Send;

    /// Keeps a file or a tree by its content; `None` where the attempt would have kept more than `most` bytes.
    fn keep_file(
        &self,
        of: &Admitted,
        body: &[u8],
        most: u64,
    ) -> impl Future<Output = Result<Option<Digest>, RecordError>> + Send;

    /// What the attempt has left.
    fn kept(&self, of: &Admitted) -> impl Future<Output = Result<BTreeSet<Digest>, RecordError>> + Send;

    fn file(&self, digest: Digest) -> impl Future<Output = Result<Option<Vec<u8>>, RecordError>> + Send;
}

impl From<StoreError> for RecordError {
    fn from(error: StoreError) -> RecordError {
        RecordError(told(&error))
    }
}

impl Record for Store {
    async fn ready(&self) -> Result<(), RecordError> {
        if within(PATIENCE, self.is_migrated()).await? {
            return Ok(());
        }
        Err(RecordError("its schema is of an older version; `countersign migrate` brings it up to date".to_owned()))
    }

    async fn admitted(&self, attempt: &str) -> Result<Option<Admitted>, RecordError> {
        Ok(within(PATIENCE, Store::admitted(self, attempt)).await?)
    }

    async fn open_session(&self, of: &Admitted, secret: &[u8; 32]) -> Result<bool, RecordError> {
        Ok(within(PATIENCE, Store::open_session(self, of, secret, now())).await?)
    }

    async fn session(&self, secret: &[u8; 32]) -> Result<Option<Admitted>, RecordError> {
        Ok(within(PATIENCE, Store::session(self, secret)).await?)
    }

    async fn begin_call(&self, of: &Admitted, call: &Call<'_>) -> Result<Begun, RecordError> {
        Ok(within(PATIENCE, Store::begin_call(self, of, call, now())).await?)
    }

    async fn end_call(&self, of: &Admitted, number: u32, end: CallEnd<'_>) -> Result<(), RecordError> {
        Ok(within(PATIENCE, Store::end_call(self, of, number, end, now())).await?)
    }

    async fn request_payment(
        &self,
        of: &Admitted,
        payment: &Payment,
        ceiling: Option<Money>,
    ) -> Result<RequestedPayment, PaymentProblem> {
        within(PATIENCE, Store::request_payment(self, of, payment, ceiling, now())).await
    }

    async fn keep_file(&self, of: &Admitted, body: &[u8], most: u64) -> Result<Option<Digest>, RecordError> {
        Ok(within(PATIENCE, Store::keep_file(self, of, body, most)).await?)
    }

    async fn kept(&self, of: &Admitted) -> Result<BTreeSet<Digest>, RecordError> {
        Ok(within(PATIENCE, Store::kept(self, of)).await?)
    }

    async fn file(&self, digest: Digest) -> Result<Option<Vec<u8>>, RecordError> {
        Ok(within(PATIENCE, Store::file(self, digest)).await?)
    }
}
