//! Names for addresses of kernel code, from `/proc/kallsyms`.
//!
//! Reading its more than 100,000 lines costs tens of milliseconds, so it is done once, when the first
//! address must be named. Addresses are hidden (all zero) without CAP_SYSLOG; then nothing is named.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

/// How far behind the start of a function an address may lie and still be taken for part of it.
///
/// Programs and trampolines of eBPF lie behind the last module's code and would otherwise all carry
/// the name of that module's last function.
const REACH: u64 = 1 << 16;

/// Start addresses and names, ascending.
#[derive(Debug, Default)]
pub struct Symbols {
    entries: Vec<(u64, Arc<str>)>,
}

impl Symbols {
    /// Reads the kernel's symbols; empty if they may not be read.
    pub fn read() -> Self {
        Self::from_file(Path::new("/proc/kallsyms")).unwrap_or_default()
    }

    fn from_file(path: &Path) -> std::io::Result<Self> {
        Ok(Self::parse(BufReader::with_capacity(1 << 16, File::open(path)?)))
    }

    /// Parses lines of the form `ffffffff81000000 T _text` with an optional `[module]`.
    pub fn parse(mut lines: impl BufRead) -> Self {
        let mut entries = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            if !matches!(lines.read_line(&mut line), Ok(1..)) {
                break;
            }
            let mut words = line.split_ascii_whitespace();
            if let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next())
                && matches!(kind, "t" | "T" | "w" | "W")
                && let Ok(address) = u64::from_str_radix(address, 16)
                && address != 0
            {
                entries.push((address, Arc::from(name)));
            }
        }
        entries.sort_unstable_by_key(|(address, _)| *address);
        Self { entries }
    }

    /// The function that an address is in.
    pub fn name(&self, address: u64) -> Option<Arc<str>> {
        let after = self.entries.partition_point(|(start, _)| *start <= address);
        let (start, name) = self.entries.get(after.checked_sub(1)?)?;
        // A suffix such as `.constprop.0` is the compiler's, not the function's.
        (address - start < REACH).then(|| match name.split_once('.') {
            Some((plain, _)) => Arc::from(plain),
            None => Arc::clone(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "ffffffff81000000 T _text\nffffffff81000100 t ip_rcv_finish_core.isra.0\n\
                         ffffffff81000200 D data\nffffffffc0000000 t veth_xmit\t[veth]\n";

    #[test]
    fn an_address_is_named_after_the_function_before_it() {
        let symbols = Symbols::parse(LINES.as_bytes());
        assert_eq!(symbols.name(0xffff_ffff_8100_0150).as_deref(), Some("ip_rcv_finish_core"));
        assert_eq!(symbols.name(0xffff_ffff_c000_0000).as_deref(), Some("veth_xmit"));
    }

    #[test]
    fn an_address_far_from_any_function_has_no_name() {
        let symbols = Symbols::parse(LINES.as_bytes());
        assert_eq!(symbols.name(0xffff_ffff_c100_0000), None);
        assert_eq!(symbols.name(0x1000), None);
    }
}
