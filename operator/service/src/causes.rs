//! Errors, for people: each says what it is, and keeps what caused it as its source.

use std::error::Error;

/// The error with all that caused it, the nearest first, parted by `: `.
pub fn told(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", told(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Said(&'static str, Option<Box<Said>>);

    impl std::fmt::Display for Said {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &dyn Error)
        }
    }

    #[test]
    fn an_error_is_told_with_all_that_caused_it() {
        let cause = |error, cause| Said(error, Some(Box::new(cause)));
        assert_eq!(told(&Said("alone", None)), "alone");
        assert_eq!(
            told(&cause("no record", cause("no PostgreSQL", Said("refused", None)))),
            "no record: no PostgreSQL: refused"
        );
    }
}
