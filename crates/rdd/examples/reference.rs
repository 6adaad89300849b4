//! Prints `docs/reference/commands.md`; `cargo xtask reference` keeps it.

#![expect(clippy::print_stdout, reason = "it prints")]

fn main() {
    print!("{}", rdd::reference());
}
