//! KangarooTwelve (RFC 9861, there KT128) without a customization string.

use k12::{ExtendableOutput, Kt128, Update, XofReader};

/// The first bytes of the hash of what the parts are together.
pub(super) fn k12<const LENGTH: usize>(parts: &[&[u8]]) -> [u8; LENGTH] {
    let mut hasher = Kt128::default();
    parts.iter().for_each(|part| hasher.update(part));
    let mut output = [0; LENGTH];
    hasher.finalize_xof().read(&mut output);
    output
}
