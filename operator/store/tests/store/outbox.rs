//! The outbox: payments that sandboxes ask for, nonces and limits that signers share, and anchors.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use countersign_core::money::Money;
use countersign_core::outbox::{Receipt, Submission};
use countersign_core::payment::{Amount, Payment, PaymentId};
use countersign_core::tlog::{Checkpoint, SigningKey};
use countersign_crds::{Identity, PaymentMode, PaymentState};
use countersign_store::{Admitted, Claim, Item, Limit, LogKeys, PaymentProblem, RequestedPayment, Role, Store, Work};
use jiff::Timestamp;

use crate::database::{Database, open};
use crate::story;

const LEASE: Duration = Duration::from_secs(60);
const ACCOUNT: &str = "eip155:31337:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn payment(step: &str, amount: u64) -> Payment {
    Payment {
        id: PaymentId::of(story::UID, step, ""),
        network: "main".into(),
        on: None,
        mode: PaymentMode::Live,
        asset: "ETH".into(),
        token: None,
        decimals: 18,
        to: Address::repeat_byte(7),
        amount: Amount(U256::from(amount)),
        price: Money::from_micros(300),
    }
}

/// The record as the owner, the broker and the signer see it.
struct Bed {
    database: Database,
    owner: Store,
    broker: Store,
    signer: Store,
}

async fn bed() -> Bed {
    let database = Database::new().await;
    let url = database.empty().await;
    let owner = open(url.clone());
    owner.migrate().await.unwrap();
    let (_, server) = url.split_once('@').unwrap();
    let role = |name: &str| format!("postgres://countersign_test_outbox_{name}:test@{server}");
    static ROLES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let one = ROLES.lock().await;
    owner.grant(Role::Broker, &role("broker")).await.unwrap();
    owner.grant(Role::Signer, &role("signer")).await.unwrap();
    drop(one);
    let (broker, signer) = (open(role("broker")), open(role("signer")));
    Bed { database, owner, broker, signer }
}

impl Bed {
    /// A Task with so many steps whose attempts were let in, each to pay.
    async fn paying(&self, payments: &[Payment]) -> Vec<Admitted> {
        let steps: Vec<String> = (0..payments.len()).map(|n| format!("pay-{n}")).collect();
        for changes in &story::paying(&steps, payments) {
            let seen = self.owner.version(story::UID).await.unwrap();
            self.owner.commit(story::UID, seen, changes).await.unwrap();
        }
        let mut admitted = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            let of = self.broker.admitted(&format!("key-{step}-1")).await.unwrap().unwrap();
            self.broker.open_session(&of, &[u8::try_from(n).unwrap(); 32], now()).await.unwrap();
            admitted.push(of);
        }
        admitted
    }

    async fn ask(&self, of: &Admitted) -> Result<RequestedPayment, PaymentProblem> {
        let payment = of.launch.payment.clone().unwrap();
        self.broker.request_payment(of, &payment, Some(Money::from_micros(500)), now()).await
    }

    async fn take(&self) -> Vec<Item> {
        self.database
            .execute(&self.owner, "update outbox set next_try = now() where state <> 'Confirmed'")
            .await
            .unwrap();
        self.signer.take_outbox("main", LEASE, 100).await.unwrap()
    }

    async fn claim(&self, item: &Item, floor: u64) -> u64 {
        match self.signer.claim_nonce(item, ACCOUNT, floor, Some(limit(1000, 10_000)), now()).await.unwrap() {
            Claim::Nonce(nonce) => nonce,
            Claim::OverLimit(why) => panic!("{why}"),
        }
    }

    async fn count(&self, query: &'static str) -> i64 {
        self.database.scalar(&self.owner, query).await
    }
}

fn limit(payment: u64, daily: u64) -> Limit {
    Limit { decimals: 18, payment: U256::from(payment), daily: U256::from(daily) }
}

fn signed(nonce: u64, hash: &str) -> Submission {
    Submission {
        body: vec![2, 7],
        transaction: hash.into(),
        nonce: Some(nonce),
        max_fee: Some(u128::MAX),
        tip: Some(1),
        place: Some(9),
        at: now(),
    }
}

