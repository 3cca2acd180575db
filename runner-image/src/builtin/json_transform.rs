//! Computes an output from an input with a jq program, by jaq.

use anyhow::{anyhow, bail};
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Ctx, Vars, data, unwrap_valr};
use jaq_json::{Val, read};

pub fn run(program: &str, input: &[u8]) -> anyhow::Result<String> {
    let input = read::parse_single(input).map_err(|error| anyhow!("input: {error}"))?;
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(definitions)
        .load(&arena, File { code: program, path: () })
        .map_err(|errors| anyhow!("program: it does not parse: {errors:?}"))?;
    let filter = jaq_core::Compiler::default()
        .with_funs(functions)
        .compile(modules)
        .map_err(|errors| anyhow!("program: it does not compile: {errors:?}"))?;
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let mut outputs = filter.id.run((context, input)).map(unwrap_valr);
    let output = match outputs.next() {
        Some(Ok(output)) => output,
        Some(Err(error)) => bail!("program: {error}"),
        None => bail!("program: it yields nothing; it must yield exactly one value"),
    };
    match outputs.next() {
        None => Ok(output.to_string()),
        Some(_) => bail!("program: it yields more than one value; collect them with [...]"),
    }
}
