//! Measurements of the built binary, each beside a floor or a peer of the same run.
//!
//! `cargo xtask bench [words]` builds for release and runs these. A figure alone
//! says little about a machine that nobody else has; the ratio to its floor does.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod definitions;
#[expect(dead_code, reason = "shared with tests, which use more of it")]
#[path = "../../crates/rdd-engine/tests/suite/dockerd.rs"]
mod dockerd;
mod etcd;
#[path = "../../crates/rdd-cel/tests/explosions/cases.rs"]
mod explosions;
mod lab;
mod latency;
mod load;
mod mirror;
mod objects;
mod reads;
mod resident;
mod rules;
mod start;
mod statistics;
mod watchers;
mod wire;
mod writes;

use anyhow::Result;

use crate::lab::Lab;

/// One measured figure.
struct Figure {
    /// What was measured.
    name: String,
    /// What came out, with its unit.
    value: String,
    /// What the same work costs at least, or what a peer needs, in the same run.
    floor: String,
    /// What it should be.
    target: &'static str,
}

#[tokio::main]
async fn main() -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the bench's own arguments")]
    let binary = std::env::var_os("RDD_BIN");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let binary = binary
        .map(std::path::PathBuf::from)
        .ok_or_else(|| anyhow::anyhow!("RDD_BIN names no binary; run `cargo xtask bench`"))?;

    let mut figures = Vec::new();
    if wanted("size") {
        figures.push(resident::binary_size(&binary)?);
    }
    if wanted("start") {
        figures.push(start::cold_start(&binary)?);
    }
    if wanted("resident") {
        figures.extend(resident::idle(&binary)?);
    }
    if wanted("rest") {
        figures.push(resident::at_rest(&binary).await?);
    }
    let lab = || Lab::new(&binary);
    if wanted("creates") {
        for clients in [1, 64] {
            figures.push(writes::creates(&lab()?, clients).await?);
        }
    }
    if wanted("patches") {
        figures.push(writes::patches(&lab()?, 64).await?);
    }
    if wanted("gets") {
        figures.push(reads::gets(&lab()?, 64).await?);
    }
    if wanted("lists") {
        figures.push(reads::lists(&lab()?).await?);
    }
    if wanted("watchers") {
        figures.push(watchers::seen(&lab()?, 100, 100).await?);
        figures.push(watchers::seen(&lab()?, 1000, 50).await?);
    }
    if wanted("definitions") {
        figures.extend(definitions::served(&lab()?).await?);
    }
    if wanted("rules") {
        figures.push(rules::of_definition(&lab()?).await?);
        figures.extend(rules::explosions());
    }
    if wanted("policies") {
        figures.push(rules::of_policies(&lab()?).await?);
    }
    if wanted("latency") {
        figures.extend(latency::engine_to_watch(&lab()?, &[10, 500]).await?);
    }
    if wanted("processor") {
        figures.push(latency::processor_time(&lab()?).await?);
    }
    if wanted("mirror of dockerd") {
        figures.push(mirror::first_pass_of_dockerd(500)?);
    }
    if wanted("mirror in memory") {
        figures.extend(mirror::many_in_memory(&[50_000], &[10, 500, 5_000])?);
    }
    print(&figures);
    Ok(())
}

fn print(figures: &[Figure]) {
    let width = |column: fn(&Figure) -> usize| figures.iter().map(column).max().unwrap_or(0);
    let (name, value, floor) = (
        width(|figure| figure.name.len()),
        width(|figure| figure.value.len()),
        width(|figure| figure.floor.len()),
    );
    println!(
        "\n{:name$}  {:>value$}  {:floor$}  target",
        "what", "figure", "floor or peer"
    );
    for figure in figures {
        println!(
            "{:name$}  {:>value$}  {:floor$}  {}",
            figure.name, figure.value, figure.floor, figure.target
        );
    }
}