fn receipt(hash: &str) -> Receipt {
    let evidence = b"{\"version\":1}".to_vec();
    Receipt { transaction: hash.into(), place: Some(12), at: now(), fee: Some(U256::MAX), evidence }
}

#[tokio::test]
async fn a_payment_is_asked_for_once_however_often() {
    let bed = bed().await;
    let [of] = &bed.paying(&[payment("pay-0", 5)]).await[..] else { panic!() };
    let (one, two) = tokio::join!(bed.ask(of), bed.ask(of));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    assert_eq!((one.state, one.call, one.cost.micros(), one.open), (PaymentState::Waiting, 1, 300, true));
    for (table, rows) in
        [("select count(*) from outbox", 1), ("select count(*) from payments", 1), ("select count(*) from calls", 1)]
    {
        assert_eq!(bed.count(table).await, rows, "{table}");
    }
    assert_eq!(bed.count("select cost from sessions").await, 300);
    assert_eq!(bed.count("select count(*) from log_entries where kind = 'requestPayment'").await, 1);
    // Whoever gets at the broker's role cannot have another payment made.
    let other = Payment { amount: Amount(U256::from(6)), ..payment("pay-0", 5) };
    let refused = bed.broker.request_payment(of, &other, None, now()).await.unwrap();
    assert_eq!(refused.state, PaymentState::Waiting, "it is told of the one that there is");
    assert_eq!(bed.take().await.len(), 1);
}

#[tokio::test]
async fn what_was_not_let_in_is_not_signed_whoever_asks() {
    let bed = bed().await;
    let [of] = &bed.paying(&[payment("pay-0", 5)]).await[..] else { panic!() };
    let forged = Payment { to: Address::repeat_byte(6), ..payment("pay-0", 5) };
    bed.broker.request_payment(of, &forged, None, now()).await.unwrap();
    let item = bed.take().await.remove(0);
    let Work::Pay { unauthorised, .. } = &item.work else { panic!() };
    assert!(unauthorised.as_deref().is_some_and(|why| why.contains("not what the attempt was let in for")));
}

#[tokio::test]
async fn what_costs_more_than_is_left_is_not_handed_over() {
    let bed = bed().await;
    let dear = Payment { price: Money::from_micros(501), ..payment("pay-0", 5) };
    let [of] = &bed.paying(&[dear]).await[..] else { panic!() };
    let error = bed.ask(of).await.unwrap_err();
    assert!(matches!(error, PaymentProblem::CeilingReached(Money::ZERO)), "{error}");
    assert_eq!(bed.count("select (select count(*) from outbox) + (select count(*) from payments)").await, 0);
}

#[tokio::test]
async fn signers_at_once_never_have_the_same_nonce_or_item() {
    let bed = bed().await;
    let payments: Vec<Payment> = (0..24).map(|n| payment(&format!("pay-{n}"), 5)).collect();
    for of in &bed.paying(&payments).await {
        bed.ask(of).await.unwrap();
    }
    let signers = (0..6).map(|_| {
        let signer = bed.signer.clone();
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            for item in signer.take_outbox("main", LEASE, 4).await.unwrap() {
                let claim = signer.claim_nonce(&item, ACCOUNT, 7, Some(limit(1000, 10_000)), now()).await.unwrap();
                let Claim::Nonce(nonce) = claim else { panic!() };
                assert!(
                    signer.keep_submission(&item, Some(ACCOUNT), &signed(nonce, &format!("0x{nonce}"))).await.unwrap()
                );
                claimed.push(nonce);
            }
            claimed
        })
    });
    let mut nonces = BTreeSet::new();
    for signer in signers.collect::<Vec<_>>() {
        for nonce in signer.await.unwrap() {
            assert!(nonces.insert(nonce), "{nonce} twice");
        }
    }
    assert_eq!(nonces, (7..31).collect());
}

