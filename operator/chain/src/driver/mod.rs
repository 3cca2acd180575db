//! Takes items from the outbox and follows each to its end. Between any two of its steps it may be killed, or be
//! doubled: what is kept says how to go on, and nothing leaves that is not kept.

mod pace;

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use countersign_core::outbox::{Receipt, Submission};
use countersign_core::payment::{Payment, PaymentNetwork};
use countersign_crds::{PaymentMode, PaymentState};
use countersign_service::causes::told;
use countersign_store::{Claim, Item, Limit, Store, StoreError, Work, within};
use futures::StreamExt;
use futures::stream::iter;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use self::pace::Pace;
use crate::metrics::{Metrics, Outcome};
use crate::network::{self, Network, Polled, Trouble};

/// How many items are taken at once, and how many of them are followed at once.
const BATCH: i64 = 64;
const AT_ONCE: usize = 16;
/// How long a worker owns the rows that it claimed; longer than a batch takes. After that another may claim them, which
/// is safe: both use the nonce that is kept, and the router refuses a payment's id twice.
const LEASE: Duration = Duration::from_secs(120);

/// What drives the outbox's items of one network: claims them, signs, submits and follows them.
pub struct NetworkWorker<N> {
    /// As Skills and the outbox name it.
    pub name: String,
    pub network: N,
    /// The most that is signed for, by token; nothing of what is not listed.
    pub limits: BTreeMap<Option<Address>, Limit>,
    /// How often a checkpoint is anchored; never where left out.
    pub anchors: Option<Duration>,
    pub store: Store,
    pub pace: Pace,
    pub metrics: Metrics,
}

/// What became of one step with one item.
type Stepped = Result<(), StoreError>;

impl<N: Network> NetworkWorker<N> {
    /// Works until told to end; what is in hand then is finished.
    pub async fn run(&self, clock: impl Fn() -> Timestamp + Sync, ending: CancellationToken) {
        while !ending.is_cancelled() {
            let pause = match self.round(&clock).await {
                Ok(true) => Duration::ZERO,
                Ok(false) => self.pace.idle,
                Err(error) => {
                    tracing::warn!(
                        network = self.name,
                        error = told(&error),
                        "the outbox cannot be read or written; trying again"
                    );
                    self.pace.first
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ending.cancelled() => return,
            }
        }
    }

    /// Takes a batch of what is due and goes one step with each. Whether there may be more.
    pub async fn round(&self, clock: &(impl Fn() -> Timestamp + Sync)) -> Result<bool, StoreError> {
        if let Some(interval) = self.anchors
            && let Err(error) = self.kept(self.store.propose_anchor(&self.name, interval, clock())).await
        {
            // Payments need not wait for it.
            tracing::warn!(network = self.name, error = told(&error), "no anchor was proposed; trying again");
        }
        let items = self.kept(self.store.take_outbox(&self.name, LEASE, BATCH)).await?;
        let full = i64::try_from(items.len()).is_ok_and(|taken| taken == BATCH);
        let (submitted, waiting): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| item.submitted && !item.submissions.is_empty());
        let followed: Vec<_> = submitted.iter().map(|item| self.follow(item, clock())).collect();
        let mut followed = iter(followed).buffer_unordered(AT_ONCE);
        // What went wrong with one says nothing of the others, which would wait for their lease to end.
        let mut ended = Ok(());
        while let Some(stepped) = followed.next().await {
            ended = ended.and(stepped);
        }
        // One after the other, so that nonces are used in the order in which they are claimed.
        for item in &waiting {
            ended = ended.and(self.begin(item, clock()).await);
        }
        ended.map(|()| full)
    }

    /// What nothing was signed for yet.
    async fn begin(&self, item: &Item, now: Timestamp) -> Stepped {
        if let Work::Pay { payment, unauthorised, .. } = &item.work {
            if let Some(why) = unauthorised {
                return self.fail(item, PaymentState::Dead, why, now).await;
            }
            if let Some(why) = self.elsewhere(payment) {
                return self.fail(item, PaymentState::Dead, &why, now).await;
            }
            match payment.mode {
                PaymentMode::Live => {}
                PaymentMode::Mock => return self.confirm(item, &mock(&payment.id, now), now).await,
            }
        }
        match self.network.done(&work(item)).await {
            Ok(Some(receipt)) => self.confirm(item, &receipt, now).await,
            Ok(None) => self.sign(item, item.claimed, now).await,
            // It was paid, and is not final yet: however long that takes, it is no failure.
            Err(Trouble::NotNow(_)) => self.kept(self.store.postpone_outbox(item, None, self.pace.poll)).await,
            Err(trouble) => self.trouble(item, &trouble, now).await,
        }
    }

