//! The runner: PID 1 of every sandbox pod. It reads what to do, starts the skill, keeps it within its
//! bounds, and reports through the termination message and framed log lines. See README.md.

mod builtin;
mod canary;
mod confine;
mod contract;
mod egress;
mod frames;
mod output;
mod prepare;
mod run;
mod supervise;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => return run::run(),
        ["builtin", name, rest @ ..] => builtin::run(name, rest),
        ["confine", words @ ..] => {
            // As a shell says that a command could not be started.
            let Err(error) = confine::confine(words) else { return ExitCode::SUCCESS };
            eprintln!("{error:#}");
            return ExitCode::from(127);
        }
        ["probe"] => confine::print_probe(),
        ["canary", targets] => canary::run(targets),
        ["install", path] => install(path),
        _ => Err(anyhow::anyhow!(
            "unknown arguments {arguments:?}; use none, `builtin NAME`, `confine -- COMMAND`, `probe` or `install PATH`"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Copies the runner to where a container of another image will find it.
fn install(path: &str) -> anyhow::Result<()> {
    use anyhow::Context;
    use std::os::unix::fs::PermissionsExt;
    let own = std::env::current_exe().context("cannot find the runner's own file")?;
    std::fs::copy(&own, path).with_context(|| format!("cannot copy {} to {path}", own.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {path} executable"))
}
