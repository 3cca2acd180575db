//! jq programs, by jaq: the same compiler says at admission whether a program can run, and runs it in the sandbox.

use jaq_core::load::{Arena, Error, File, Loader};
use jaq_core::{Ctx, Filter, Vars, data, unwrap_valr};
use jaq_json::{Val, read};

/// How deep brackets may be nested in a program: the parser recurses.
pub const MAX_DEPTH: usize = 64;

/// Why a program gives no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JqError {
    /// The program is no jq. Line and column count from 1, the column in characters.
    #[error("{line}:{column}: {message}")]
    Program { line: usize, column: usize, message: String },
    /// The input is not JSON.
    #[error("input: {0}")]
    Input(String),
    /// It stopped with this error.
    #[error("program: {0}")]
    Failed(String),
    #[error("program: it yields nothing; it must yield exactly one value")]
    Nothing,
    #[error("program: it yields more than one value; collect them with [...]")]
    Several,
}

/// Whether a program parses, and calls only what there is.
///
/// # Errors
/// [`JqError::Program`], with the first place that is wrong.
pub fn check(program: &str) -> Result<(), JqError> {
    apart(|| compile(program).map(|_| ()))
}

/// The one value that a program makes of an input, both as JSON.
///
/// # Errors
/// See [`JqError`].
pub fn run(program: &str, input: &[u8]) -> Result<String, JqError> {
    apart(|| run_here(program, input))
}

/// On a stack that holds whatever a program of 16 KiB makes the parser, the compiler and the interpreter recurse: a long
/// chain of operators nests as deep as it is long. It is virtual memory, of which only what is touched costs anything.
fn apart<T: Send>(job: impl FnOnce() -> Result<T, JqError> + Send) -> Result<T, JqError> {
    const STACK_BYTES: usize = 256 << 20;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("jq".to_owned()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, job).map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(JqError::Failed("the interpreter stopped".to_owned())),
            Err(error) => Err(JqError::Failed(format!("there is no thread for it: {error}"))),
        }
    })
}

fn run_here(program: &str, input: &[u8]) -> Result<String, JqError> {
    let filter = compile(program)?;
    let input = read::parse_single(input).map_err(|error| JqError::Input(error.to_string()))?;
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let mut outputs = filter.id.run((context, input)).map(unwrap_valr);
    let output = match outputs.next() {
        Some(Ok(output)) => output,
        Some(Err(error)) => return Err(JqError::Failed(error.to_string())),
        None => return Err(JqError::Nothing),
    };
    match outputs.next() {
        None => Ok(output.to_string()),
        Some(_) => Err(JqError::Several),
    }
}

fn compile(program: &str) -> Result<Filter<data::JustLut<Val>>, JqError> {
    check_depth(program)?;
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let file = File { code: program, path: () };
    let modules = Loader::new(definitions).load(&arena, file).map_err(|errors| {
        let (place, message) = match errors.into_iter().next() {
            Some((_, Error::Lex(faults))) => {
                told(faults.into_iter().map(|(wanted, at)| (at, wanted.as_str())), "expected")
            }
            Some((_, Error::Parse(faults))) => {
                told(faults.into_iter().map(|(wanted, at)| (at, wanted.as_str())), "expected")
            }
            Some((_, Error::Io(_))) | None => (None, "there are no modules to import".to_owned()),
        };
        fault(program, place, message)
    })?;
    jaq_core::Compiler::default().with_funs(functions).compile(modules).map_err(|errors| {
        let first = errors.into_iter().next().and_then(|(_, faults)| faults.into_iter().next());
        match first {
            Some((name, undefined)) => fault(program, Some(name), format!("undefined {}: {name}", undefined.as_str())),
            None => fault(program, None, "it does not compile".to_owned()),
        }
    })
}

/// The first fault's place, and its message.
fn told<'p, 'w>(faults: impl Iterator<Item = (&'p str, &'w str)>, word: &str) -> (Option<&'p str>, String) {
    let mut faults = faults;
    match faults.next() {
        Some((at, wanted)) => (Some(at), format!("{word} {wanted}")),
        None => (None, "it does not parse".to_owned()),
    }
}

/// A fault at a part of the program; at its end where the part is none of it.
fn fault(program: &str, part: Option<&str>, message: String) -> JqError {
    let offset = part.and_then(|part| (part.as_ptr() as usize).checked_sub(program.as_ptr() as usize));
    let offset = offset.filter(|offset| program.is_char_boundary(*offset)).unwrap_or(program.len());
    let before = &program[..offset];
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    JqError::Program { line, column, message }
}

fn check_depth(program: &str) -> Result<(), JqError> {
    let mut depth = 0_usize;
    for (at, byte) in program.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            let message = format!("brackets are nested more than {MAX_DEPTH} deep");
            return Err(fault(program, program.get(at..), message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_named_with_its_place() {
        for (program, said) in [
            (".a |", "1:5: expected "),
            ("{a: .b", "1:7: expected closing brace"),
            (".a\n| nosuch", "2:3: undefined filter: nosuch"),
            ("$x", "1:1: undefined variable: $x"),
            ("import \"m\" as m; .", "there are no modules"),
            (&"(".repeat(100), "1:65: brackets are nested more than 64 deep"),
        ] {
            let error = check(program).unwrap_err().to_string();
            assert!(error.contains(said), "{program}: {error}");
        }
        assert_eq!(check("{sum: (.items | map(.n) | add)}"), Ok(()));
    }

    #[test]
    fn the_longest_chains_end_no_stack() {
        for link in [
            "-", "-1", "|.", ".a", "?", "+.", "//.", ",.", "[0]", " and .", "not|", "..", "a.", "if ", "def f: ",
            "\"\\(",
        ] {
            let _ = check(&format!(".{}", link.repeat(16_384 / link.len())));
        }
        let sum = format!("1{}", "+1".repeat(8_000));
        assert_eq!(run(&sum, b"null"), Ok("8001".to_owned()));
    }

    #[test]
    fn a_program_gives_exactly_one_value() {
        assert_eq!(run(".a + 1", br#"{"a": 2}"#), Ok("3".to_owned()));
        assert_eq!(run("empty", b"1"), Err(JqError::Nothing));
        assert_eq!(run("1, 2", b"1"), Err(JqError::Several));
        assert!(matches!(run(".a", b"1"), Err(JqError::Failed(_))));
        assert!(matches!(run(".", b"{"), Err(JqError::Input(_))));
    }
}
