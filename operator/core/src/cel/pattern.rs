//! Regular expressions within bounds: of the pattern, of the memory that it takes compiled, and of the work of searching.
//!
//! The syntax is that of the `regex` crate. A search goes over the text once, with states of an automaton that are
//! made as they are needed; where they become too many it goes on with a slower engine, whose work is counted first.

use super::meter;
use crate::kept::Kept;
use cel::ExecutionError;
use cel::common::types::{CelBool, CelString};
use cel::common::value::CowVal;
use regex_automata::Input;
use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::nfa::thompson::pikevm::{self, PikeVM};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use std::cell::RefCell;
use std::error::Error;
use std::sync::{Arc, LazyLock};

/// The most memory that a compiled pattern may take, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The longest pattern, in bytes.
pub const MAX_PATTERN_LENGTH: usize = 1024;

/// The most memory that all compiled patterns that are kept may take together, in bytes.
const KEPT_BYTES: usize = 32 << 20;

/// For the states that one search makes, in bytes.
const STATES_BYTES: usize = 256 << 10;

/// How many patterns one evaluation may hold compiled.
const AT_ONCE: usize = 4;

/// A compiled pattern. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pattern(Arc<Engines>);

struct Engines {
    /// `None` where it cannot hold the pattern's states.
    states: Option<DFA>,
    threads: PikeVM,
}

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("the pattern has {0} bytes; at most {MAX_PATTERN_LENGTH}")]
    TooLong(usize),
    #[error(
        "the pattern takes more than {MAX_PATTERN_BYTES} bytes of memory; use smaller counts, or [a-z0-9_] for \\w"
    )]
    TooLarge,
    #[error("the pattern is not valid: {0}")]
    Syntax(String),
}

impl Pattern {
    /// Compiles a pattern, or gives the one that is kept.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub(crate) fn compile(pattern: &str) -> Result<Self, PatternError> {
        static KEPT: LazyLock<Kept<String, Pattern>> = LazyLock::new(|| Kept::new(KEPT_BYTES));
        KEPT.get_or(pattern, || {
            let compiled = Self::compile_anew(pattern)?;
            let weight = compiled.bytes() + pattern.len();
            Ok((compiled, weight))
        })
    }

    fn compile_anew(pattern: &str) -> Result<Self, PatternError> {
        if pattern.len() > MAX_PATTERN_LENGTH {
            return Err(PatternError::TooLong(pattern.len()));
        }
        let bounded =
            thompson::Config::new().nfa_size_limit(Some(MAX_PATTERN_BYTES)).which_captures(WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(bounded).build(pattern).map_err(|error| refused(&error))?;
        let config = DFA::config()
            .cache_capacity(STATES_BYTES)
            .unicode_word_boundary(true)
            .minimum_cache_clear_count(Some(3))
            .minimum_bytes_per_state(Some(16));
        let states = DFA::builder().configure(config).build_from_nfa(nfa.clone()).ok();
        let threads = PikeVM::builder().build_from_nfa(nfa).map_err(|error| refused(&error))?;
        Ok(Self(Arc::new(Engines { states, threads })))
    }

    /// What it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.threads.get_nfa().memory_usage()
    }

    /// How many states it has: what the slower engine does for each byte in the worst case.
    fn size(&self) -> u64 {
        self.0.threads.get_nfa().states().len() as u64
    }

    /// Whether it matches anywhere in a text.
    fn is_match(&self, text: &str, scratch: &mut Scratch) -> Result<bool, ExecutionError> {
        let Engines { states, threads } = &*self.0;
        if let Some(states) = states {
            let cache = scratch.states.get_or_insert_with(|| states.create_cache());
            if let Ok(found) = states.try_search_fwd(cache, &Input::new(text).earliest(true)) {
                return Ok(found.is_some());
            }
        }
        meter::charge(self.size().saturating_mul(1 + text.len() as u64))?;
        let cache = scratch.threads.get_or_insert_with(|| threads.create_cache());
        Ok(threads.is_match(cache, text))
    }
}

fn refused(error: &thompson::BuildError) -> PatternError {
    if error.size_limit().is_some() {
        return PatternError::TooLarge;
    }
    // The parser draws the pattern with a mark below it, over several lines; the last says what is wrong.
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let what = text.rsplit("error: ").next().unwrap_or(&text);
    PatternError::Syntax(what.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect())
}

/// What a search needs beside the pattern.
#[derive(Default)]
struct Scratch {
    states: Option<dfa::Cache>,
    threads: Option<pikevm::Cache>,
}

