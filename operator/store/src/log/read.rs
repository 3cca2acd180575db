//! Reads the log back: entries with their place, the checkpoint, and what proofs are made of.

use countersign_core::tlog::{Hash, Tile, TileStore, inclusion};
use sqlx::PgConnection;

use super::sequence::{KnownTiles, number, read_tiles};
use crate::Store;
use crate::error::StoreError;

/// Which entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    All,
    /// Of one Task, by its uid.
    Task(String),
}

/// An entry that has its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub body: Vec<u8>,
    /// `None` where it was erased.
    pub payload: Option<Vec<u8>>,
}

impl Store {
    /// The newest checkpoint, as it was signed: size and note.
    pub async fn checkpoint(&self) -> Result<Option<(u64, String)>, StoreError> {
        let row = sqlx::query!("select size, note from log_checkpoints order by size desc limit 1");
        let row = row.fetch_optional(&self.pool).await?;
        row.map(|row| Ok((unsigned(row.size)?, row.note))).transpose()
    }

    /// The public key that signed last, as text.
    pub async fn log_key(&self) -> Result<Option<String>, StoreError> {
        let key = sqlx::query_scalar!("select public from log_keys order by since desc limit 1");
        Ok(key.fetch_optional(&self.pool).await?)
    }

    /// The uid of the newest Task of a name, or of the Task whose uid that is.
    pub async fn find_task(&self, namespace: &str, name_or_uid: &str) -> Result<Option<String>, StoreError> {
        let uid = sqlx::query_scalar!(
            "select uid from tasks where uid = $2 or (namespace = $1 and name = $2) order by adopted_at desc limit 1",
            namespace,
            name_or_uid
        );
        Ok(uid.fetch_optional(&self.pool).await?)
    }

    /// Up to `limit` entries below `size`, from index `from` on, in the log's order.
    pub async fn log_entries(
        &self,
        selection: &Selection,
        from: u64,
        size: u64,
        limit: i64,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let task = match selection {
            Selection::All => None,
            Selection::Task(uid) => Some(uid.as_str()),
        };
        let rows = sqlx::query!(
            r#"select l.index, e.body, p.body as "payload?" from log_leaves l
               join log_entries e on e.id = l.entry left join log_payloads p on p.entry = e.id
               where l.index >= $1 and l.index < $2 and ($3::text is null or e.task_uid = $3)
               order by l.index limit $4"#,
            number(from)?,
            number(size)?,
            task,
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?;
        rows.into_iter()
            .map(|row| Ok(LogEntry { index: unsigned(row.index)?, body: row.body, payload: row.payload }))
            .collect()
    }

    /// The proof that the entry at `index` is in the tree of `size`.
    pub async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut asked = Asked::default();
        // The proof says itself which tiles it takes.
        loop {
            match inclusion(&mut asked, index, size) {
                Ok(proof) => return Ok(proof),
                Err(error) if asked.missing.is_empty() => return Err(StoreError::Corrupt(error.to_string())),
                Err(_) => asked.fetch(&mut connection).await?,
            }
        }
    }

    /// The hashes of a tile, as many as there are.
    pub async fn log_tile(&self, tile: Tile) -> Result<Vec<Hash>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut known = KnownTiles::default();
        read_tiles(&mut connection, &[tile], &mut known).await?;
        Ok(known.0.remove(&tile).unwrap_or_default())
    }
}

/// Tiles that are known, and those that were asked for and are not.
#[derive(Default)]
struct Asked {
    known: KnownTiles,
    missing: Vec<Tile>,
}

impl TileStore for Asked {
    type Error = std::convert::Infallible;
    fn tile(&mut self, tile: Tile) -> Result<Vec<Hash>, Self::Error> {
        if !self.known.0.contains_key(&tile) {
            self.missing.push(tile);
        }
        self.known.tile(tile)
    }
}

impl Asked {
    async fn fetch(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let missing = std::mem::take(&mut self.missing);
        read_tiles(connection, &missing, &mut self.known).await?;
        for tile in missing {
            // One that is not there is known to be empty, and is not asked for again.
            self.known.0.entry(tile).or_default();
        }
        Ok(())
    }
}

fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}