#[tokio::test]
async fn a_nonce_is_given_back_only_if_nothing_was_signed_with_it() {
    let bed = bed().await;
    let payments = ["pay-0", "pay-1", "pay-2"].map(|step| payment(step, 5));
    for of in &bed.paying(&payments).await {
        bed.ask(of).await.unwrap();
    }
    let items = bed.take().await;
    assert_eq!([bed.claim(&items[0], 0).await, bed.claim(&items[1], 0).await], [0, 1]);
    bed.signer.keep_submission(&items[1], Some(ACCOUNT), &signed(1, "0xb")).await.unwrap();
    for item in &items {
        bed.signer.give_back_nonce(item.id).await.unwrap();
    }
    assert_eq!(bed.claim(&items[2], 0).await, 0, "given back");
    assert_eq!(bed.claim(&items[0], 0).await, 2, "1 was signed with");
    // With what is another's nothing is kept, and so nothing leaves.
    assert!(!bed.signer.keep_submission(&items[0], Some(ACCOUNT), &signed(0, "0xc")).await.unwrap());
    assert!(!bed.signer.keep_submission(&items[0], Some(ACCOUNT), &signed(1, "0xd")).await.unwrap());
    let steal = "update nonces set outbox = (select min(id) from outbox) where nonce = 1";
    assert!(bed.database.execute(&bed.owner, steal).await.is_err(), "not even by the owner");
    // Killed between claim and signature: the claim is found again.
    let again = bed.take().await;
    assert_eq!(again.iter().map(|item| item.claimed).collect::<Vec<_>>(), [Some(2), None, Some(0)]);
    assert_eq!(again[1].submissions, [signed(1, "0xb")]);
    // What the chain has used meanwhile is not claimed, and what a reorganised chain has not used any more is.
    assert_eq!(bed.claim(&items[1], 40).await, 40);
    assert_eq!(bed.claim(&items[1], 3).await, 3);
    assert_eq!(bed.claim(&items[1], 3).await, 4);
}

#[tokio::test]
async fn the_signers_limits_hold_whoever_is_first() {
    let bed = bed().await;
    let payments: Vec<Payment> = (0..8).map(|n| payment(&format!("pay-{n}"), 30)).collect();
    for of in &bed.paying(&payments).await {
        bed.ask(of).await.unwrap();
    }
    let items = bed.take().await;
    let over = |claim| match claim {
        Claim::OverLimit(why) => why,
        Claim::Nonce(nonce) => panic!("{nonce}"),
    };
    let claim = |item: Item, limit: Option<Limit>, at: Timestamp| {
        let signer = bed.signer.clone();
        tokio::spawn(async move { signer.claim_nonce(&item, ACCOUNT, 0, limit, at).await.unwrap() })
    };
    let why = over(claim(items[0].clone(), None, now()).await.unwrap());
    assert!(why.contains("no limits for ETH"), "{why}");
    let why = over(claim(items[0].clone(), Some(limit(29, 100)), now()).await.unwrap());
    assert!(why.contains("30 is more than the signer's limit of 29"), "{why}");
    let claims = items.iter().map(|item| claim(item.clone(), Some(limit(30, 100)), now()));
    let mut passed = 0;
    for claim in claims.collect::<Vec<_>>() {
        passed += i32::from(matches!(claim.await.unwrap(), Claim::Nonce(_)));
    }
    assert_eq!(passed, 3, "of 8 at once: 90 of 100");
    // A day later there is as much again.
    let later = now() + jiff::SignedDuration::from_hours(25);
    let mut passed = 0;
    for item in &items {
        passed += i32::from(matches!(claim(item.clone(), Some(limit(30, 100)), later).await.unwrap(), Claim::Nonce(_)));
    }
    assert_eq!(passed, 3);
}

