//! Reads the log back: entries with their place, checkpoints, keys, and what proofs are made of.

use countersign_core::event::Selection;
use countersign_core::tlog::entry::TaskName;
use countersign_core::tlog::{Hash, Line, Tile, TileStore, Tiles, consistency, inclusion};
use jiff::Timestamp;
use sqlx::PgConnection;

use super::sequence::{number, read_tiles};
use crate::Store;
use crate::error::StoreError;
use crate::values::micros;

/// What an export is made of, and against which checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// As it was signed, with the cosignatures that there are.
    pub checkpoint: String,
    /// How many entries the checkpoint is of.
    pub size: u64,
    /// The public keys that signed, the first one first.
    pub keys: Vec<String>,
    /// The entries that tell of another key, each with its proof.
    pub rotations: Vec<Line>,
    /// Which entries are exported.
    pub selection: Selection,
    /// Where it begins.
    pub from: u64,
}

struct Row {
    index: i64,
    body: Vec<u8>,
    payload: Option<Vec<u8>>,
}

impl Store {
    /// The newest checkpoint, with the cosignatures that there are: size and note.
    pub async fn checkpoint(&self) -> Result<Option<(u64, String)>, StoreError> {
        self.cosigned_checkpoint(0).await
    }

    /// The public keys that signed, as text, the first one first.
    pub async fn log_keys(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar!("select public from log_keys order by id").fetch_all(&self.pool).await?)
    }

    /// The newest Task of that name in the namespace, or the one of that uid.
    pub async fn find_task(&self, namespace: &str, name_or_uid: &str) -> Result<Option<TaskName>, StoreError> {
        let task = sqlx::query_as!(
            TaskName,
            "select namespace, name, uid from tasks where uid = $2 or (namespace = $1 and name = $2)
             order by adopted_at desc limit 1",
            namespace,
            name_or_uid
        );
        Ok(task.fetch_optional(&self.pool).await?)
    }

    /// Up to `limit` entries below `size`, from index `from` on, in the log's order and without proofs.
    pub async fn log_entries(
        &self,
        selection: &Selection,
        from: u64,
        size: u64,
        limit: i64,
    ) -> Result<Vec<Line>, StoreError> {
        let (from, task) = match selection {
            Selection::All => (from, None),
            Selection::From(first) => (from.max(*first), None),
            Selection::Task(uid) => (from, Some(uid)),
        };
        let (from, size) = (number(from)?, number(size)?);
        let rows = match task {
            None => {
                let rows = sqlx::query_as!(
                    Row,
                    r#"select l.index, e.body, p.body as "payload?" from log_leaves l
                       join log_entries e on e.id = l.entry left join log_payloads p on p.entry = e.id
                       where l.index >= $1 and l.index < $2 order by l.index limit $3"#,
                    from,
                    size,
                    limit
                );
                rows.fetch_all(&self.pool).await?
            }
            Some(uid) => {
                let rows = sqlx::query_as!(
                    Row,
                    r#"select l.index, e.body, p.body as "payload?" from log_entries e
                       join log_leaves l on l.entry = e.id left join log_payloads p on p.entry = e.id
                       where e.task_uid = $4 and l.index >= $1 and l.index < $2 order by l.index limit $3"#,
                    from,
                    size,
                    limit,
                    uid
                );
                rows.fetch_all(&self.pool).await?
            }
        };
        rows.into_iter().map(Line::try_from).collect()
    }

    /// What an export of a Task, or of everything since then, is made of, as of the newest checkpoint that so many
    /// `witnesses` have cosigned; `None` where there is no such checkpoint. It stays what it is while the log goes on.
    pub async fn snapshot(
        &self,
        task: Option<&TaskName>,
        since: Option<Timestamp>,
        witnesses: u32,
    ) -> Result<Option<Snapshot>, StoreError> {
        let Some((size, checkpoint)) = self.cosigned_checkpoint(witnesses).await? else { return Ok(None) };
        let (selection, from) = match (task, since) {
            (Some(task), _) => (Selection::Task(task.uid.clone()), 0),
            (None, None) => (Selection::All, 0),
            (None, Some(since)) => {
                let from = self.index_since(since, size).await?;
                (Selection::From(from), from)
            }
        };
        let mut rotations = self.rotations(size).await?;
        self.prove(&mut rotations, size).await?;
        let keys = self.log_keys().await?;
        Ok(Some(Snapshot { checkpoint, size, keys, rotations, selection, from }))
    }

    async fn rotations(&self, size: u64) -> Result<Vec<Line>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"select l.index, e.body, p.body as "payload?" from log_entries e
               join log_leaves l on l.entry = e.id left join log_payloads p on p.entry = e.id
               where e.task_uid is null and e.kind = 'rotateKey' and l.index < $1 order by l.index"#,
            number(size)?
        );
        rows.fetch_all(&self.pool).await?.into_iter().map(Line::try_from).collect()
    }

    /// The place from which on nothing is older than `at`; the log's size where everything is.
    pub async fn index_since(&self, at: Timestamp, size: u64) -> Result<u64, StoreError> {
        // A clock that went back leaves older entries behind newer ones; the first that is new enough counts.
        let index = sqlx::query_scalar!(
            "select min(l.index) from log_entries e join log_leaves l on l.entry = e.id
             where e.at >= to_timestamp($1::bigint / 1000000.0)",
            micros(at)
        );
        index.fetch_one(&self.pool).await?.map_or(Ok(size), unsigned)
    }

    /// Gives each entry its proof that it is in the tree of `size`.
    pub async fn prove(&self, lines: &mut [Line], size: u64) -> Result<(), StoreError> {
        let indexes: Vec<u64> = lines.iter().map(|line| line.index).collect();
        let proofs = self.inclusion_proofs(&indexes, size).await?;
        lines.iter_mut().zip(proofs).for_each(|(line, proof)| line.proof = Some(proof));
        Ok(())
    }

    /// A proof for each place; tiles are read once for all of them.
    pub async fn inclusion_proofs(&self, indexes: &[u64], size: u64) -> Result<Vec<Vec<Hash>>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut asked = Asked::default();
        // The proofs say themselves which tiles they take.
        loop {
            let made: Result<Vec<_>, _> = indexes.iter().map(|index| inclusion(&mut asked, *index, size)).collect();
            match made {
                Ok(proofs) if asked.missing.is_empty() => return Ok(proofs),
                Err(error) if asked.missing.is_empty() => return Err(StoreError::Corrupt(error.into())),
                Ok(_) | Err(_) => {
                    // Each of them may lack its own.
                    for index in indexes {
                        let _ = inclusion(&mut asked, *index, size);
                    }
                    asked.fetch(&mut connection).await?;
                }
            }
        }
    }

    /// The proof that the tree of `old` entries is the beginning of that of `new`.
    pub async fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut asked = Asked::default();
        loop {
            match consistency(&mut asked, old, new) {
                Ok(proof) if asked.missing.is_empty() => return Ok(proof),
                Err(error) if asked.missing.is_empty() => return Err(StoreError::Corrupt(error.into())),
                Ok(_) | Err(_) => asked.fetch(&mut connection).await?,
            }
        }
    }

    /// The hashes of a tile, as many as there are.
    pub async fn log_tile(&self, tile: Tile) -> Result<Vec<Hash>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(read_tiles(&mut connection, &[tile]).await?.remove(&tile).unwrap_or_default())
    }
}

/// Tiles that are known, and those that were asked for and are not.
#[derive(Default)]
struct Asked {
    known: Tiles,
    missing: Vec<Tile>,
}

impl TileStore for Asked {
    type Error = std::convert::Infallible;
    fn tile(&mut self, tile: Tile) -> Result<Vec<Hash>, Self::Error> {
        if !self.known.contains_key(&tile) {
            self.missing.push(tile);
        }
        self.known.tile(tile)
    }
}

impl Asked {
    async fn fetch(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let mut missing = std::mem::take(&mut self.missing);
        missing.sort();
        missing.dedup();
        self.known.extend(read_tiles(connection, &missing).await?);
        for tile in missing {
            // One that is not there is known to be empty, and is not asked for again.
            self.known.entry(tile).or_default();
        }
        Ok(())
    }
}

impl TryFrom<Row> for Line {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Line, StoreError> {
        let Row { index, body, payload } = row;
        Ok(Line { index: unsigned(index)?, body, payload, proof: None })
    }
}

pub(crate) fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|error| StoreError::Corrupt(error.into()))
}
