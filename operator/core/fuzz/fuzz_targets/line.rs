//! Lines of an export and paths of tiles: what is read is written the same.
#![no_main]

use countersign_core::tlog::{Line, Tile, parse_index};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(line) = Line::decode(text) {
        let again = Line::decode(&line.encode()).expect("its own encoding");
        assert_eq!(again, line);
    }
    if let Some((tile, width)) = Tile::parse(text) {
        assert_eq!(tile.path(width), format!("tile/{text}"));
    }
    let _ = parse_index(text);
});
