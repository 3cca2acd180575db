//! Fixed answers of Qubic's own library, `@qubic-lib/qubic-ts-library` 0.1.6.

use alloy_primitives::hex;

use super::hash::k12;
use super::{Amount, Identity, Key, Transaction};

struct Vector {
    seed: &'static str,
    identity: &'static str,
    public: [u8; 32],
    digest: [u8; 32],
    /// Of the digest.
    signature: [u8; 64],
    amount: Amount,
    tick: u32,
    input_type: u16,
    id: &'static str,
    /// The signature of a transaction to the source itself that anchors the digest.
    transaction: [u8; 64],
}

const VECTORS: [Vector; 5] = [
    Vector {
        seed: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        identity: "BZBQFLLBNCXEMGLOBHUVFTLUPLVCPQUASSILFABOFFBCADQSSUPNWLZBQEXK",
        public: hex!("1f590d03e613bdded38b4c0820ac44615f91af12435980b3ede3c08c315a2544"),
        digest: hex!("8e69f1270f8b98dbdc74417113748f5ee3077567082efa39e807c936ca4e4ba9"),
        signature: hex!(
            "7effc620b42dddc8eacd4568f341cd28b5fc5fcfcdd5e98733c59ca0098b8c84"
            "bf5b204edd91970039ef02646b2148a65dd51f31076e2600de56932cdf901e00"
        ),
        amount: Amount::Nothing,
        tick: 1,
        input_type: 0,
        id: "amesgdjiiumudbifcsoblxchyctfigecutlnowtmibjuppxhmegxhvjelkql",
        transaction: hex!(
            "7dce86c96e3749a5c1e103eb2ea35502a332d8bc91ce4885dbb3bff470a10881"
            "2461aa643082d7e100cb49468689875d308f4481bee414b4124b1dd6306c2500"
        ),
    },
    Vector {
        seed: "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        identity: "ZSDAHLHNHVWTEDYXRTTDWNKGRVPAFQKNTOUXPOXSCDGOPTMUJFWPVATFXHPG",
        public: hex!("69e68dc170cd9b6dda32b69490f5f71405c5c8d67012e96a86d3ff98ef915ec5"),
        digest: hex!("e5c7990e38adf52e1f932c333f130278326106a58f4bb0b88c698d80d0c9aa87"),
        signature: hex!(
            "d2865ee7bc6537c5da28edf988f41e797374a05e30851833375ec4cd61490fcd"
            "66ad968622040aa72b19664d0b36372ac598fbd8afc5f621163cea8885112700"
        ),
        amount: Amount::One,
        tick: 25_000_000,
        input_type: 1,
        id: "dkpkbaqownipydbxbednsbbtouqgzrqgpeugpnvxsftcpmgfdvekkibhuwgb",
        transaction: hex!(
            "5e28f26aac36267a09007515df657a1b8a1812a37fd67c72aaa77fdd1198b61a"
            "763248227dcf0a1ec162e5d44deba58db21d87880d72518fd1936ef356662800"
        ),
    },
    Vector {
        seed: "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabc",
        identity: "CZPGJVFHPHHSIAMUOALHMCYFQYJCJGNPOYLLDYMKIGYYQEMJJNFMQCBFAVBB",
        public: hex!("88b5035d1ba0860b1c26ae5a4a070a52f1596d10d816bad98862eb75f77f9fad"),
        digest: hex!("1a0c01a1b1a629f8c18715ee7dae561dc89d62984d754f98987b55ce0672537b"),
        signature: hex!(
            "25c4a4733300bed7495eddf6a651052bbee108bd9230ac37345b47f726c15e26"
            "e34ed1a46ea5b7348f21b36abaa8a3aea6d276be9bf1f3c342ddfb02e6eb2700"
        ),
        amount: Amount::Nothing,
        tick: 4_294_967_295,
        input_type: 65535,
        id: "rrwwnoyxjildmcobsfrbsoibnexflifppezfuxmngbxoezjfytvubjkckvkl",
        transaction: hex!(
            "bc97af69629029d909ca53280939362249aef1db28bbeff8c38719a31adbdf07"
            "f090b52d68b07b9f7b221586403105aa1524f43fd633c9c9ba040613744b1700"
        ),
    },
    Vector {
        seed: "xpkxfmzttweeefqxygcxdocsipoigkmpgkczbmkliiinqribmkuetrn",
        identity: "QLLZZHLCQAADDDBUQVDXHAZPLBBBDXVYEDIUBMKIAEALAGGJVCIYWPHETGBM",
        public: hex!("52304b201ab46c6b61ab2040cdb8d423ad55a5f657de288a4e247946849fcf93"),
        digest: hex!("95affcab850ab9654b3f755b1e7466ef1d8a33ca75b4f3f620619df7d85dc99e"),
        signature: hex!(
            "5318f02aa481038051e479d3805ece32287ccff53b5bdd332d95ef205af0aa0d"
            "dc2c95aca6b6704b4d4162c07a02aa5e18a0326e6df3520c6fe6ddeaf1b81800"
        ),
        amount: Amount::One,
        tick: 18_997_135,
        input_type: 777,
        id: "ustpmeosaiqjbajksrakjbmmuxgaccwenssfuktonfboceofwruoekzdbrdo",
        transaction: hex!(
            "2a432e5d165c8b07ce108348c1398f00ab28dfde87e820234b4a9a2c8ca8fe68"
            "c7e95dae4096128e3794ad83c16dd051d1584c04d045ec2f0c3732cf52202200"
        ),
    },
    Vector {
        seed: "raelzopdijymodyylitisiiunzuuqcrnceyvtwluyowqzdixgtaaapq",
        identity: "CRGLBUYDVCKUNDMSVTIEYOTMETJDBHACCWVRZNPSPAQTRDDINHVWVUKEXLIA",
        public: hex!("dcf46f0bdac08d79cc844f71e8c43174a7c86262c0fbcf14caa41058f0620998"),
        digest: hex!("bed6feb1a33733ebb10cc5fd0561f5d346c1e5ab29d29d4b36dc97bf2ef20687"),
        signature: hex!(
            "a44307b9e99edfa54f021d10f3cf37562777c8c914f7ad4d3206eac86866edd8"
            "54852992f2faf935b3869ba5203a1d352a7a7489e5c1fce73fa369aa644e1800"
        ),
        amount: Amount::Nothing,
        tick: 40_000_000,
        input_type: 42,
        id: "wuwfbjhyucnntcwszqzlcgmydjrbyusrawqhqfpekfrngnptxzazqxzbietf",
        transaction: hex!(
            "8130182a29b54b24c2f81ee9d572bd192db07e9c8b40dd0e24d83e03b4e94967"
            "9573969bcbfaebf9c65813a989537ee3b8424ec5939fec07bfc98026c2391300"
        ),
    },
];

