//! Two roles in PostgreSQL: the owner brings the schema up to date; the operator itself can read and add, and change
//! only what a Task's life changes.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use url::Url;

use crate::Store;
use crate::error::StoreError;

/// What the operator may do, besides reading everything. Whatever is not here only the owner can do: change or delete
/// an entry, a leaf, a checkpoint, a signature; change what an attempt ran or an Approval was for.
const GRANTS: [&str; 10] = [
    "grant usage on schema public to {role}",
    "grant select on all tables in schema public to {role}",
    "grant insert on tasks, plans, steps, approvals, signatures, attempts, outputs, log_entries, log_payloads,
        log_pending, log_leaves, log_tiles, log_checkpoints, log_keys, configurations to {role}",
    "grant update (version, ending_cause, ending_at, outcome, reason, message, finished_at) on tasks to {role}",
    "grant update (outcome, reason, message, not_before, output_digest, output_bytes, finished_at) on steps to {role}",
    "grant update (state, changed) on approvals to {role}",
    "grant update (pod_uid, admitted_at, outcome, message, finished_at) on attempts to {role}",
    // A tile may only grow, which its trigger sees to.
    "grant update (hashes) on log_tiles to {role}",
    "grant delete on log_pending to {role}",
    "grant update, delete on configurations to {role}",
];

/// Held while rights are given.
const LOCK: i64 = 0x726f_6c65;

/// How the operator's role stands to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// It can read and add.
    AddOnly,
    /// It could also change what was recorded.
    Everything,
}

impl Store {
    /// Lets the role of the operator's URL work with a schema that another role owns; makes the role where there is
    /// none. The two being one is allowed, and then PostgreSQL itself keeps nothing from being changed.
    pub async fn grant(&self, operator_url: &str) -> Result<Rights, StoreError> {
        let operator: PgConnectOptions = operator_url.parse()?;
        let role = operator.get_username().to_owned();
        let mut transaction = self.pool.begin().await?;
        let ours = sqlx::query_scalar!(r#"select session_user::text as "name!""#).fetch_one(&mut *transaction).await?;
        if ours == role {
            return Ok(Rights::Everything);
        }
        // Replicas come one after the other: PostgreSQL refuses two grants on one table at once.
        sqlx::query!("select pg_advisory_xact_lock($1)", LOCK).execute(&mut *transaction).await?;
        make(&mut transaction, &role, operator_url).await?;
        let quoted = sqlx::query_scalar!(r#"select quote_ident($1) as "role!""#, role);
        let quoted = quoted.fetch_one(&mut *transaction).await?;
        for grant in GRANTS {
            transaction.execute(AssertSqlSafe(grant.replace("{role}", &quoted))).await?;
        }
        transaction.commit().await?;
        Ok(Rights::AddOnly)
    }

    /// The role of this store.
    pub async fn user(&self) -> Result<String, StoreError> {
        Ok(sqlx::query_scalar!(r#"select session_user::text as "name!""#).fetch_one(&self.pool).await?)
    }

    /// What the role of this store could do to the log.
    pub async fn rights(&self) -> Result<Rights, StoreError> {
        let may = sqlx::query_scalar!(
            r#"select bool_or(has_table_privilege(t, 'delete') or has_table_privilege(t, 'update')
                              or has_table_privilege(t, 'truncate')) as "may!"
               from unnest(array['log_entries', 'log_leaves', 'log_checkpoints', 'signatures']) as t"#
        );
        Ok(if may.fetch_one(&self.pool).await? { Rights::Everything } else { Rights::AddOnly })
    }
}

/// The role, with the password of its URL, where it does not exist yet.
async fn make(connection: &mut PgConnection, role: &str, operator_url: &str) -> Result<(), StoreError> {
    let exists = sqlx::query_scalar!(r#"select exists (select from pg_roles where rolname = $1) as "is!""#, role);
    if exists.fetch_one(&mut *connection).await? {
        return Ok(());
    }
    let url = Url::parse(operator_url).map_err(|error| StoreError::Corrupt(format!("the operator's URL: {error}")))?;
    let password = url.password().map(|password| percent_encoding::percent_decode_str(password).decode_utf8_lossy());
    let statement = sqlx::query_scalar!(
        r#"select format('create role %I login password %L', $1::text, $2::text) as "statement!""#,
        role,
        password.as_deref()
    );
    let statement = statement.fetch_one(&mut *connection).await?;
    connection.execute(AssertSqlSafe(statement)).await.map_err(|error| {
        StoreError::Corrupt(format!(
            "the role {role} does not exist and cannot be made ({error}); as a superuser: create role {role} login password '…'"
        ))
    })?;
    Ok(())
}