#[tokio::test]
async fn what_is_confirmed_stays_and_what_ended_for_nothing_can_be_tried_again() {
    let bed = bed().await;
    let ofs = bed.paying(&[payment("pay-0", 5), payment("pay-1", 5)]).await;
    for of in &ofs {
        bed.ask(of).await.unwrap();
    }
    let items = bed.take().await;
    let nonce = bed.claim(&items[0], 0).await;
    bed.signer.keep_submission(&items[0], Some(ACCOUNT), &signed(nonce, "0xa")).await.unwrap();
    bed.signer.fail_outbox(&items[0], PaymentState::Dead, "no", now()).await.unwrap();
    assert_eq!(bed.ask(&ofs[0]).await.unwrap().state, PaymentState::Submitted, "what was signed is not given up");
    bed.signer.confirm_outbox(&items[0], &receipt("0xa"), now()).await.unwrap();
    bed.signer.confirm_outbox(&items[0], &receipt("0xb"), now()).await.unwrap();
    bed.signer.fail_outbox(&items[0], PaymentState::Refused, "no", now()).await.unwrap();
    let standing = bed.ask(&ofs[0]).await.unwrap();
    assert_eq!(
        (standing.state, standing.transaction.as_deref(), standing.place),
        (PaymentState::Confirmed, Some("0xa"), Some(12))
    );
    assert!(
        bed.database
            .execute(&bed.owner, "update outbox set transaction = 'x' where state = 'Confirmed'")
            .await
            .is_err()
    );
    let by = Identity { user: "alice".into(), uid: None, groups: Vec::new() };
    assert!(!bed.owner.revive_outbox(items[0].id, &by, now()).await.unwrap());

    bed.signer.fail_outbox(&items[1], PaymentState::Dead, "the node is \0 away", now()).await.unwrap();
    let standing = bed.ask(&ofs[1]).await.unwrap();
    assert_eq!((standing.state, standing.last_error.as_deref()), (PaymentState::Dead, Some("the node is  away")));
    assert!(!bed.signer.keep_submission(&items[1], None, &signed(9, "0xe")).await.unwrap(), "given up is not signed");
    let listed = bed.owner.list_outbox(&[PaymentState::Dead], None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].step.as_deref(), listed[0].kind), (1, Some("pay-1"), "Payment"));
    // Its attempt ends; by itself nothing is paid for it any more, unless somebody says so.
    bed.database
        .execute(&bed.owner, "update attempts set outcome = 'Failed', finished_at = now() where key = 'key-pay-1-1'")
        .await
        .unwrap();
    assert!(bed.owner.revive_outbox(items[1].id, &by, now()).await.unwrap());
    assert!(!bed.owner.revive_outbox(items[1].id, &by, now()).await.unwrap());
    let item = bed.take().await.remove(0);
    assert!(matches!(&item.work, Work::Pay { unauthorised: None, .. }), "{item:?}");
    assert_eq!(bed.count("select count(*) from log_entries where kind = 'revivePayment'").await, 1);
    assert_eq!(bed.count("select count(*) from log_entries where kind = 'endPayment'").await, 2);
    assert_eq!(bed.count("select count(*) from log_entries where kind = 'signPayment'").await, 1);
    bed.signer.postpone_outbox(&item, Some("later"), Duration::from_secs(60)).await.unwrap();
    assert!(bed.signer.take_outbox("main", LEASE, 9).await.unwrap().is_empty());
    // What was signed before it was begun again is out of its sight.
    let nonce = bed.claim(&item, 0).await;
    bed.signer.keep_submission(&item, Some(ACCOUNT), &signed(nonce, "0xf")).await.unwrap();
    let item = bed.take().await.remove(0);
    bed.signer.fail_outbox(&item, PaymentState::Refused, "reverted", now()).await.unwrap();
    bed.owner.revive_outbox(item.id, &by, now()).await.unwrap();
    assert_eq!(bed.take().await.remove(0).submissions, []);
}

