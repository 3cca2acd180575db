//! Which statements PostgreSQL is killed at.

/// How many statements there are to each one that is tried, where not all of them are.
const ONE_IN: u32 = 4;

/// The numbers of the statements to kill at, without end: how many there are shows only as they are told.
/// `COUNTERSIGN_KILLS=all` tries every one; otherwise a quarter of them, and which is drawn from `COUNTERSIGN_SEED`, or
/// from the time where that is not set. The seed is printed.
pub fn sample() -> Box<dyn Iterator<Item = u32> + Send> {
    if std::env::var("COUNTERSIGN_KILLS").is_ok_and(|kills| kills == "all") {
        return Box::new(1..);
    }
    let seed = std::env::var("COUNTERSIGN_SEED").map_or_else(|_| drawn(), |seed| seed.parse().expect("a whole number"));
    println!("seed {seed}: one in {ONE_IN} statements; COUNTERSIGN_SEED={seed} draws the same again");
    // One of each group is drawn, so that a sample is spread over all that is done.
    Box::new((0..).map(move |group| group * ONE_IN + mixed(seed, group) % ONE_IN + 1))
}

fn drawn() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(since.subsec_nanos())
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014).
fn mixed(seed: u64, group: u32) -> u32 {
    let mut z = seed.wrapping_add((u64::from(group) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((z ^ (z >> 31)) >> 32).unwrap()
}
