//! Everything that is done to this repository, one command per file. People and CI run the same commands.
//!
//! `cargo xtask demo` and `cargo xtask test` are the two to know: each works on a fresh machine with Rust and a C compiler,
//! installing from the machine's own package sources what is missing, after saying so.

#![expect(clippy::print_stdout, reason = "what these commands find out is their output")]

mod bench;
mod ci;
mod demo;
mod docker;
mod ebpf;
mod inherit;
mod labs;
mod new_cause;
mod setup;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// Build, test, measure and show vnet-trace
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Xtask {
    /// Install the programs and libraries that building and testing need
    Setup(setup::Args),
    /// Build the program and show it on one lab: a ping between two ends in one namespace
    Demo,
    /// Run every test and every lab
    Test(test::Args),
    /// Build the probes, or with --check prove that the checked-in object is what the source gives
    Ebpf(ebpf::Args),
    /// What CI runs: format, lints, the compiled probes, then `test`
    Ci(ci::Args),
    /// Run all labs and compare the confusion matrix with the one that is checked in
    Labs(labs::Args),
    /// Make the files of a new cause or note
    NewCause(new_cause::Args),
    /// Boot other kernels and run the labs there
    Vm(vm::Args),
    /// Measure start, verdicts and memory; with --watch what watching costs the traffic
    Bench(bench::Args),
    /// What netlink's dumps take by themselves
    #[command(hide = true)]
    Dumps,
    /// Send or read the packets of a measurement
    #[command(hide = true)]
    Flood(bench::flood::Args),
}

fn main() -> ExitCode {
    let done = match Xtask::parse() {
        Xtask::Setup(args) => setup::run(&args),
        Xtask::Demo => demo::run(),
        Xtask::Test(args) => test::run(&args),
        Xtask::Ebpf(args) => ebpf::run(&args),
        Xtask::Ci(args) => ci::run(&args),
        Xtask::Labs(args) => labs::run(&args),
        Xtask::NewCause(args) => new_cause::run(&args),
        Xtask::Vm(args) => vm::run(&args),
        Xtask::Bench(args) => bench::run(&args),
        Xtask::Dumps => bench::dumps::run(),
        Xtask::Flood(args) => bench::flood::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("caused by: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_is_sound() {
        super::Xtask::command().debug_assert();
    }
}
