//! Reads the books for the metrics, and so holds them against each other all the time.

use std::time::{Duration, Instant};

use countersign_store::Differences;

use crate::look::context::Context;

const EVERY: Duration = Duration::from_secs(15);
/// The longer the books, the less often: of PostgreSQL's time no more than one part in so many.
const SHARE: u32 = 100;

/// Runs while this process leads.
pub async fn run(context: &Context) {
    loop {
        let began = Instant::now();
        match context.store.books().await {
            Ok(books) => {
                if books.differences != Differences::default() {
                    tracing::error!(differences = ?books.differences, "the books differ from each other");
                }
                context.metrics.books(&books);
            }
            Err(error) => tracing::warn!(%error, "the books were not read; trying again"),
        }
        tokio::time::sleep(EVERY.max(began.elapsed() * SHARE)).await;
    }
}