#[test]
fn keys_identities_and_signatures_are_those_of_the_network() {
    for vector in VECTORS {
        let key = Key::from_seed(vector.seed.as_bytes()).unwrap();
        assert_eq!(key.identity(), Identity::from_bytes(vector.public));
        assert_eq!(key.identity().to_string(), vector.identity);
        assert_eq!(key.sign(&vector.digest), vector.signature);
        assert!(key.identity().has_signed(&vector.digest, &vector.signature));
    }
}

#[test]
fn transactions_and_their_ids_are_those_of_the_network() {
    for vector in VECTORS {
        let key = Key::from_seed(vector.seed.as_bytes()).unwrap();
        let transaction =
            Transaction::sign(&key, key.identity(), vector.amount, vector.tick, vector.input_type, vector.digest);
        assert_eq!(transaction.id(), vector.id);
        assert_eq!(transaction.to_bytes().len(), 184);
        assert!(transaction.to_bytes().ends_with(&vector.transaction));
        assert_eq!(Transaction::parse(&transaction.to_bytes()), Ok(transaction));
    }
}

/// Of inputs of as many zeros as are told; from 8192 on they are hashed as a tree.
#[test]
fn hashes_are_those_of_the_network() {
    for (length, hash) in [
        (0, hex!("1ac2d450fc3b4205d19da7bfca1b37513c0803577ac7167f06fe2ce1f0ef39e5")),
        (1, hex!("2bda92450e8b147f8a7cb629e784a058efca7cf7d8218e02d345dfaa65244a1f")),
        (32, hex!("235c3c067d94fb13b1dbd3ec5ab5c4587078c4f1442580b3f3a47687cb778089")),
        (167, hex!("80d83660bc0962f93db25ea5d68a61441fcbd9157035d7193c6d59945e7eac7c")),
        (168, hex!("7f287cdf536c1f7fff890e3fb1ad855a74c06b694b377823ddb0f3825147ce0e")),
        (169, hex!("d3d8ad29dfe6f68eae6ab70c8163b6921bf5e3e84c3c2c2eae2ec32c0a8b0c98")),
        (8191, hex!("4cee22fc71904a95e89cd51374723ff840d9daab978d88fb87f7ce1c969c57ab")),
        (8192, hex!("171f7513476a7c02fba459a5ea9bae8d63f0a5dde1d056699a3bb7362b061b61")),
        (8193, hex!("294a9d799e811f5f6a831cac13cc131b0fb8daca7ea8e783fe808363ac66399b")),
        (20000, hex!("494ba4254e84b53d794654bcf4bfd6d583fc544b16206753368b11d73c01bced")),
    ] {
        assert_eq!(k12::<32>(&[&vec![0; length]]), hash, "{length}");
    }
}