#[tokio::test]
async fn another_attempt_finds_the_payment_and_has_it_tried_again_if_it_ended_for_nothing() {
    for (before, state, cost) in [
        (None, PaymentState::Waiting, 0),
        (Some(PaymentState::Confirmed), PaymentState::Confirmed, 0),
        (Some(PaymentState::Dead), PaymentState::Waiting, 300),
        (Some(PaymentState::Refused), PaymentState::Waiting, 300),
    ] {
        let bed = bed().await;
        let payment = payment("pay-0", 5);
        let [first] = &bed.paying(std::slice::from_ref(&payment)).await[..] else { panic!() };
        bed.ask(first).await.unwrap();
        let item = bed.take().await.remove(0);
        match before {
            None => {}
            Some(PaymentState::Confirmed) => bed.signer.confirm_outbox(&item, &receipt("0xa"), now()).await.unwrap(),
            Some(state) => bed.signer.fail_outbox(&item, state, "no", now()).await.unwrap(),
        }
        for changes in &story::paying_again("pay-0", &payment) {
            let seen = bed.owner.version(story::UID).await.unwrap();
            bed.owner.commit(story::UID, seen, changes).await.unwrap();
        }
        let second = bed.broker.admitted("key-pay-0-2").await.unwrap().unwrap();
        bed.broker.open_session(&second, &[9; 32], now()).await.unwrap();
        let standing = bed.ask(&second).await.unwrap();
        assert_eq!((standing.state, standing.cost.micros()), (state, cost), "{before:?}");
        assert_eq!(bed.count("select count(*) from payments").await, 1);
        if state == PaymentState::Waiting {
            let item = bed.take().await.remove(0);
            assert!(matches!(&item.work, Work::Pay { unauthorised: None, .. }), "{before:?}: it is the second's now");
        }
    }
}

#[tokio::test]
async fn what_waits_for_an_attempt_that_ended_is_not_signed() {
    let bed = bed().await;
    let [of] = &bed.paying(&[payment("pay-0", 5)]).await[..] else { panic!() };
    bed.ask(of).await.unwrap();
    bed.database.execute(&bed.owner, "update tasks set ending_cause = 'Cancelled', ending_at = now()").await.unwrap();
    let item = bed.take().await.remove(0);
    let Work::Pay { unauthorised, .. } = &item.work else { panic!() };
    assert!(unauthorised.as_deref().is_some_and(|why| why.contains("has ended")), "{unauthorised:?}");
}

#[tokio::test]
async fn no_role_can_do_what_another_is_for() {
    let bed = bed().await;
    let [of] = &bed.paying(&[payment("pay-0", 5)]).await[..] else { panic!() };
    bed.ask(of).await.unwrap();
    for (store, who, statements) in [
        (
            &bed.broker,
            "broker",
            vec![
                "insert into nonces (account, nonce, at) values ('a', 0, now())",
                "insert into submissions (outbox, round, body, transaction, at) values (1, 0, '', 'x', now())",
                "update outbox set transaction = 'x'",
                "update outbox set evidence = ''",
                "update payments set step = 'x'",
                "select body from submissions",
                "delete from outbox",
                "update attempts set launch = '{}'",
            ],
        ),
        (
            &bed.signer,
            "signer",
            vec![
                "insert into payments (id, task_uid, step, network, amount, terms, at) select '0x' || repeat('0', 64), task_uid, step, network, amount, terms, at from payments",
                "insert into outbox (network, payment, attempt) values ('main', 'x', 'y')",
                "update outbox set revived = true",
                "update outbox set round = 9",
                "update outbox set attempt = null",
                "update attempts set launch = '{}'",
                "update attempts set pod_uid = 'x'",
                "update submissions set body = ''",
                "delete from nonces",
                "truncate submissions",
                "insert into attempts default values",
                "update payments set amount = 1",
                "insert into sessions (attempt, secret) values ('x', '')",
                "select * from signatures",
                "update log_entries set body = ''",
            ],
        ),
    ] {
        for statement in statements {
            let error = bed.database.execute(store, statement).await.unwrap_err().to_string();
            assert!(error.contains("permission denied"), "{who}: {statement}: {error}");
        }
    }
}

fn key() -> SigningKey {
    SigningKey::new("countersign.test/log", [7; 32]).unwrap()
}

async fn sequence(bed: &Bed) -> Checkpoint {
    let keys = LogKeys { current: key(), next: None };
    bed.owner.sequence(&keys, now(), 1_000_000).await.unwrap().unwrap().checkpoint
}

