//! The sequencer: the only one that gives entries their place, extends the tree and signs checkpoints.

use countersign_core::event::Event;
use countersign_core::tlog::{Checkpoint, CompactRange, SigningKey, Tile, Tiles, VerifyingKey, leaf, rotate};
use jiff::Timestamp;
use sqlx::PgConnection;

use super::read::unsigned;
use super::write::{LogEvent, append};
use crate::Store;
use crate::error::StoreError;
use crate::values::micros;

/// Held by whoever sequences, to the end of the transaction.
const LOCK: i64 = 0x636f_756e_7465_7273;

/// What one run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// How many entries were given their place.
    pub added: usize,
    /// What was signed: the tree that ends with them.
    pub checkpoint: Checkpoint,
}

/// With which checkpoints are signed. Where `next` is there, it follows `current` in the next run, for ever.
#[derive(Debug)]
pub struct LogKeys {
    /// The key that signs, until `next` has signed once.
    pub current: SigningKey,
    /// The key that follows; `None` where none is to.
    pub next: Option<SigningKey>,
}

impl Store {
    /// Puts up to `limit` pending entries in order and signs the tree that they make, in one transaction. `None`
    /// where nothing is pending, or another sequencer is at work.
    pub async fn sequence(&self, keys: &LogKeys, now: Timestamp, limit: i64) -> Result<Option<Sequenced>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let ours = sqlx::query_scalar!(r#"select pg_try_advisory_xact_lock($1) as "ours!""#, LOCK);
        if !ours.fetch_one(&mut *transaction).await? {
            // At once: one that is merely dropped holds the lock until the pool has looked at its connection.
            transaction.rollback().await?;
            return Ok(None);
        }
        let signer = signer(&mut transaction, keys).await?;
        let mut pending = pending(&mut transaction, limit).await?;
        let mut signs = Signs::One(signer);
        if let (Some(new), true) = (unused(keys, signer), i64::try_from(pending.len()).is_ok_and(|n| n < limit)) {
            rotate_to(&mut transaction, signer, new, now).await?;
            pending = self::pending(&mut transaction, limit).await?;
            signs = Signs::Both { old: signer, new };
        }
        if pending.is_empty() {
            transaction.rollback().await?;
            return Ok(None);
        }
        let mut tree = load(&mut transaction, signer).await?;
        let first = tree.size();
        let mut tiles = Tiles::new();
        let mut hashes = Vec::with_capacity(pending.len());
        for Pending { id: _, body } in &pending {
            let hash = leaf(body);
            tree.append(hash, |appended| tiles.entry(appended.tile()).or_default().push(appended.hash));
            hashes.push(hash.as_bytes().to_vec());
        }
        let checkpoint =
            Checkpoint { origin: signer.verifying_key().name().to_owned(), size: tree.size(), root: tree.root() };
        let entries: Vec<i64> = pending.iter().map(|entry| entry.id).collect();
        write(&mut transaction, number(first)?, &entries, &hashes, &tiles).await?;
        sign(&mut transaction, &checkpoint, &signs, now).await?;
        transaction.commit().await?;
        Ok(Some(Sequenced { added: entries.len(), checkpoint }))
    }

    /// Whether checkpoints are signed by this key from now on.
    pub async fn signs_with(&self, key: &VerifyingKey) -> Result<bool, StoreError> {
        Ok(self.log_keys().await?.contains(&key.to_string()))
    }
}

struct Pending {
    id: i64,
    body: Vec<u8>,
}

/// Who signs a checkpoint.
enum Signs<'a> {
    One(&'a SigningKey),
    /// The one in which the new key begins.
    Both {
        old: &'a SigningKey,
        new: &'a SigningKey,
    },
}

/// The key that signed last; of a log without checkpoints, the current one.
async fn signer<'a>(connection: &mut PgConnection, keys: &'a LogKeys) -> Result<&'a SigningKey, StoreError> {
    let known = sqlx::query_scalar!("select public from log_keys order by id").fetch_all(connection).await?;
    let is_known = |key: &&SigningKey| known.contains(&key.verifying_key().to_string());
    match keys.next.as_ref().filter(is_known).or(Some(&keys.current).filter(is_known)) {
        Some(key) => Ok(key),
        None if known.is_empty() => Ok(&keys.current),
        None => Err(altered(&format!(
            "it is signed by {} and the key at hand is {}; put the old one back, and have the new one follow it as next.ed25519.key",
            known.last().map_or("nobody", String::as_str),
            keys.current.verifying_key()
        ))),
    }
}

/// The next key, where it has not signed yet.
fn unused<'a>(keys: &'a LogKeys, signer: &SigningKey) -> Option<&'a SigningKey> {
    keys.next.as_ref().filter(|next| next.verifying_key() != signer.verifying_key())
}

async fn rotate_to(
    connection: &mut PgConnection,
    old: &SigningKey,
    new: &SigningKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    let note = rotate(old, new).map_err(|error| StoreError::Corrupt(format!("the log's next key: {error}").into()))?;
    let (old, new) = (old.verifying_key().to_string(), new.verifying_key().to_string());
    append(connection, None, &[LogEvent::event(&Event::RotateKey { old, new, note, at: now })?]).await
}

