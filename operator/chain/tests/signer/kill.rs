//! Drivers that die, or lose their connection, at every message from the request to the confirmation; and two at once.

use crate::bed::{Bed, End, Terms, payments};
use crate::dice::Dice;
use crate::knife::{Cut, Knife, Moment};

/// More than a life has messages.
const MOST: usize = 150;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Payment,
    Anchor,
}

/// Another payment, or checkpoint, for every message that one's life has.
async fn wherever(kind: Kind, moment: Moment, cut: Cut) {
    let anchors = kind == Kind::Anchor;
    let count = if anchors { 0 } else { MOST };
    let bed = Bed::new(payments(count), Terms { anchors, ..Terms::default() }).await;
    let (mut kills, mut made) = (0, 1);
    for n in 1.. {
        match kind {
            Kind::Payment => bed.ask(n - 1).await,
            Kind::Anchor => bed.checkpoint().await,
        }
        let knife = Knife::new(u32::try_from(n).unwrap(), moment, cut);
        let end = bed.signer(&knife).await.work(&bed).await;
        if end == End::Died {
            bed.calm().await;
        }
        if !knife.fell() {
            break;
        }
        // What is rolled back behind its back nobody waits for, so it can be over and die.
        kills += usize::from(end == End::Died || cut == Cut::Line);
        made += 1;
    }
    let standing = bed.truth().await;
    println!("{kills} messages of {kind:?} cut, {moment:?}, {cut:?}: {standing:?}");
    let done = if anchors { standing.anchored } else { standing.paid };
    assert_eq!((done, standing.unpaid + standing.unanchored), (made, 0));
    assert!(kills >= 40, "{kills}");
}

#[tokio::test]
async fn a_payment_is_made_once_wherever_the_driver_dies_before_a_message() {
    wherever(Kind::Payment, Moment::Before, Cut::Life).await;
}

#[tokio::test]
async fn a_payment_is_made_once_wherever_the_driver_dies_after_a_message() {
    wherever(Kind::Payment, Moment::After, Cut::Life).await;
}

#[tokio::test]
async fn a_payment_is_made_once_wherever_a_connection_breaks_before_a_message() {
    wherever(Kind::Payment, Moment::Before, Cut::Line).await;
}

#[tokio::test]
async fn a_payment_is_made_once_wherever_a_connection_breaks_after_a_message() {
    wherever(Kind::Payment, Moment::After, Cut::Line).await;
}

#[tokio::test]
async fn an_anchor_is_made_wherever_the_driver_dies_before_a_message() {
    wherever(Kind::Anchor, Moment::Before, Cut::Life).await;
}

#[tokio::test]
async fn an_anchor_is_made_wherever_the_driver_dies_after_a_message() {
    wherever(Kind::Anchor, Moment::After, Cut::Life).await;
}

/// Lives until all is over; how many times it died.
async fn lives(bed: &Bed, mut dice: Option<Dice>) -> usize {
    for kills in 0.. {
        let knife = match &mut dice {
            Some(dice) if kills < 40 => {
                let moment = if dice.below(2) == 0 { Moment::Before } else { Moment::After };
                Knife::new(1 + u32::try_from(dice.below(400)).unwrap(), moment, Cut::Life)
            }
            Some(_) | None => Knife::none(),
        };
        if bed.signer(&knife).await.work(bed).await == End::Over {
            return kills;
        }
    }
    unreachable!("it lives at last")
}

/// Each takes what the other has in hand, as if that had taken too long.
async fn two(seeds: [Option<u64>; 2]) {
    const PAYMENTS: usize = 30;
    let bed = Bed::new(payments(PAYMENTS), Terms { anchors: true, ..Terms::default() }).await;
    bed.ask_all().await;
    bed.checkpoint().await;
    let [one, other] = seeds.map(|seed| lives(&bed, seed.map(Dice)));
    let (one, other) = tokio::join!(one, other);
    let standing = bed.truth().await;
    let doubled = "select count(*) from (select from submissions group by outbox having count(*) > 1) as s";
    println!("two signers, {} kills, {} doubled: {standing:?}", one + other, bed.scalar(doubled).await);
    assert_eq!((standing.paid, standing.unpaid), (PAYMENTS, 0));
    assert!(standing.anchored > 0);
    assert!(seeds[0].is_none() || one + other >= 4, "{one} {other}");
}

#[tokio::test]
async fn two_signers_on_one_outbox_pay_once() {
    two([None, None]).await;
}

#[tokio::test]
async fn two_signers_on_one_outbox_that_die_pay_once() {
    two([Some(1), Some(2)]).await;
}
