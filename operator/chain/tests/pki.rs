//! Authorities made with `openssl`, and its time stamping.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_chain::timestamp::Roots;
use tempfile::TempDir;

pub const CA: &str =
    "basicConstraints = critical, CA:true\nkeyUsage = critical, keyCertSign\nsubjectKeyIdentifier = hash\n";
pub const TSA: &str =
    "extendedKeyUsage = critical, timeStamping\nkeyUsage = critical, digitalSignature\nsubjectKeyIdentifier = hash\n";

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Rsa,
    RsaShort,
    P256,
    P384,
    Ed25519,
}

pub struct Pki {
    folder: TempDir,
    count: AtomicUsize,
}

/// A certificate to be made. Its key is that of the same name, made if it is not there.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub name: &'a str,
    pub key: &'a str,
    pub subject: &'a str,
    /// `None`: by itself.
    pub issuer: Option<&'a str>,
    pub extensions: &'a str,
    pub from: &'a str,
    pub to: &'a str,
    pub serial: &'a str,
}

impl<'a> Wanted<'a> {
    pub fn new(name: &'a str, issuer: Option<&'a str>, extensions: &'a str) -> Wanted<'a> {
        let (from, to) = ("20200101000000Z", "20990101000000Z");
        let serial = if issuer.is_some() { "1001" } else { "2002" };
        Wanted { name, key: name, subject: name, issuer, extensions, from, to, serial }
    }
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("openssl is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

impl Pki {
    pub fn new() -> Pki {
        Pki { folder: TempDir::new().unwrap(), count: AtomicUsize::new(0) }
    }

    /// A root, an issuer below it, and an authority below that, all with keys of one kind.
    pub fn usual(kind: Kind) -> Pki {
        let pki = Pki::new();
        for name in ["root", "issuer", "tsa"] {
            pki.key(name, kind);
        }
        pki.certificate(Wanted::new("root", None, CA));
        pki.certificate(Wanted::new("issuer", Some("root"), CA));
        pki.certificate(Wanted::new("tsa", Some("issuer"), TSA));
        pki
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn openssl(&self, arguments: &[&str]) -> String {
        run(Command::new("openssl").args(arguments).current_dir(self.folder.path()))
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The name of a file that nobody else has.
    pub fn keep(&self, ending: &str, content: &[u8]) -> PathBuf {
        self.write(&format!("{}.{ending}", self.count.fetch_add(1, Ordering::Relaxed)), content)
    }

    pub fn key(&self, name: &str, kind: Kind) {
        let kind: &[&str] = match kind {
            Kind::Rsa => &["rsa", "-pkeyopt", "rsa_keygen_bits:2048"],
            Kind::RsaShort => &["rsa", "-pkeyopt", "rsa_keygen_bits:1024"],
            Kind::P256 => &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Kind::P384 => &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
            Kind::Ed25519 => &["ed25519"],
        };
        let out = format!("{name}.key");
        self.openssl(&[&["genpkey", "-out", &out, "-algorithm"], kind].concat());
    }

    /// In PKCS #8.
    pub fn key_der(&self, name: &str) -> Vec<u8> {
        let out = format!("{name}.p8");
        self.openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", &format!("{name}.key"), "-outform", "DER", "-out", &out]);
        std::fs::read(self.path(&out)).unwrap()
    }

    pub fn certificate(&self, wanted: Wanted<'_>) {
        let Wanted { name, key, subject, issuer, extensions, from, to, serial } = wanted;
        if !self.path(&format!("{key}.key")).exists() {
            self.key(key, Kind::P256);
        }
        self.write("index", "");
        self.write("index.attr", "unique_subject = no\n");
        self.write("serial", format!("{serial}\n"));
        self.write(
            "ca.cnf",
            "[ca]\ndefault_ca = c\n[c]\ndatabase = index\nserial = serial\nnew_certs_dir = .\ndefault_md = default\n\
             policy = p\nunique_subject = no\n[p]\ncommonName = supplied\n",
        );
        self.write("extensions", format!("[e]\n{extensions}"));
        let (csr, out) = (format!("{name}.csr"), format!("{name}.pem"));
        let own = format!("{key}.key");
        self.openssl(&["req", "-new", "-key", &own, "-subj", &format!("/CN={subject}"), "-out", &csr]);
        let issuer_key = format!("{}.key", issuer.unwrap_or(key));
        let issuer_file = issuer.map(|issuer| format!("{issuer}.pem"));
        let by: Vec<&str> = issuer_file.as_ref().map_or(vec!["-selfsign"], |file| vec!["-cert", file]);
        let common =
            ["ca", "-batch", "-notext", "-config", "ca.cnf", "-in", &csr, "-out", &out, "-keyfile", &issuer_key];
        let limits = ["-startdate", from, "-enddate", to, "-extfile", "extensions", "-extensions", "e"];
        self.openssl(&[&common[..], &limits, &by].concat());
    }

    pub fn pem(&self, names: &[&str]) -> Vec<u8> {
        names.iter().flat_map(|name| std::fs::read(self.path(&format!("{name}.pem"))).unwrap()).collect()
    }

    pub fn der(&self, name: &str) -> Vec<u8> {
        let out = format!("{name}.der");
        self.openssl(&["x509", "-in", &format!("{name}.pem"), "-outform", "DER", "-out", &out]);
        std::fs::read(self.path(&out)).unwrap()
    }

    pub fn roots(&self, names: &[&str]) -> Roots {
        Roots::from_pem(&self.pem(names)).unwrap()
    }
}

/// How `openssl ts -reply` is set up.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub signer: &'a str,
    pub chain: &'a [&'a str],
    pub digest: &'a str,
    pub ess: &'a str,
    pub ess_chain: bool,
    /// The digests that it takes.
    pub takes: &'a str,
    pub fraction: u8,
}

pub const REPLY: Reply<'static> = Reply {
    signer: "tsa",
    chain: &["issuer"],
    digest: "sha256",
    ess: "sha256",
    ess_chain: false,
    takes: "sha256",
    fraction: 0,
};

/// A TimeStampResp to a query.
pub fn reply(pki: &Pki, reply: Reply<'_>, query: &[u8]) -> Vec<u8> {
    let Reply { signer, chain, digest, ess, ess_chain, takes, fraction } = reply;
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let (query, chain) = (name(&pki.keep("tsq", query)), name(&pki.keep("chain", &pki.pem(chain))));
    let out = name(&pki.keep("tsr", b""));
    let ess_chain = if ess_chain { "yes" } else { "no" };
    let config = format!(
        "[tsa]\ndefault_tsa = t\n[t]\nserial = stamps\nsigner_cert = {signer}.pem\nsigner_key = {signer}.key\n\
         certs = {chain}\nsigner_digest = {digest}\ndefault_policy = 1.2.3.4.1\nother_policies = 1.2.3.4.5\n\
         digests = {takes}\naccuracy = secs:1, millisecs:500, microsecs:100\nclock_precision_digits = {fraction}\n\
         ordering = yes\ntsa_name = yes\ness_cert_id_alg = {ess}\ness_cert_id_chain = {ess_chain}\n",
    );
    let config = name(&pki.keep("cnf", config.as_bytes()));
    pki.openssl(&["ts", "-reply", "-queryfile", &query, "-config", &config, "-out", &out]);
    std::fs::read(out).unwrap()
}

/// What `openssl ts -verify` says of a TimeStampToken.
pub fn verifies(pki: &Pki, token: &[u8], digest: &[u8; 32], root: &str, chain: &[&str]) -> bool {
    let (token, chain) = (pki.keep("token", token), pki.keep("chain", &pki.pem(chain)));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new("openssl");
    command.args(["ts", "-verify", "-token_in", "-in"]).arg(token).args(["-digest", &digest, "-CAfile"]);
    command.arg(pki.path(&format!("{root}.pem"))).arg("-untrusted").arg(chain);
    command.output().unwrap().status.success()
}

/// What `openssl ts -verify` says of an answer to a request.
pub fn answers(pki: &Pki, query: &[u8], answer: &[u8]) -> bool {
    let (query, answer) = (pki.keep("tsq", query), pki.keep("tsr", answer));
    let mut command = Command::new("openssl");
    command.args(["ts", "-verify", "-queryfile"]).arg(query).arg("-in").arg(answer).arg("-CAfile");
    command.arg(pki.path("root.pem")).arg("-untrusted").arg(pki.path("issuer.pem"));
    command.output().unwrap().status.success()
}
