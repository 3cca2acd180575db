//! Skills that the runner itself does, as a process of their own: input on stdin, output on stdout.

mod generic_action;
mod json_transform;

use std::io::Read;

use anyhow::{Context, bail};

pub fn run(name: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).context("cannot read the input")?;
    let output = match (name, arguments) {
        ("json_transform", [program]) => json_transform::run(program, &input)?,
        ("json_transform", _) => bail!("json_transform needs exactly one program"),
        ("generic_action", []) => generic_action::run(&input)?,
        _ => bail!("there is no built-in {name:?} with these arguments; there are json_transform and generic_action"),
    };
    println!("{output}");
    Ok(())
}
