//! Nothing is built here: cargo is only told that a lab added to `labs/` changes the crate, which embeds that folder.

fn main() {
    println!("cargo:rerun-if-changed=labs");
}
