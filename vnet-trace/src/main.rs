//! The program `vnet-trace`: parses, runs, prints the error, gives the exit code. See [`vnet_trace::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    vnet_trace::cli::main()
}
