//! Seeds in files.

use std::fs;

use countersign_chain::qubic::{Key, SeedError};

#[test]
fn a_seed_is_read_from_a_file_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed");
    let seed = "kqubicseedkqubicseedkqubicseedkqubicseedkqubicseedkqubi";
    let expected = Key::from_seed(seed.as_bytes()).unwrap().identity();
    for text in [seed.to_owned(), format!("{seed}\n"), format!("{seed}\r\n")] {
        fs::write(&path, text).unwrap();
        let key = Key::read(&path).unwrap();
        assert_eq!(key.identity(), expected);
        assert_eq!(format!("{key:?}"), format!("Key({expected})"));
    }
}

#[test]
fn what_is_no_seed_is_refused_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed");
    let seed = "s".repeat(55);
    for text in [
        String::new(),
        "\n".to_owned(),
        seed[1..].to_owned(),
        format!("{seed}s"),
        format!(" {seed}"),
        format!("{seed} "),
        format!("{seed}\n\n"),
        format!("{seed}\n{seed}\n"),
        seed.to_uppercase(),
        seed.replacen('s', "1", 1),
        seed.replacen("ss", "ß", 1),
        "s".repeat(1 << 20),
    ] {
        fs::write(&path, &text).unwrap();
        let error = Key::read(&path).unwrap_err();
        assert!(matches!(error, SeedError::Malformed), "{text:?}: {error}");
        assert!(!format!("{error} {error:?}").contains("sss"), "{error:?}");
    }
    assert!(matches!(Key::read(&folder.path().join("none")), Err(SeedError::Unreadable(_))));
    assert!(matches!(Key::read(folder.path()), Err(SeedError::Unreadable(_))));
}
