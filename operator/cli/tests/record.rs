//! Exports of a real PostgreSQL: what somebody with every right there altered is found by whoever verifies.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../store/tests/store/database.rs"]
#[allow(dead_code, reason = "the store's own tests use all of it")]
mod database;
#[path = "../../store/tests/store/story.rs"]
#[allow(dead_code, reason = "not all stories are told here")]
mod story;

use std::path::Path;
use std::process::{Command, Stdio};

use countersign_core::tlog::{Checkpoint, SigningKey};
use countersign_store::{LogKeys, Store};
use tempfile::TempDir;

use crate::database::{Database, open};

fn key(secret: u8) -> SigningKey {
    SigningKey::new("countersign.test/log", [secret; 32]).unwrap()
}

/// Whether it went well, and all that it printed.
fn countersign(database: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-countersign"))
        .args(arguments)
        .env("COUNTERSIGN_DATABASE_URL", database)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn done(database: &str, arguments: &[&str]) -> String {
    let (well, said) = countersign(database, arguments);
    assert!(well, "{arguments:?}: {said}");
    said
}

struct Log {
    url: String,
    store: Store,
    folder: TempDir,
}

impl Log {
    /// A log that tells of one Task and of some 300 other things.
    async fn new(database: &Database) -> Log {
        let url = database.empty().await;
        let log = Log { store: open(url.clone()), url, folder: tempfile::tempdir().unwrap() };
        log.store.migrate().await.unwrap();
        log.tell(300).await;
        log
    }

    async fn tell(&self, others: usize) {
        let named = story::all().into_iter().find(|story| story.name == "rejected").unwrap();
        let mut seen = self.store.version(story::UID).await.unwrap();
        if seen.is_none() {
            for changes in &named.batches {
                seen = Some(self.store.commit(story::UID, seen, changes).await.unwrap());
            }
        }
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        for n in 0..others {
            let lead = countersign_core::event::Event::Lead {
                replica: format!("r{n}"),
                version: "1".into(),
                runner_image: "i".into(),
                at: now,
            };
            self.store.tell(None, &lead).await.unwrap();
        }
        self.sequence().await;
    }

    async fn sequence(&self) {
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let keys = LogKeys { current: key(7), next: None };
        while self.store.sequence(&keys, now, 100).await.unwrap().is_some() {}
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Exports it whole and verifies that with the key that is trusted.
    fn verified(&self, name: &str) -> (bool, String) {
        let trusted = self.path("trusted.key");
        std::fs::write(&trusted, key(7).verifying_key().to_string()).unwrap();
        let (well, said) = countersign(&self.url, &["export", "--all", "-o", &self.path(name)]);
        if !well {
            return (false, said);
        }
        countersign(&self.url, &["verify", &self.path(name), "--key", &trusted])
    }
}

#[tokio::test]
async fn a_row_that_a_superuser_altered_is_found_by_whoever_verifies() {
    let database = Database::new().await;
    let log = Log::new(&database).await;
    let (holds, said) = log.verified("untouched");
    assert!(holds, "{said}");
    // The place of the altered entry, where one can be blamed, and what was done.
    let other = "(select body from log_entries where id = 9)";
    let cases = [
        (Some(4), "update log_entries set body = set_byte(body, 20, get_byte(body, 20) # 1) where id = 5"),
        (Some(4), &format!("update log_entries set body = {other} where id = 5")),
        (Some(6), "update log_payloads set body = set_byte(body, 20, get_byte(body, 20) # 1) where entry = 7"),
        (
            Some(2),
            "update log_leaves l set entry = 3 + 4 - l.entry, hash = (select hash from log_leaves o where o.entry = 3 + 4 - l.entry) where entry in (3, 4)",
        ),
        (Some(5), "delete from log_leaves where index = 5"),
        (Some(300), "delete from log_leaves where index >= 300"),
        (Some(6), "delete from log_payloads where entry = 7"),
        (
            None,
            "update log_checkpoints set note = replace(note, 'countersign', 'countersigm') where size = (select max(size) from log_checkpoints)",
        ),
        (
            None,
            "update log_checkpoints set note = (select note from log_checkpoints where size = 100) where size = (select max(size) from log_checkpoints)",
        ),
        (None, "update log_tiles set hashes = sha256('x') || substring(hashes from 33) where level = 0 and index = 0"),
    ];
    let tables = ["log_entries", "log_payloads", "log_leaves", "log_tiles", "log_checkpoints"];
    for table in tables {
        database.execute(&log.store, &format!("create table kept_{table} as select * from {table}")).await.unwrap();
        database.execute(&log.store, &format!("alter table {table} disable trigger user")).await.unwrap();
    }
    database.execute(&log.store, "alter table log_leaves drop constraint log_leaves_entry_key").await.unwrap();
    for (n, (index, alteration)) in cases.iter().enumerate() {
        database.execute(&log.store, alteration).await.unwrap();
        let (holds, said) = log.verified(&format!("altered-{n}"));
        assert!(!holds, "{alteration}: {said}");
        if let Some(index) = index {
            assert!(said.contains(&format!("entry {index}:")), "{alteration}: {said}");
        }
        // As it was.
        for table in tables {
            let key = match table {
                "log_entries" => "id",
                "log_payloads" => "entry",
                "log_leaves" => "index",
                "log_tiles" => "(level, index)",
                _ => "size",
            };
            let put_back = match table {
                "log_entries" => {
                    "update log_entries t set body = k.body from kept_log_entries k where k.id = t.id".to_owned()
                }
                _ => format!("with gone as (delete from {table} returning 1) select count(*) from gone"),
            };
            database.execute(&log.store, &put_back).await.unwrap();
            if table != "log_entries" {
                let again = format!("insert into {table} select * from kept_{table} order by {key}");
                database.execute(&log.store, &again).await.unwrap();
            }
        }
        let (holds, said) = log.verified(&format!("put-back-{n}"));
        assert!(holds, "{said}");
    }
}

#[tokio::test]
async fn a_backup_that_was_restored_is_a_rollback_for_whoever_kept_a_checkpoint() {
    let database = Database::new().await;
    let log = Log::new(&database).await;
    let name = log.url.rsplit_once('/').unwrap().1.to_owned();
    let elsewhere = open(database.empty().await);
    log.store.close().await;
    database.execute(&elsewhere, &format!("drop database if exists {name}_backup")).await.unwrap();
    database.execute(&elsewhere, &format!("create database {name}_backup template {name}")).await.unwrap();
    let log = Log { store: open(log.url.clone()), ..log };
    log.tell(50).await;
    done(&log.url, &["export", "--all", "-o", &log.path("kept")]);
    let kept = log.path("kept/checkpoint");
    let size = std::fs::read_to_string(&kept).unwrap().lines().nth(1).unwrap().to_owned();
    // The backup takes its place: first as it was, then going on with another history.
    let restored =
        Log { url: format!("{}_backup", log.url), store: open(format!("{}_backup", log.url)), folder: log.folder };
    done(&restored.url, &["export", "--all", "-o", &restored.path("restored")]);
    assert!(
        done(&restored.url, &["verify", &restored.path("restored")]).contains("nothing else"),
        "in itself it holds"
    );
    let (consistent, said) = countersign(&restored.url, &["consistency", &kept, &restored.path("restored")]);
    assert!(!consistent && said.contains(&format!("rolled back: it had {size} entries and now has 3")), "{said}");
    restored.tell(200).await;
    done(&restored.url, &["export", "--all", "-o", &restored.path("later")]);
    let (consistent, said) = countersign(&restored.url, &["consistency", &kept, &restored.path("later")]);
    assert!(
        !consistent
            && said.contains(&format!("rewritten: its first {size} entries are not those that were signed before")),
        "{said}"
    );
    restored.store.close().await;
    database.execute(&elsewhere, &format!("drop database {name}_backup with (force)")).await.unwrap();
}

#[tokio::test]
async fn what_is_erased_is_gone_and_its_proofs_are_not() {
    let database = Database::new().await;
    let log = Log::new(&database).await;
    let (well, said) = countersign(&log.url, &["erase", story::UID, "--reason", " ", "--yes"]);
    assert!(!well && said.contains("--reason: say why"), "{said}");
    let (well, said) = countersign(&log.url, &["erase", story::UID, "--reason", "asked for", "-n", "ns"]);
    assert!(!well && said.contains("there is nobody to ask"), "{said}");
    let (well, said) = countersign(&log.url, &["erase", "nothing", "--reason", "asked for", "--yes"]);
    assert!(!well && said.contains("no Task of the name or uid \"nothing\""), "{said}");
    let said = done(&log.url, &["erase", story::UID, "--reason", "Article 17, case 12", "--yes"]);
    assert!(said.contains("The payloads of"), "{said}");
    log.sequence().await;
    let (holds, said) = log.verified("erased");
    assert!(holds && !said.contains(" 0 were erased"), "{said}");
    let story = done(&log.url, &["audit", story::UID]);
    assert!(story.contains("(erased)") && story.contains("Article 17, case 12"), "{story}");
    // Nothing that it was given is left in any table; who signed, when and why is.
    let text = database
        .scalar(
            &log.store,
            "select count(*) from tasks t, plans p, approvals a where t.uid = p.task_uid and a.task_uid = t.uid
             and (t.spec::text || p.parameters::text || p.steps::text || a.covers::text) ~ '9007199254740991'",
        )
        .await;
    assert_eq!(text, 0);
    assert!(log.store.load(story::UID).await.unwrap().is_some(), "its record still reads");
    // A Task that is at work keeps what it needs.
    let busy = Log::new(&database).await;
    database
        .execute(&busy.store, "update tasks set outcome = null, reason = null, message = null, finished_at = null")
        .await
        .unwrap();
    let (well, said) = countersign(&busy.url, &["erase", story::UID, "--reason", "asked for", "--yes"]);
    assert!(!well && said.contains("the Task is not finished; nothing was erased"), "{said}");
}

#[tokio::test]
async fn a_key_that_was_rotated_signs_no_export_that_holds() {
    let database = Database::new().await;
    let log = Log::new(&database).await;
    let keys = LogKeys { current: key(7), next: Some(key(8)) };
    log.store.sequence(&keys, "2026-11-21T00:00:00Z".parse().unwrap(), 100).await.unwrap();
    let (holds, said) = log.verified("honest");
    assert!(holds && said.contains("over 1 rotations"), "{said}");
    let folder = Path::new(&log.path("honest")).to_owned();
    let note = std::fs::read_to_string(folder.join("checkpoint")).unwrap();
    let retired = Checkpoint::claimed(&note).unwrap().sign(&key(7));
    std::fs::write(folder.join("checkpoint"), retired).unwrap();
    for hidden in [false, true] {
        if hidden {
            std::fs::remove_file(folder.join("rotations.jsonl")).unwrap();
        }
        for trusted in [&[][..], &["--key", &log.path("trusted.key")]] {
            let arguments = [&["verify", folder.to_str().unwrap()], trusted].concat();
            let (holds, said) = countersign(&log.url, &arguments);
            assert!(!holds && said.contains("retired"), "{arguments:?}: {said}");
        }
    }
}

#[tokio::test]
async fn one_tasks_export_under_a_retired_key_is_refused_where_that_key_was_to_be_trusted() {
    let database = Database::new().await;
    let log = Log::new(&database).await;
    let keys = LogKeys { current: key(7), next: Some(key(8)) };
    log.store.sequence(&keys, "2026-11-21T00:00:00Z".parse().unwrap(), 100).await.unwrap();
    let folder = log.path("task");
    done(&log.url, &["export", "--task", story::UID, "-n", "ns", "-o", &folder]);
    let [old, new] = [7, 8].map(|secret| {
        let file = log.path(&format!("{secret}.key"));
        std::fs::write(&file, key(secret).verifying_key().to_string()).unwrap();
        file
    });
    let said = done(&log.url, &["verify", &folder, "--key", &new, "--key-is-current"]);
    assert!(said.contains("stands in it at its place"), "{said}");
    let (holds, said) = countersign(&log.url, &["verify", &folder, "--key", &old, "--key-is-current"]);
    assert!(!holds && said.contains("another key signs now"), "{said}");
    let checkpoint = Path::new(&folder).join("checkpoint");
    let note = std::fs::read_to_string(&checkpoint).unwrap();
    std::fs::write(&checkpoint, Checkpoint::claimed(&note).unwrap().sign(&key(7))).unwrap();
    let (holds, said) = countersign(&log.url, &["verify", &folder, "--key", &old]);
    assert!(!holds && said.contains("retired"), "{said}");
    std::fs::remove_file(Path::new(&folder).join("rotations.jsonl")).unwrap();
    let (holds, said) = countersign(&log.url, &["verify", &folder, "--key", &old]);
    assert!(!holds && said.starts_with("Not proved: cannot tell whether this key was rotated"), "{said}");
    let (holds, said) = countersign(&log.url, &["verify", &folder, "--key", &old, "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert!(!holds && document["verdict"] == "refused", "{said}");
    std::fs::write(&checkpoint, note.replacen("countersign", "countersigm", 1)).unwrap();
    let (holds, said) = countersign(&log.url, &["verify", &folder, "--key", &old, "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert!(!holds && document["verdict"] == "refused" && document["error"].is_string(), "{said}");
}

#[tokio::test]
async fn an_export_of_nothing_new_says_so_and_what_was_not_asked_comes_first() {
    let database = Database::new().await;
    let log = Log::new(&database).await;
    done(&log.url, &["export", "--since", "2030-01-01T00:00:00Z", "-o", &log.path("later")]);
    let said = done(&log.url, &["verify", &log.path("later")]);
    assert!(said.contains("nothing was logged from entry 3"), "{said}");
    let first = said.lines().next().unwrap();
    assert!(first.starts_with("Not checked: whose log it is, as its key came with the export"), "{said}");
    assert!(first.contains("whether others are shown the same log") && first.contains("--policy FILE"), "{said}");
}

#[tokio::test]
async fn a_role_that_may_only_read_is_enough_and_is_said() {
    let database = Database::new().await;
    let log = Log::new(&database).await;
    for statement in [
        "do $$ begin
             if not exists (select from pg_roles where rolname = 'countersign_test_reader') then
                 create role countersign_test_reader login password 'reader';
             end if;
         end $$",
        "grant select on all tables in schema public to countersign_test_reader",
    ] {
        database.execute(&log.store, statement).await.unwrap();
    }
    let (_, server) = log.url.split_once('@').unwrap();
    let reader = format!("postgres://countersign_test_reader:reader@{server}");
    let said = done(&reader, &["export", "--since", "2026-11-21T05:06:12Z", "-o", &log.path("since")]);
    assert!(said.contains("postgresql:countersign_test_reader may only read"), "{said}");
    let proved = done(&reader, &["verify", &log.path("since")]);
    assert!(proved.contains("all of its entries from 4 on"), "{proved}");
    assert!(Path::new(&log.path("since/entries.jsonl")).exists());
    let (well, said) = countersign(&reader, &["erase", story::UID, "--reason", "no right", "--yes"]);
    assert!(!well && said.contains("permission denied"), "{said}");
    for (arguments, why) in [
        (vec!["export", "--all", "--since", "2026-01-01T00:00:00Z", "-o", "x"], "cannot be used with"),
        (vec!["export", "-o", "x"], "required"),
        (vec!["export", "--since", "yesterday", "-o", "x"], "--since"),
        (vec!["audit", "t", "--server", "https://localhost:1"], "cannot be used with"),
    ] {
        let (well, said) = countersign(&reader, &arguments);
        assert!(!well && said.contains(why), "{arguments:?}: {said}");
    }
}
