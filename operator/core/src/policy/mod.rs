//! Policy: which rules bear on a step, and what they say of it.
//!
//! In each layer (the cluster's, and the namespace's own) Deny > RequireApproval > Downgrade > Allow; the two are
//! combined so that neither is outweighed. No match denies, and so does every error.

mod layers;
mod partial;
mod set;
mod verdict;

pub(crate) use layers::both;
pub use layers::{Combined, Layer, combine};
pub(crate) use partial::{NOT_KNOWN, OpenRule};
pub use set::{PolicySet, compile_rule};
pub use verdict::Verdict;

use std::sync::LazyLock;

use crate::cel::{Type, Vocabulary};

/// What a rule's expression may use: the members of `task`, `step`, `skill`, `agent`, `cost` and `request`, which
/// [`crate::judge`] fills.
pub(crate) fn vocabulary() -> &'static Vocabulary {
    static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
        let text = || Type::Text;
        let texts = || Type::list(Type::Text);
        let free = || Type::map(Type::Any);
        Vocabulary::typed([
            (
                "task",
                Type::object([
                    ("name", text()),
                    ("namespace", text()),
                    ("type", text().or_null()),
                    ("goal", text().or_null()),
                    ("priority", text()),
                    ("parameters", free()),
                ]),
            ),
            (
                "step",
                Type::object([("name", text()), ("input", free()), ("attempt", Type::Number), ("approval", text())]),
            ),
            (
                "skill",
                Type::object([
                    ("name", text()),
                    ("effect", text()),
                    ("idempotent", Type::Bool),
                    ("builtin", text().or_null()),
                    ("image", text().or_null()),
                    ("workspace", text()),
                    ("hosts", texts()),
                    ("secrets", texts()),
                ]),
            ),
            ("agent", Type::object([("name", text()), ("namespace", text()), ("priority", text())]).or_null()),
            ("cost", Type::object([("ceiling", text().or_null()), ("micros", Type::Number)])),
            ("request", Type::object([("user", text()), ("groups", texts())]).or_null()),
        ])
    });
    &VOCABULARY
}