#[tokio::test]
async fn the_newest_checkpoint_is_anchored_when_it_is_time_and_shown_with_the_steps_it_covers() {
    let bed = bed().await;
    let minute = Duration::from_secs(60);
    assert!(!bed.signer.propose_anchor("main", minute, now()).await.unwrap(), "there is no checkpoint");
    for changes in &story::signed().batches {
        let seen = bed.owner.version(story::UID).await.unwrap();
        bed.owner.commit(story::UID, seen, changes).await.unwrap();
    }
    let first = sequence(&bed).await;
    let proposals = (0..4).map(|_| {
        let signer = bed.signer.clone();
        tokio::spawn(async move { signer.propose_anchor("main", minute, now()).await.unwrap() })
    });
    let mut proposed = 0;
    for proposal in proposals.collect::<Vec<_>>() {
        proposed += i32::from(proposal.await.unwrap());
    }
    assert_eq!(proposed, 1, "of four at once");
    let item = bed.take().await.remove(0);
    let Work::Anchor { digest, size } = &item.work else { panic!() };
    assert_eq!((*size, *digest), (first.size, Checkpoint::anchored(&first.sign(&key())).unwrap()));
    let later = now() + jiff::SignedDuration::from_secs(120);
    bed.database.fill(&bed.owner, 3).await;
    let second = sequence(&bed).await;
    assert!(!bed.signer.propose_anchor("main", minute, later).await.unwrap(), "the one before is not over");
    assert!(bed.owner.external(story::UID).await.unwrap().anchors.is_empty());
    assert!(bed.owner.ended_outbox(&[]).await.unwrap().is_empty());

    let recent = Timestamp::now();
    bed.signer.keep_submission(&item, None, &Submission { nonce: None, ..signed(0, "0xa") }).await.unwrap();
    bed.signer.confirm_outbox(&item, &receipt("0xa"), recent).await.unwrap();
    let anchors = bed.owner.external(story::UID).await.unwrap().anchors;
    assert!(!anchors.is_empty() && anchors.values().all(|transaction| transaction == "main:0xa"), "{anchors:?}");
    assert_eq!(bed.owner.ended_outbox(&[]).await.unwrap(), [(item.id, vec![story::UID.to_owned()])]);
    assert!(bed.owner.ended_outbox(&[item.id]).await.unwrap().is_empty());

    let soon = now() + jiff::SignedDuration::from_secs(30);
    assert!(!bed.signer.propose_anchor("main", minute, soon).await.unwrap(), "it is not time yet");
    assert!(bed.signer.propose_anchor("main", minute, later).await.unwrap());
    let item = bed.take().await.remove(0);
    bed.signer.keep_submission(&item, None, &Submission { nonce: None, ..signed(0, "0xb") }).await.unwrap();
    bed.signer.confirm_outbox(&item, &receipt("0xb"), recent).await.unwrap();
    let later = later + jiff::SignedDuration::from_secs(120);
    assert!(!bed.signer.propose_anchor("main", minute, later).await.unwrap(), "the log has not grown");
    let covering = async |entries, within| {
        let anchors = bed.owner.anchors_of(entries, within).await.unwrap();
        anchors.into_iter().map(|anchored| (anchored.size, anchored.transaction)).collect::<Vec<_>>()
    };
    let (a, b) = ((first.size, "0xa".to_owned()), (second.size, "0xb".to_owned()));
    assert_eq!(covering(first.size, second.size).await, std::slice::from_ref(&a), "the first that covers them");
    assert_eq!(covering(first.size + 1, second.size).await, std::slice::from_ref(&b));
    assert_eq!(covering(second.size + 1, second.size).await, [b], "none does: the newest");
    assert_eq!(covering(second.size, second.size - 1).await, [a], "of a checkpoint before the second");
    // The same Task shows what it showed.
    assert_eq!(bed.owner.external(story::UID).await.unwrap().anchors, anchors);
    assert_eq!(bed.count("select count(*) from log_entries where kind = 'endPayment'").await, 0);
}
