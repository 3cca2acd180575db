//! Cosignatures (<https://c2sp.org/tlog-cosignature>): a witness's word that, at that time, a checkpoint is the largest
//! that it has seen of a log, and follows from every other one that it saw.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey as Secret, VerifyingKey as Public};

use super::note::{NoteError, check_name, decode_key, encode_key, find, key_id, line, parse};
use crate::digest::hex;

/// The type of a key that cosigns with Ed25519.
const TYPE: u8 = 4;
/// That of one that signs notes, as other tools write secret keys of witnesses.
const PLAIN: u8 = 1;
const SECRET: &str = "PRIVATE+KEY+";

/// A key that cosigns checkpoints, with the name under which it does.
pub struct CosigningKey {
    name: String,
    secret: Secret,
}

/// A key that cosignatures are verified with: `NAME+HEX+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    public: Public,
}

/// A cosignature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// When it was made, by the witness's clock, in seconds since the Epoch.
    pub time: u64,
    /// As it stands below a checkpoint, with its newline.
    pub line: String,
}

/// What is signed: `text` is a checkpoint's, without its signatures.
fn message(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

impl CosigningKey {
    /// The key of this name with this Ed25519 secret (RFC 8032).
    ///
    /// # Errors
    /// The name is empty, or holds white space or a plus.
    pub fn new(name: &str, secret: [u8; 32]) -> Result<CosigningKey, NoteError> {
        check_name(name)?;
        Ok(CosigningKey { name: name.to_owned(), secret: Secret::from_bytes(&secret) })
    }

    /// The public key that its cosignatures are verified with.
    pub fn witness_key(&self) -> WitnessKey {
        WitnessKey { name: self.name.clone(), public: self.secret.verifying_key() }
    }

    /// The line that goes below a checkpoint.
    pub fn cosign(&self, checkpoint: &str, time: u64) -> Result<String, NoteError> {
        let (text, _) = parse(checkpoint)?;
        let mut signature = time.to_be_bytes().to_vec();
        signature.extend(self.secret.sign(message(time, text).as_bytes()).to_bytes());
        Ok(line(&self.name, key_id(TYPE, &self.name, &self.secret.verifying_key()), &signature))
    }

    /// `PRIVATE+KEY+NAME+HEX+BASE64`: the key itself, to be kept.
    pub fn to_secret(&self) -> String {
        let id = hex(&key_id(TYPE, &self.name, &self.secret.verifying_key()));
        let mut key = vec![TYPE];
        key.extend(self.secret.to_bytes());
        format!("{SECRET}{}+{id}+{}", self.name, STANDARD.encode(key))
    }
}

impl std::fmt::Debug for CosigningKey {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CosigningKey({})", self.name)
    }
}

impl std::str::FromStr for CosigningKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<CosigningKey, NoteError> {
        let wrong = NoteError::Key;
        let parts = text.trim().strip_prefix(SECRET).ok_or(wrong("a secret key begins with PRIVATE+KEY+"))?;
        let mut parts = parts.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("it has not three parts"));
        };
        let key = STANDARD.decode(key).map_err(|_| wrong("the key is not base64"))?;
        let Some((&kind @ (TYPE | PLAIN), secret)) = key.split_first() else {
            return Err(wrong("a witness's is of type 4, or 1"));
        };
        let secret = secret.try_into().map_err(|_| wrong("the key has not 32 bytes"))?;
        let key = CosigningKey::new(name, secret)?;
        if id == hex(&key_id(kind, name, &key.secret.verifying_key())) {
            Ok(key)
        } else {
            Err(wrong("its identifier is not that of the key"))
        }
    }
}

impl WitnessKey {
    /// The witness's name, as its cosignatures begin with it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both are the same key, whatever their names.
    pub fn is_same_key(&self, other: &WitnessKey) -> bool {
        self.public == other.public
    }

    /// This witness's cosignature below a checkpoint. Who else has signed is not looked at.
    pub fn find(&self, checkpoint: &str) -> Result<Cosignature, NoteError> {
        let (text, signatures) = parse(checkpoint)?;
        let id = key_id(TYPE, &self.name, &self.public);
        let signature = find(signatures, &self.name, id)?;
        let forged = || NoteError::Forged(self.name.clone());
        let (time, ed25519) = signature.bytes.split_first_chunk::<8>().ok_or_else(forged)?;
        let time = u64::from_be_bytes(*time);
        let ed25519 = ed25519_dalek::Signature::from_slice(ed25519).map_err(|_| forged())?;
        self.public.verify_strict(message(time, text).as_bytes(), &ed25519).map_err(|_| forged())?;
        if i64::try_from(time).is_err() {
            return Err(forged());
        }
        Ok(Cosignature { time, line: line(&self.name, id, &signature.bytes) })
    }

    /// Its cosignature on a checkpoint, among the lines that a witness answered.
    pub fn find_among(&self, lines: &str, checkpoint: &str) -> Result<Cosignature, NoteError> {
        let (text, _) = parse(checkpoint)?;
        self.find(&format!("{text}\n{lines}"))
    }
}

impl std::fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&encode_key(TYPE, &self.name, &self.public))
    }
}

