//! Which parts of the kernel are there already. Opening a netlink socket makes the kernel load the module behind it;
//! we must not change the machine, so we look first. A module that is not loaded has nothing to show.

use std::fs;
use std::sync::OnceLock;

/// Modules that are loaded, that could be but are not, or None where the kernel does not say.
struct Known {
    loaded: String,
    built_in: Option<String>,
}

/// Whether the module is loaded or built in. Unknown counts as there: a kernel without modules has all it has built in.
pub fn is_present(module: &str) -> bool {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(Known::read).is_present(module)
}

impl Known {
    fn read() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let built_in = fs::read_to_string(format!("/lib/modules/{}/modules.builtin", release.trim())).ok();
        Self { loaded: fs::read_to_string("/proc/modules").unwrap_or_default(), built_in }
    }

    fn is_present(&self, module: &str) -> bool {
        let loaded = self.loaded.lines().any(|line| line.split(' ').next() == Some(module));
        let file = format!("/{module}.ko");
        loaded
            || self
                .built_in
                .as_ref()
                .is_none_or(|list| list.lines().any(|line| line.replace('-', "_").ends_with(&file)))
    }
}

#[cfg(test)]
mod tests {
    use super::Known;

    #[test]
    fn loaded_built_in_or_unknown() {
        let known = Known {
            loaded: "nf_conntrack 196608 1 - Live 0x0\n".into(),
            built_in: Some("kernel/net/xfrm/xfrm-user.ko\n".into()),
        };
        assert!(known.is_present("nf_conntrack"));
        assert!(known.is_present("xfrm_user"));
        assert!(!known.is_present("nf_conntrack_netlink"));
        assert!(Known { loaded: String::new(), built_in: None }.is_present("anything"));
    }
}
