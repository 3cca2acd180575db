use super::*;
use crate::tlog::{Checkpoint, CosigningKey, SigningKey, empty_root};

const LOG_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fn witness(number: u8) -> CosigningKey {
    CosigningKey::new(&format!("witness.example/{number}"), [number; 32]).unwrap()
}

fn key(number: u8) -> String {
    witness(number).witness_key().to_string()
}

/// The policy that the specification shows, with six keys.
fn example() -> String {
    let witness = |name: &str, number| format!("witness {name} {}\n", key(number));
    let x: String = [("X1", 1), ("X2", 2), ("X3", 3)].map(|(name, number)| witness(name, number)).concat();
    let y: String = [("Y1", 4), ("Y2", 5), ("Y3", 6)].map(|(name, number)| witness(name, number)).concat();
    format!(
        "log {LOG_KEY}\n\n{x}group X-witnesses 2 X1 X2 X3\n\n{y}group Y-witnesses any Y1 Y2 Y3\n\n\
         group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    )
}

/// A checkpoint with the cosignatures of these.
fn cosigned(by: &[u8]) -> String {
    let log = SigningKey::new("log.example", [99; 32]).unwrap();
    let note = Checkpoint { origin: "log.example".into(), size: 0, root: empty_root() }.sign(&log);
    by.iter().fold(note.clone(), |all, number| all + &witness(*number).cosign(&note, u64::from(*number)).unwrap())
}

#[test]
fn the_specifications_example_says_what_it_says_there() {
    let policy = Policy::parse(example().as_bytes()).unwrap();
    assert_eq!(policy.logs, [LOG_KEY.parse().unwrap()]);
    for by in 0..64u8 {
        let cosigners: Vec<u8> = (1..=6).filter(|number| by & (1 << (number - 1)) != 0).collect();
        let expected = (by & 0b111).count_ones() >= 2 && by & 0b11_1000 != 0;
        let checked = policy.check(&cosigned(&cosigners));
        assert_eq!(checked.is_ok(), expected, "{cosigners:?}: {checked:?}");
        if let Ok(Reached { witnesses }) = checked {
            let times: Vec<u64> = witnesses.iter().map(|(_, time)| *time).collect();
            assert_eq!(times, cosigners.iter().map(|number| u64::from(*number)).collect::<Vec<_>>());
        }
    }
    let missing = |by: &[u8]| policy.check(&cosigned(by)).unwrap_err().to_string();
    assert_eq!(
        missing(&[1, 4]),
        "it is not cosigned by X-and-Y (1 of 2, without X-witnesses (1 of 2, without X2, X3)), as the policy demands"
    );
    assert!(missing(&[1, 2, 3]).contains("without Y-witnesses (0 of 1, without Y1, Y2, Y3)"));
}

#[test]
fn a_cosignature_that_does_not_hold_is_no_cosignature_that_is_missing() {
    let policy = format!("witness w1 {}\nwitness w2 {}\ngroup g any w1 w2\nquorum g", key(1), key(2));
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let honest = cosigned(&[1, 2]);
    assert!(policy.check(&honest).is_ok());
    // Taken from one checkpoint to another.
    let moved = honest.replacen("\n0\n", "\n1\n", 1);
    assert!(matches!(policy.check(&moved), Err(QuorumError::Forged { witness, .. }) if witness == "w1"));
}

#[test]
fn what_the_specification_allows_is_read() {
    let [one, two] = [key(1), key(2)];
    for (what, file, enough) in [
        ("nobody", "quorum none\n".to_owned(), &[][..]),
        ("one witness", format!("witness w {one}\nquorum w\n"), &[1]),
        ("blanks and comments", format!("\n# c\n\t # c\n\twitness \t w  {one}   https://w/  \n\n  quorum\tw"), &[1]),
        (
            "names that are words",
            format!("witness all {one}\nwitness any {two}\ngroup group 2 all any\nquorum group\n"),
            &[1, 2],
        ),
        ("other letters", format!("witness \u{212a} {one}\nwitness K {two}\nquorum \u{212a}\n"), &[1]),
        ("URLs", format!("log {LOG_KEY} https://log/\nwitness w {one}\nquorum w\n"), &[1]),
        ("nobody, though there are some", format!("witness w {one}\nquorum none\n"), &[]),
    ] {
        let policy = Policy::parse(file.as_bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(policy.check(&cosigned(enough)).is_ok(), "{what}");
        let without = policy.check(&cosigned(&[]));
        assert_eq!(without.is_ok(), enough.is_empty(), "{what}: {without:?}");
    }
    let opaque = [b"witness \x80 ", one.as_bytes(), b"\nquorum \x80\n"].concat();
    assert!(Policy::parse(&opaque).is_ok(), "names are bytes");
}

#[test]
fn each_error_names_the_line_and_what_is_wrong() {
    let [one, two] = [key(1), key(2)];
    let w = format!("witness w {one}\n");
    for (file, why) in [
        ("quorum none\n\u{1}".to_owned(), "line 2: the byte 0x01"),
        ("quorum none\r\n".to_owned(), "line 1: the byte 0x0d"),
        ("quibble w\nquorum none\n".to_owned(), "neither log, witness"),
        (format!("witness w {one} https://w/ # no comment\nquorum w\n"), "write witness NAME"),
        ("log\nquorum none\n".to_owned(), "write log VKEY"),
        ("log garbage\nquorum none\n".to_owned(), "line 1: the key: "),
        (format!("log {one}\nquorum none\n"), "another type"),
        (format!("log {LOG_KEY}\nlog {LOG_KEY} https://log/\nquorum none\n"), "line 2: a line before has the same key"),
        ("witness w\nquorum none\n".to_owned(), "write witness NAME"),
        (format!("witness w {LOG_KEY}\nquorum w\n"), "another type"),
        (format!("witness none {one}\nquorum none\n"), "none is taken, or reserved"),
        (format!("{w}witness w {two}\nquorum w\n"), "line 2: the name w is taken"),
        (format!("{w}group w any w\nquorum w\n"), "the name w is taken"),
        (format!("{w}group g 1\nquorum w\n"), "write group NAME"),
        (format!("{w}group none any w\nquorum none\n"), "none is taken"),
        (format!("{w}group g 0 w\nquorum g\n"), "0 is not all, any or a number from 1 to 1"),
        (format!("{w}group g -1 w\nquorum g\n"), "-1 is not all"),
        (format!("{w}group g +1 w\nquorum g\n"), "+1 is not all"),
        (format!("{w}group g 2 w\nquorum g\n"), "2 is not all"),
        (format!("{w}group g any v\nquorum g\n"), "no line before names v"),
        (format!("group g any w\n{w}quorum g\n"), "line 1: no line before names w"),
        (format!("{w}group g any none w\nquorum g\n"), "no line before names none"),
        (format!("{w}group g any g\nquorum g\n"), "no line before names g"),
        (format!("{w}group g all w w\nquorum g\n"), "w is a member of a group already"),
        (format!("{w}witness v {two}\ngroup g any w v\ngroup h any w\nquorum g\n"), "w is a member of a group already"),
        (w.clone(), "exactly one quorum line; there are 0"),
        (format!("{w}quorum w\nquorum w\n"), "there are 2"),
        ("quorum unknown\n".to_owned(), "no line before names unknown"),
        (format!("quorum w\n{w}"), "line 1: no line before names w"),
        ("quorum\n".to_owned(), "write quorum NAME"),
    ] {
        let error = Policy::parse(file.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{file:?}: {error}");
    }
    // The same key under another name.
    let other = CosigningKey::new("impostor.example", [1; 32]).unwrap().witness_key();
    let error = Policy::parse(format!("{w}witness v {other}\nquorum w\n").as_bytes()).unwrap_err().to_string();
    assert!(error.contains("same key"), "{error}");
}
