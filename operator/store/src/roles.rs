//! Four roles in PostgreSQL: the owner brings the schema up to date; the operator itself can read and add, and change
//! only what a Task's life changes; the broker can add calls, files and payments; the signer
//! can sign for payments and anchors, and tell what came of them.

use countersign_crds::Identity;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgExecutor};
use url::Url;

use crate::Store;
use crate::error::StoreError;

/// What the operator may do, besides reading everything. Whatever is not here only the owner can do: change or delete
/// an entry, a leaf, a checkpoint, a signature; change what an attempt ran or an Approval was for.
const OPERATOR: [&str; 17] = [
    "grant usage on schema public to {role}",
    "grant select on all tables in schema public to {role}",
    "grant insert on tasks, runs, plans, steps, approvals, signatures, attempts, outputs, log_entries, log_payloads,
        log_pending, log_leaves, log_tiles, log_checkpoints, log_cosignatures, log_keys, configurations to {role}",
    // To close one that was never opened.
    "grant insert on budgets, reservations, transfers, budget_decisions, alerts, sessions to {role}",
    "grant update (\"limit\", spent, held, alerted) on budgets to {role}",
    "grant update (state, cost, ended_at) on reservations to {role}",
    "grant update (told_at) on alerts to {role}",
    "grant update (closed) on sessions to {role}",
    "grant update (version, ending_cause, ending_at, outcome, reason, message, finished_at) on tasks to {role}",
    "grant update (ran, outcome, reason, message, finished_at) on runs to {role}",
    "grant update (outcome, reason, message, not_before, output_digest, output_bytes, workspace, deferred_until, deferral,
        finished_at) on steps to {role}",
    "grant update (state, changed) on approvals to {role}",
    "grant update (pod_uid, admitted_at, outcome, message, finished_at) on attempts to {role}",
    // A tile may only grow, which its trigger sees to.
    "grant update (hashes) on log_tiles to {role}",
    "grant delete on log_pending to {role}",
    "grant update, delete on configurations to {role}",
    // To have what ended for nothing tried again.
    "grant update (state, revived, round, tries, next_try, ended_at) on outbox to {role}",
];

/// What the broker may do: nothing of a Task's own record but read the attempts that were let in, and of alerts only
/// deliver them.
const BROKER: [&str; 12] = [
    "grant usage on schema public to {role}",
    "grant select on tasks, attempts, sessions, calls, files, kept, log_entries to {role}",
    "grant insert on sessions, calls, files, kept, log_entries, log_payloads, log_pending to {role}",
    "grant update (calls, cost, bytes) on sessions to {role}",
    "grant update (outcome, status, address, sent, received, cost, ended_at) on calls to {role}",
    "grant select on alerts, budgets to {role}",
    "grant update (delivered_at, dead_at, tries, next_try, last_error) on alerts to {role}",
    // To hand payments to the signer, and tell the sandbox how they stand.
    "grant select, insert on payments to {role}",
    "grant select (id, network, payment, attempt, state, round, transaction, place, last_error),
        insert (network, payment, attempt),
        update (state, attempt, revived, round, tries, next_try, ended_at) on outbox to {role}",
    "grant select (id, outbox, transaction) on submissions to {role}",
    // To tell that it lives, and which Secrets it has.
    "grant select, insert, update, delete on brokers to {role}",
    // To know a schema of its own version.
    "grant select on _sqlx_migrations to {role}",
];

/// What the signer may do: read what an attempt was let in for, and tell what it signed and what came of it.
const SIGNER: [&str; 7] = [
    "grant usage on schema public to {role}",
    "grant select on tasks, attempts, payments, anchors, outbox, nonces, submissions, log_checkpoints, log_entries
        to {role}",
    "grant insert on anchors, nonces, submissions, log_entries, log_payloads, log_pending to {role}",
    "grant insert (network, anchor) on outbox to {role}",
    "grant update (state, tries, next_try, last_error, transaction, place, confirmed_at, fee, evidence, ended_at)
        on outbox to {role}",
    "grant update (outbox, at) on nonces to {role}",
    // To know a schema of its own version.
    "grant select on _sqlx_migrations to {role}",
];

/// Whose rights are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator, which decides and keeps the record.
    Operator,
    /// The broker, which adds calls, files and payments, and delivers alerts.
    Broker,
    /// The signer, which signs payments and anchors and follows them to their end.
    Signer,
}

impl Role {
    fn grants(self) -> &'static [&'static str] {
        match self {
            Role::Operator => &OPERATOR,
            Role::Broker => &BROKER,
            Role::Signer => &SIGNER,
        }
    }
}

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
    /// Lets the role of a URL work with a schema that another role owns; makes the role where there is none. The two
    /// being one is allowed, and then PostgreSQL itself keeps nothing from being changed.
    pub async fn grant(&self, to: Role, url: &str) -> Result<Rights, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        let role = options.get_username().to_owned();
        let mut transaction = self.pool.begin().await?;
        if session_user(&mut *transaction).await? == role {
            return Ok(Rights::Everything);
        }
        // Replicas come one after the other: PostgreSQL refuses two grants on one table at once.
        sqlx::query!("select pg_advisory_xact_lock($1)", LOCK).execute(&mut *transaction).await?;
        make(&mut transaction, &role, url).await?;
        let quoted = sqlx::query_scalar!(r#"select quote_ident($1) as "role!""#, role);
        let quoted = quoted.fetch_one(&mut *transaction).await?;
        for grant in to.grants() {
            transaction.execute(AssertSqlSafe(grant.replace("{role}", &quoted))).await?;
        }
        transaction.commit().await?;
        Ok(Rights::AddOnly)
    }

    /// Whoever works with this store, as the log names them.
    pub async fn identity(&self) -> Result<Identity, StoreError> {
        identity(&self.pool).await
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

pub(crate) async fn identity(connection: impl PgExecutor<'_>) -> Result<Identity, StoreError> {
    let user = format!("postgresql:{}", session_user(connection).await?);
    Ok(Identity { user, uid: None, groups: Vec::new() })
}

async fn session_user(connection: impl PgExecutor<'_>) -> Result<String, StoreError> {
    Ok(sqlx::query_scalar!(r#"select session_user::text as "name!""#).fetch_one(connection).await?)
}

/// The role, with the password of its URL, where it does not exist yet.
async fn make(connection: &mut PgConnection, role: &str, url: &str) -> Result<(), StoreError> {
    let exists = sqlx::query_scalar!(r#"select exists (select from pg_roles where rolname = $1) as "is!""#, role);
    if exists.fetch_one(&mut *connection).await? {
        return Ok(());
    }
    let failed = |why: String| StoreError::Role { role: role.to_owned(), why };
    let url = Url::parse(url).map_err(|error| failed(format!("its URL does not parse: {error}")))?;
    let password = url.password().map(|password| percent_encoding::percent_decode_str(password).decode_utf8_lossy());
    let statement = sqlx::query_scalar!(
        r#"select format('create role %I login password %L', $1::text, $2::text) as "statement!""#,
        role,
        password.as_deref()
    );
    let statement = statement.fetch_one(&mut *connection).await?;
    connection.execute(AssertSqlSafe(statement)).await.map_err(|error| {
        failed(format!(
            "it does not exist and cannot be made ({error}); as a superuser: create role {role} login password '…'"
        ))
    })?;
    Ok(())
}
