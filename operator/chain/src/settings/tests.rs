use alloy_primitives::U256;
use tempfile::TempDir;

use super::*;

/// Files beside each other: the settings, a key and a seed.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "0x".to_owned() + &"07".repeat(32)).unwrap();
        std::fs::write(folder.path().join("seed"), "a".repeat(55)).unwrap();
        Files(folder)
    }

    fn read(&self, networks: &str) -> Result<Vec<Chosen>, String> {
        // Whoever runs first installs it for all tests of this process.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let path = self.0.path().join("networks.yaml");
        let folder = self.0.path().display().to_string();
        let account = SecretKey::parse(&"07".repeat(32)).unwrap().address().to_string();
        std::fs::write(&path, networks.replace("FOLDER", &folder).replace("ACCOUNT", &account)).unwrap();
        read(&path, None).map_err(|error| error.to_string())
    }
}

const MAIN: &str = r#"
  - name: main
    type: Ethereum
    url: https://rpc.example.com/with-a-secret
    chainId: 1
    router: "0x0000000000000000000000000000000000000001"
    account: "ACCOUNT"
    maxFeePerGas: "1.5"
    keyFile: FOLDER/key
    limits:
      - {decimals: 18, perPayment: "0.5", daily: "2"}
      - {token: "0x5fbdb2315678afecb367f032d93f642f64180aa3", decimals: 6, perPayment: "1", daily: "1.5"}
    anchors: {intervalSeconds: 60}
"#;
const QUBIC: &str = r#"
  - {name: qubic, type: Qubic, url: "https://rpc.example.org", seedFile: FOLDER/seed, anchors: {intervalSeconds: 5}}
"#;

#[test]
fn networks_are_read_with_their_limits() {
    let chosen = Files::new().read(&format!("networks:{MAIN}{QUBIC}")).unwrap();
    let [main, qubic] = &chosen[..] else { panic!() };
    let account = main.network.account().unwrap();
    assert!(account.starts_with("eip155:1:0x"), "{account}");
    assert_eq!((main.name.as_str(), main.anchors), ("main", Some(Duration::from_secs(60))));
    let coin = Limit {
        decimals: 18,
        payment: U256::from(500_000_000_000_000_000_u64),
        daily: U256::from(2_000_000_000_000_000_000_u64),
    };
    assert_eq!(main.limits.get(&None), Some(&coin));
    let token = main.limits.iter().find_map(|(token, limit)| token.map(|_| *limit));
    assert_eq!(token, Some(Limit { decimals: 6, payment: U256::from(1_000_000), daily: U256::from(1_500_000) }));
    assert_eq!((qubic.network.account(), qubic.limits.len()), (None, 0));
}

#[test]
fn an_error_names_the_network_the_field_and_the_fix() {
    let files = Files::new();
    for (from, to, field, fix) in [
        ("https://rpc.example.com/with-a-secret", "ftp://x", "networks.main.url", "http"),
        ("\"0x0000000000000000000000000000000000000001\"", "\"0x1\"", "networks.main.router", "40 hexadecimal"),
        ("\"ACCOUNT\"", "\"0x0000000000000000000000000000000000000009\"", "networks.main.account", "the key is of 0x"),
        ("\"1.5\"\n    keyFile", "\"many\"\n    keyFile", "networks.main.maxFeePerGas", "gwei"),
        ("FOLDER/key", "FOLDER/none", "networks.main.keyFile", "none"),
        ("FOLDER/key", "FOLDER/seed", "networks.main.keyFile", "hexadecimal"),
        ("perPayment: \"0.5\"", "perPayment: \"-1\"", "networks.main.limits", "no amount"),
        ("\"0x5fbdb2315678afecb367f032d93f642f64180aa3\"", "\"0x5fb\"", "networks.main.limits", "40 hexadecimal"),
        ("chainId: 1", "chainId: one", "networks.main.chainId", "expected u64"),
        ("chainId: 1", "chainId: 1\n    surprise: 1", "networks.main", "surprise"),
        ("type: Ethereum", "type: Bitcoin", "networks.main.type", "none of Ethereum"),
        ("intervalSeconds: 60", "intervalSeconds: 0", "networks.main.anchors.intervalSeconds", "nonzero"),
    ] {
        assert!(MAIN.contains(from), "{from}");
        let error = files.read(&format!("networks:{}", MAIN.replacen(from, to, 1))).err();
        let error = error.unwrap_or_else(|| panic!("{to} was taken"));
        assert!(error.contains(field) && error.contains(fix), "{to}: {error}");
        assert!(!error.contains("with-a-secret"), "{error}");
    }
    for (text, why) in [
        ("networks: [", "is not YAML"),
        ("networks: {}", "is not a list"),
        ("networks: [7]", "networks[0]"),
        ("networks: [{}]", "networks[0].name"),
    ] {
        let error = files.read(text).err().unwrap();
        assert!(error.contains(why), "{error}");
    }
    let error = files.read(&format!("networks:{MAIN}{MAIN}")).err().unwrap();
    assert!(error.contains("\"main\" stands twice"), "{error}");
    let error = files.read(&format!("networks:{}", QUBIC.replace("FOLDER/seed", "FOLDER/key"))).err().unwrap();
    assert!(error.contains("networks.qubic.seedFile"), "{error}");
    let roots = "  - {name: t, type: Timestamp, url: \"http://tsa.example\", rootsFile: FOLDER/key, anchors: {intervalSeconds: 5}}";
    let error = files.read(&format!("networks:\n{roots}\n")).err().unwrap();
    assert!(error.contains("networks.t.rootsFile"), "{error}");
}