    /// Why a payment is not what people signed for, although it is of the same name here.
    fn elsewhere(&self, payment: &Payment) -> Option<String> {
        let network = PaymentNetwork::difference(payment.on.as_ref(), self.network.stands_for().as_ref());
        let decimals = self.limits.get(&payment.token).map(|limit| limit.decimals);
        let decimals = decimals.filter(|decimals| *decimals != payment.decimals).map(|decimals| {
            format!(
                "its asset was signed for with {} decimals, and the signer's limits say {decimals}",
                payment.decimals
            )
        });
        let why = network.or(decimals)?;
        Some(format!("{why}; set signer.networks.{} right, and have it signed for anew", self.name))
    }

    /// What was signed: how it stands, and what that calls for.
    async fn follow(&self, item: &Item, now: Timestamp) -> Stepped {
        let newest = item.submissions.last();
        match self.network.poll(&work(item), &item.submissions, now).await {
            Ok(Polled::Waiting) => self.kept(self.store.postpone_outbox(item, None, self.pace.poll)).await,
            Ok(Polled::Missing) => match newest {
                Some(newest) => self.send(item, newest, now).await,
                None => Ok(()),
            },
            Ok(Polled::Underpriced) => self.sign(item, newest.and_then(|newest| newest.nonce), now).await,
            Ok(Polled::Displaced) => self.displaced(item, now).await,
            Ok(Polled::Confirmed(receipt)) => self.confirm(item, &receipt, now).await,
            Ok(Polled::Refused(why)) => self.fail(item, PaymentState::Refused, &why, now).await,
            Err(trouble) => self.trouble(item, &trouble, now).await,
        }
    }

    /// Where its own nonces are all used, it needs another one. Else something before the lowest of them is missing:
    /// what was signed with that is sent again, even if it is for what is over; and what is free there it takes itself.
    async fn displaced(&self, item: &Item, now: Timestamp) -> Stepped {
        let Some(account) = self.network.account() else { return self.sign(item, None, now).await };
        let next_nonce = match self.network.next_nonce().await {
            Ok(next_nonce) => next_nonce,
            Err(trouble) => return self.trouble(item, &trouble, now).await,
        };
        let own = |submission: &&Submission| submission.nonce.is_some_and(|nonce| nonce >= next_nonce);
        let lowest = item.submissions.iter().filter(own).min_by_key(|submission| submission.nonce);
        let Some((lowest, nonce)) = lowest.and_then(|lowest| Some((lowest, lowest.nonce?))) else {
            return self.sign(item, item.claimed, now).await;
        };
        for submission in self.kept(self.store.signed_between(&account, next_nonce, nonce)).await? {
            if let Err(trouble) = self.network.submit(&submission).await {
                return self.trouble(item, &trouble, now).await;
            }
        }
        match self.kept(self.store.claim_nonce(item, &account, next_nonce, self.limit(item), now)).await? {
            Claim::Nonce(free) if free < nonce => self.sign(item, Some(free), now).await,
            Claim::Nonce(_) | Claim::OverLimit(_) => {
                self.kept(self.store.give_back_nonce(item.id)).await?;
                match item.submissions.last() {
                    Some(newest) if newest.nonce == Some(nonce) => self.send(item, newest, now).await,
                    Some(_) | None => self.sign(item, lowest.nonce, now).await,
                }
            }
        }
    }