thread_local! {
    /// The patterns of the evaluation on this thread, with what its searches need.
    static OPEN: RefCell<Vec<(String, Pattern, Scratch)>> = const { RefCell::new(Vec::new()) };
}

/// Gives back what an evaluation held.
pub(super) fn close() {
    OPEN.with_borrow_mut(Vec::clear);
}

/// `matches(text, pattern)`, with its work counted: compiling by what it takes, though it may be kept already, so that
/// the count is the same every time.
pub(super) fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [text, pattern] = args.as_slice() else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let (Some(text), Some(pattern)) = (text.downcast_ref::<CelString>(), pattern.downcast_ref::<CelString>()) else {
        let types = [text, pattern].map(|value| value.get_type().name().to_owned());
        return Err(ExecutionError::no_such_overload("matches", types.to_vec()));
    };
    let (text, pattern) = (text.inner(), pattern.inner());
    OPEN.with_borrow_mut(|open| {
        let known = open.iter().position(|(source, _, _)| source == pattern);
        let at = match known {
            Some(at) => at,
            None => {
                let refused = |error: PatternError| ExecutionError::function_error("matches", error.to_string());
                meter::charge(64 * pattern.len() as u64)?;
                let compiled = Pattern::compile(pattern).map_err(refused)?;
                meter::charge(2 * compiled.bytes() as u64)?;
                if open.len() >= AT_ONCE {
                    open.remove(0);
                }
                open.push((pattern.to_owned(), compiled, Scratch::default()));
                open.len() - 1
            }
        };
        let (_, compiled, scratch) = &mut open[at];
        meter::charge(64 + text.len() as u64 / 4)?;
        Ok(CowVal::owned(CelBool::from(compiled.is_match(text, scratch)?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    fn is_match(pattern: &str, text: &str) -> Result<bool, ExecutionError> {
        meter::start(u64::MAX, Instant::now() + std::time::Duration::from_secs(60));
        Pattern::compile(pattern).unwrap().is_match(text, &mut Scratch::default())
    }

    #[test]
    fn a_pattern_matches_anywhere_in_a_text() {
        for (pattern, text, found) in [
            ("", "", true),
            ("^0x[0-9a-f]+$", "0xab", true),
            ("^0x[0-9a-f]+$", "0xabz", false),
            ("b", "abc", true),
            (r"\bé\w+", "ein émile", true),
            (r"^\w{3}$", "äöü", true),
            ("(?i)ABC", "xabcx", true),
            ("a$", "a\n", false),
            (r"\p{Greek}", "λ", true),
        ] {
            assert_eq!(is_match(pattern, text), Ok(found), "{pattern} in {text}");
        }
    }

    #[test]
    fn what_is_beyond_a_bound_is_refused_and_says_which() {
        for (pattern, said) in [
            (r"\w{400}", "takes more than 1048576 bytes"),
            ("((((a{100}){100}){100}){100})", "takes more than 1048576 bytes"),
            ("(", "not valid: unclosed group"),
            ("(?=a)b", "not valid: look-around"),
            (r"(a)\1", "not valid: backreferences are not supported"),
            (&"a".repeat(1025), "has 1025 bytes; at most 1024"),
        ] {
            let error = Pattern::compile(pattern).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(said), "{pattern:.40}: {error}");
        }
        for pattern in [r"^[\w.+-]+@[\w-]+\.[\w.]+$", "^0x[0-9a-fA-F]{40}$", "[a-z]{500}", "^(a|b|c){1,64}$"] {
            assert!(Pattern::compile(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn a_search_that_makes_states_without_end_is_counted() {
        // Deterministic automata of this take 2^1000 states.
        // The same noise every time, by a linear congruence.
        let mut noise = 1_u32;
        let text: String = (0..200_000)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if noise >> 31 == 0 { 'a' } else { 'b' }
            })
            .collect();
        meter::start(32 << 20, Instant::now() + std::time::Duration::from_secs(60));
        let pattern = Pattern::compile("[ab]*a[ab]{900}c").unwrap();
        let begun = Instant::now();
        assert!(pattern.is_match(&text, &mut Scratch::default()).is_err());
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    proptest! {
        /// Both engines say the same.
        #[test]
        fn the_engines_agree(pattern in "[ab.(|)*+?^$]{0,8}", text in "[abé]{0,12}") {
            if let Ok(compiled) = Pattern::compile(&pattern) {
                meter::start(u64::MAX, Instant::now() + std::time::Duration::from_secs(60));
                let fast = compiled.is_match(&text, &mut Scratch::default()).unwrap();
                let threads = &compiled.0.threads;
                prop_assert_eq!(fast, threads.is_match(&mut threads.create_cache(), text.as_str()));
            }
        }
    }
}