async fn pending(connection: &mut PgConnection, limit: i64) -> Result<Vec<Pending>, StoreError> {
    let pending = sqlx::query_as!(
        Pending,
        "select e.id, e.body from log_pending p join log_entries e on e.id = p.entry order by e.id limit $1",
        limit
    );
    Ok(pending.fetch_all(connection).await?)
}

async fn sign(
    connection: &mut PgConnection,
    checkpoint: &Checkpoint,
    signs: &Signs<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (note, newest) = match signs {
        Signs::One(key) => (checkpoint.sign(key), key),
        Signs::Both { old, new } => (checkpoint.sign_with_both(old, new), new),
    };
    sqlx::query!(
        "insert into log_checkpoints (size, root, note, at) values ($1, $2, $3, to_timestamp($4::bigint / 1000000.0))",
        number(checkpoint.size)?,
        checkpoint.root.as_bytes(),
        note,
        micros(now)
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into log_keys (public, since) values ($1, to_timestamp($2::bigint / 1000000.0)) on conflict do nothing",
        newest.verifying_key().to_string(),
        micros(now)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The tree as it stands. One that is not the tree of the last checkpoint is never signed.
async fn load(connection: &mut PgConnection, key: &SigningKey) -> Result<CompactRange, StoreError> {
    let last = sqlx::query!("select size, root, note from log_checkpoints order by size desc limit 1");
    let Some(last) = last.fetch_optional(&mut *connection).await? else {
        let leaves = sqlx::query_scalar!(r#"select count(*) as "count!" from log_leaves"#);
        if leaves.fetch_one(connection).await? != 0 {
            return Err(altered("it has leaves and no checkpoint"));
        }
        return Ok(CompactRange::default());
    };
    let size = unsigned(last.size)?;
    let signed = Checkpoint::open(&last.note, &key.verifying_key())
        .map_err(|error| altered(&format!("the checkpoint of size {size} does not hold: {error}")))?;
    let mut edge = read_tiles(connection, &Tile::edge(size).collect::<Vec<_>>()).await?;
    let Ok(tree) = CompactRange::from_tiles(&mut edge, size);
    let tree = tree.ok_or_else(|| altered("a tile at its edge is missing"))?;
    if signed.size != size || tree.root() != signed.root || last.root != signed.root.as_bytes() {
        return Err(altered(&format!("its tiles do not lead to the root that was signed at size {size}")));
    }
    Ok(tree)
}

fn altered(how: &str) -> StoreError {
    StoreError::Corrupt(format!("the log was altered: {how}; nothing more is signed").into())
}

/// Those of the tiles that are there.
pub(super) async fn read_tiles(connection: &mut PgConnection, tiles: &[Tile]) -> Result<Tiles, StoreError> {
    let levels: Vec<i16> = tiles.iter().map(|tile| i16::from(tile.level)).collect();
    let indexes = tiles.iter().map(|tile| number(tile.index)).collect::<Result<Vec<i64>, _>>()?;
    let rows = sqlx::query!(
        r#"select t.level, t.index, t.hashes from log_tiles t
           join unnest($1::smallint[], $2::bigint[]) as wanted (level, index)
             on wanted.level = t.level and wanted.index = t.index"#,
        &levels,
        &indexes
    );
    let mut read = Tiles::new();
    for row in rows.fetch_all(connection).await? {
        let level = u8::try_from(row.level).map_err(|error| StoreError::Corrupt(error.into()))?;
        let tile = Tile { level, index: unsigned(row.index)? };
        let hashes = Tile::decode(&row.hashes);
        let cut = || StoreError::Corrupt(format!("tile {level}/{}: its last hash is cut off", tile.index).into());
        read.insert(tile, hashes.ok_or_else(cut)?);
    }
    Ok(read)
}

async fn write(
    connection: &mut PgConnection,
    first: i64,
    entries: &[i64],
    hashes: &[Vec<u8>],
    tiles: &Tiles,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into log_leaves (index, entry, hash)
         select $1 + l.n - 1, l.entry, l.hash from unnest($2::bigint[], $3::bytea[]) with ordinality as l (entry, hash, n)",
        first,
        entries,
        hashes
    )
    .execute(&mut *connection)
    .await?;
    let levels: Vec<i16> = tiles.keys().map(|tile| i16::from(tile.level)).collect();
    let indexes = tiles.keys().map(|tile| number(tile.index)).collect::<Result<Vec<i64>, _>>()?;
    let added: Vec<Vec<u8>> = tiles.values().map(|hashes| Tile::encode(hashes)).collect();
    sqlx::query!(
        "insert into log_tiles (level, index, hashes)
         select * from unnest($1::smallint[], $2::bigint[], $3::bytea[])
         on conflict (level, index) do update set hashes = log_tiles.hashes || excluded.hashes",
        &levels,
        &indexes,
        &added
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from log_pending where entry = any($1)", entries).execute(connection).await?;
    Ok(())
}

pub(super) fn number(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|error| StoreError::Corrupt(error.into()))
}