    /// A nonce, kept; a signature, kept; and only then it leaves.
    async fn sign(&self, item: &Item, nonce: Option<u64>, now: Timestamp) -> Stepped {
        let account = self.network.account();
        let nonce = match (&account, nonce) {
            (None, _) => None,
            (Some(_), Some(nonce)) => Some(nonce),
            (Some(account), None) => match self.network.next_nonce().await {
                Err(trouble) => return self.trouble(item, &trouble, now).await,
                Ok(next_nonce) => {
                    match self.kept(self.store.claim_nonce(item, account, next_nonce, self.limit(item), now)).await? {
                        Claim::Nonce(nonce) => Some(nonce),
                        // Of what was signed already nothing is given up: it waits for the limit.
                        Claim::OverLimit(why) if item.submitted => {
                            return self.trouble(item, &Trouble::NotNow(why), now).await;
                        }
                        Claim::OverLimit(why) => return self.fail(item, PaymentState::Dead, &why, now).await,
                    }
                }
            },
        };
        let submission = match self.network.prepare(&work(item), nonce, &item.submissions, now).await {
            Ok(submission) => submission,
            Err(trouble) => {
                // Otherwise whatever is signed with later nonces would wait for this one.
                self.kept(self.store.give_back_nonce(item.id)).await?;
                return self.trouble(item, &trouble, now).await;
            }
        };
        if !self.kept(self.store.keep_submission(item, account.as_deref(), &submission)).await? {
            tracing::warn!(network = self.name, item = item.id, "it was ended by others, and is not sent");
            return self.kept(self.store.give_back_nonce(item.id)).await;
        }
        let submitted = Item { submitted: true, ..item.clone() };
        self.send(&submitted, &submission, now).await
    }

    async fn send(&self, item: &Item, submission: &Submission, now: Timestamp) -> Stepped {
        match self.network.submit(submission).await {
            Ok(Some(receipt)) => self.confirm(item, &receipt, now).await,
            Ok(None) => {
                self.metrics.stepped(&self.name, Outcome::Sent);
                self.kept(self.store.postpone_outbox(item, None, self.pace.poll)).await
            }
            Err(trouble) => self.trouble(item, &trouble, now).await,
        }
    }

    async fn confirm(&self, item: &Item, receipt: &Receipt, now: Timestamp) -> Stepped {
        self.kept(self.store.confirm_outbox(item, receipt, now)).await?;
        self.metrics.stepped(&self.name, Outcome::Confirmed);
        tracing::info!(network = self.name, item = item.id, transaction = receipt.transaction, "confirmed");
        Ok(())
    }

    async fn fail(&self, item: &Item, state: PaymentState, why: &str, now: Timestamp) -> Stepped {
        self.kept(self.store.fail_outbox(item, state, why, now)).await?;
        self.metrics.stepped(&self.name, if state == PaymentState::Dead { Outcome::Dead } else { Outcome::Refused });
        tracing::error!(network = self.name, item = item.id, why, "given up; nothing was done");
        Ok(())
    }

    /// Tried again, as long as something signed may be out there; else only so often.
    async fn trouble(&self, item: &Item, trouble: &Trouble, now: Timestamp) -> Stepped {
        self.metrics.stepped(&self.name, Outcome::Trouble);
        let why = trouble.to_string();
        let last = match trouble {
            Trouble::Permanent(_) => true,
            Trouble::Unavailable(_) | Trouble::WrongNetwork(_) | Trouble::NotNow(_) => item.tries >= self.pace.tries,
        };
        if last && !item.submitted {
            return self.fail(item, PaymentState::Dead, &why, now).await;
        }
        tracing::warn!(network = self.name, item = item.id, why, tries = item.tries, "trying again");
        self.kept(self.store.postpone_outbox(item, Some(&why), self.pace.again(item.id, item.tries))).await
    }

    /// Work with the record that is given up where PostgreSQL does not answer: what is in hand is gone on with by whoever
    /// claims it next.
    async fn kept<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        within(self.pace.patience, work).await
    }

    fn limit(&self, item: &Item) -> Option<Limit> {
        match &item.work {
            Work::Anchor { .. } => None,
            Work::Pay { payment, .. } => self.limits.get(&payment.token).copied(),
        }
    }
}

/// What it is to the network.
fn work(item: &Item) -> network::Work {
    match &item.work {
        Work::Anchor { digest, size: _ } => network::Work::Anchor(*digest),
        Work::Pay { payment, .. } => network::Work::Pay((&**payment).into()),
    }
}

/// Nothing moved, and its name says so.
fn mock(id: &countersign_core::payment::PaymentId, now: Timestamp) -> Receipt {
    Receipt { transaction: format!("mock:{id}"), place: None, at: now, fee: None, evidence: Vec::new() }
}
