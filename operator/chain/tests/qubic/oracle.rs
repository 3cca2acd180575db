//! Byte for byte what Qubic's own library makes.

use alloy_primitives::hex;
use countersign_chain::qubic::{Amount, Identity, Key, TAG, Transaction};
use serde_json::json;

use crate::counterpart::Oracle;

const CASES: usize = 200;
/// N, the order of the generator, the lowest byte first.
const ORDER: [u8; 32] = hex!("e78c76c70e54b22f99790ffe4d00bddfe514bc9c829753f0720a5e4ec1cb2900");

/// The same numbers each time (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.next() as u8)
    }

    fn seed(&mut self) -> String {
        (0..55).map(|_| char::from(b'a' + (self.next() % 26) as u8)).collect()
    }
}

#[test]
fn keys_identities_signatures_and_transactions_are_the_same() {
    let (mut oracle, mut random) = (Oracle::start(), Random(1));
    for case in 0..CASES {
        let (seed, digest, destination) = (random.seed(), random.bytes(), random.bytes());
        let key = Key::from_seed(seed.as_bytes()).unwrap();
        let theirs = oracle.ask(json!({ "ask": "key", "seed": seed }));
        assert_eq!(theirs["public"], hex::encode(key.identity().as_bytes()), "{seed}");
        assert_eq!(theirs["identity"], key.identity().to_string(), "{seed}");

        let theirs = oracle.ask(json!({ "ask": "sign", "seed": seed, "digest": hex::encode(digest) }));
        assert_eq!(theirs["signature"], hex::encode(key.sign(&digest)), "{seed}");

        let (tick, input_type) = (random.next() as u32, random.next() as u16);
        let amount = [Amount::Nothing, Amount::One][case % 2];
        let ours = Transaction::sign(&key, Identity::from_bytes(destination), amount, tick, input_type, digest);
        let theirs = oracle.ask(json!({
            "ask": "transaction",
            "seed": seed,
            "destination": hex::encode(destination),
            "amount": i64::from(amount),
            "tick": tick,
            "type": input_type,
            "input": hex::encode([TAG.as_slice(), &digest].concat()),
        }));
        assert_eq!(theirs["bytes"], hex::encode(ours.to_bytes()), "{seed}");
        assert_eq!(theirs["id"], ours.id(), "{seed}");
        assert_eq!(Transaction::parse(&ours.to_bytes()), Ok(ours));
    }
}

#[test]
fn identities_of_any_bytes_are_the_same() {
    let (mut oracle, mut random) = (Oracle::start(), Random(2));
    for _ in 0..CASES {
        let identity = Identity::from_bytes(random.bytes());
        let theirs = oracle.ask(json!({ "ask": "identity", "public": hex::encode(identity.as_bytes()) }));
        assert_eq!(theirs["upper"], identity.to_string());
        assert_eq!(identity.to_string().parse(), Ok(identity));

        // One letter is another one.
        let mut letters = identity.to_string().into_bytes();
        let place = (random.next() % 60) as usize;
        letters[place] = b'A' + (letters[place] - b'A' + 1 + (random.next() % 25) as u8) % 26;
        let bent = String::from_utf8(letters).unwrap();
        let theirs = oracle.ask(json!({ "ask": "valid", "identity": bent }));
        assert_eq!(theirs["valid"], bent.parse::<Identity>().is_ok(), "{bent}");
        assert!(bent.parse::<Identity>().is_err(), "{bent}");
    }
}

#[test]
fn the_same_signatures_hold() {
    let (mut oracle, mut random) = (Oracle::start(), Random(3));
    let mut held = |public: [u8; 32], digest: [u8; 32], signature: [u8; 64]| {
        let question = json!({
            "ask": "verify",
            "public": hex::encode(public),
            "digest": hex::encode(digest),
            "signature": hex::encode(signature),
        });
        let theirs = oracle.ask(question.clone())["valid"].as_bool().unwrap();
        let ours = Identity::from_bytes(public).has_signed(&digest, &signature);
        assert_eq!(theirs, ours, "{question}");
        ours
    };
    for _ in 0..CASES {
        let (key, digest) = (Key::from_seed(random.seed().as_bytes()).unwrap(), random.bytes());
        let (public, signature) = (*key.identity().as_bytes(), key.sign(&digest));
        assert!(held(public, digest, signature));

        // One bit is another one; of the answer's the lower ones, as the upper ones are told of below.
        let (mut key_bent, mut digest_bent, mut signature_bent) = (public, digest, signature);
        let (place, bit) = ((random.next() % 32) as usize, 1 << (random.next() % 8));
        key_bent[place] ^= bit;
        digest_bent[place] ^= bit;
        signature_bent[place] ^= bit;
        assert!(!held(key_bent, digest, signature));
        assert!(!held(public, digest_bent, signature));
        assert!(!held(public, digest, signature_bent));
        let mut answer_bent = signature;
        answer_bent[32 + place] ^= bit;
        assert!(!held(public, digest, answer_bent));
        // Somebody else's.
        assert!(!held(random.bytes(), digest, signature));
    }
}

#[test]
fn a_second_signature_is_not_made_of_one() {
    let (mut oracle, mut random, mut passed) = (Oracle::start(), Random(4), 0);
    for _ in 0..20 {
        let (key, digest) = (Key::from_seed(random.seed().as_bytes()).unwrap(), random.bytes());
        let mut signature = key.sign(&digest);
        let mut carry = 0;
        for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert!(!key.identity().has_signed(&digest, &signature));
        let theirs = oracle.ask(json!({
            "ask": "verify",
            "public": hex::encode(key.identity().as_bytes()),
            "digest": hex::encode(digest),
            "signature": hex::encode(signature),
        }));
        passed += usize::from(theirs["valid"] == true);
    }
    // Otherwise it would not be this that is tested.
    assert_ne!(passed, 0);
}

#[test]
fn nobody_signs_for_a_key_without_a_secret() {
    let bytes = |low: u8, rest: u8, fifteenth: u8| {
        let mut bytes = [0; 32];
        bytes[..16].fill(rest);
        (bytes[0], bytes[15]) = (low, fifteenth);
        bytes
    };
    let neutral = bytes(1, 0, 0);
    let of_order_two = bytes(0xfe, 0xff, 0x7f);
    // With 0 for the answer each equation holds whose key is multiplied to the commitment.
    let signature = |commitment: [u8; 32]| <[u8; 64]>::try_from([commitment, [0; 32]].concat()).unwrap();
    for digest in 0..16 {
        for public in [neutral, of_order_two, [0; 32], [0xff; 32], bytes(0, 0, 0x80)] {
            for commitment in [neutral, of_order_two, [0; 32], public] {
                let identity = Identity::from_bytes(public);
                assert!(!identity.has_signed(&[digest; 32], &signature(commitment)), "{identity}");
            }
        }
    }
}