impl std::str::FromStr for WitnessKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<WitnessKey, NoteError> {
        let (name, public) = decode_key(TYPE, text)?;
        Ok(WitnessKey { name, public })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{Checkpoint, SigningKey, empty_root};

    /// A checkpoint of a log of certificates, cosigned by public witnesses that others wrote and run.
    const PUBLISHED: &str = "arche2025h1.staging.ct.transparency.dev\n\
        1432088532\n\
        U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\
        \n\
        \u{2014} arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n\
        \u{2014} witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==\n\
        \u{2014} remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n";
    const WITNESSES: [&str; 2] = [
        "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
        "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    ];
    /// From the tests of transparency-dev's formats, in Go: a secret key and the public key that belongs to it.
    const GO_SECRET: &str = "PRIVATE+KEY+Wit1+55ee4561+AeadRiG7XM4XiieCHzD8lxysXMwcViy5nYsoXURWGrlE";
    const GO_PUBLIC: &str = "Wit1+55ee4561+AVhZSmQj9+SoL+p/nN0Hh76xXmF7QcHfytUrI1XfSClk";

    fn key() -> CosigningKey {
        CosigningKey::new("witness.example/w1", [3; 32]).unwrap()
    }

    fn checkpoint() -> String {
        let log = SigningKey::new("log.example", [7; 32]).unwrap();
        Checkpoint { origin: "log.example".into(), size: 7, root: empty_root() }.sign(&log)
    }

    #[test]
    fn cosignatures_of_other_implementations_hold_and_nothing_else_does() {
        for witness in WITNESSES {
            let key: WitnessKey = witness.parse().unwrap();
            assert_eq!(key.to_string(), witness);
            let found = key.find(PUBLISHED).unwrap();
            assert_eq!(found.time, 1_779_573_024, "{witness}");
            assert!(PUBLISHED.contains(&found.line));
            let forged = Err(NoteError::Forged(key.name().to_owned()));
            assert_eq!(key.find(&PUBLISHED.replace("1432088532", "1432088533")), forged);
            let other = PUBLISHED.replace("\n\n", "\nextension\n\n");
            assert_eq!(key.find(&other), forged, "lines of extensions are signed too");
        }
        let key = key().witness_key();
        assert_eq!(key.find(PUBLISHED), Err(NoteError::Unsigned("witness.example/w1".into())));
    }

    #[test]
    fn what_is_cosigned_holds_for_its_checkpoint_and_time_only() {
        let (key, checkpoint) = (key(), checkpoint());
        let line = key.cosign(&checkpoint, 1_679_315_147).unwrap();
        let witness = key.witness_key();
        let expected = Cosignature { time: 1_679_315_147, line: line.clone() };
        assert_eq!(witness.find(&format!("{checkpoint}{line}")), Ok(expected.clone()));
        let others = CosigningKey::new("witness.example/w2", [4; 32]).unwrap().cosign(&checkpoint, 1).unwrap();
        assert_eq!(witness.find_among(&format!("{others}{line}"), &checkpoint), Ok(expected));
        assert_eq!(witness.find_among(&others, &checkpoint), Err(NoteError::Unsigned("witness.example/w1".into())));
        // The time is part of what was signed.
        let encoded = line.rsplit(' ').next().unwrap().trim();
        let mut bytes = STANDARD.decode(encoded).unwrap();
        bytes[11] ^= 1;
        let bent = line.replace(encoded, &STANDARD.encode(bytes));
        let forged = Err(NoteError::Forged("witness.example/w1".into()));
        assert_eq!(witness.find(&format!("{checkpoint}{bent}")), forged);
        let beyond = key.cosign(&checkpoint, 1 << 63).unwrap();
        assert_eq!(witness.find(&format!("{checkpoint}{beyond}")), forged, "no time is beyond 2^63 - 1");
    }

    #[test]
    fn a_log_cannot_pass_for_a_witness_with_the_same_key() {
        let log = SigningKey::new("same.example", [3; 32]).unwrap();
        let witness = CosigningKey::new("same.example", [3; 32]).unwrap();
        let signed = log.sign("same.example\n7\nroot\n");
        assert_eq!(witness.witness_key().find(&signed), Err(NoteError::Unsigned("same.example".into())));
        assert!(log.verifying_key().to_string().parse::<WitnessKey>().is_err());
        assert!(witness.witness_key().to_string().parse::<crate::tlog::VerifyingKey>().is_err());
    }

    #[test]
    fn secret_keys_are_written_and_read_and_show_themselves_in_no_log() {
        let read: CosigningKey = key().to_secret().parse().unwrap();
        assert_eq!(read.witness_key(), key().witness_key());
        assert_eq!(format!("{read:?}"), "CosigningKey(witness.example/w1)");
        let go: CosigningKey = GO_SECRET.parse().unwrap();
        let theirs: crate::tlog::VerifyingKey = GO_PUBLIC.parse().unwrap();
        let ours = encode_key(PLAIN, go.witness_key().name(), &go.witness_key().public);
        assert_eq!(ours, theirs.to_string());
        for wrong in [GO_PUBLIC, "PRIVATE+KEY+a", &GO_SECRET.replace("55ee", "55ef"), &GO_SECRET.replace("+Ae", "+Ce")]
        {
            assert!(wrong.parse::<CosigningKey>().is_err(), "{wrong}");
        }
    }
}
