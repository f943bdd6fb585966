//! Which parts of the kernel are there already. Opening a netlink socket makes the kernel load the module behind it;
//! we must not change the machine, so we look first. A module that is not loaded has nothing to show.

use std::fs;
use std::sync::OnceLock;

/// Whether this one module is there now; see [`Modules::has`].
pub fn is_present(module: &str) -> bool {
    Modules::read().has(module)
}

/// The modules that are loaded now, and those that are built in where the kernel says so.
pub struct Modules {
    loaded: String,
    built_in: Option<&'static str>,
}

impl Modules {
    /// Reads which modules are loaded.
    pub fn read() -> Self {
        static BUILT_IN: OnceLock<Option<String>> = OnceLock::new();
        let built_in = BUILT_IN.get_or_init(|| {
            let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            fs::read_to_string(format!("/lib/modules/{}/modules.builtin", release.trim())).ok()
        });
        Self { loaded: fs::read_to_string("/proc/modules").unwrap_or_default(), built_in: built_in.as_deref() }
    }

    /// Whether the module is loaded or built in. Unknown counts as there: a kernel without modules has all it has built
    /// in.
    pub fn has(&self, module: &str) -> bool {
        let loaded = self.loaded.lines().any(|line| line.split(' ').next() == Some(module));
        let file = format!("/{module}.ko");
        loaded || self.built_in.is_none_or(|list| list.lines().any(|line| line.replace('-', "_").ends_with(&file)))
    }
}

#[cfg(test)]
mod tests {
    use super::Modules;

    #[test]
    fn loaded_built_in_or_unknown() {
        let modules = Modules {
            loaded: "nf_conntrack 196608 1 - Live 0x0\n".into(),
            built_in: Some("kernel/net/xfrm/xfrm-user.ko\n"),
        };
        assert!(modules.has("nf_conntrack"));
        assert!(modules.has("xfrm_user"));
        assert!(!modules.has("nf_conntrack_netlink"));
        assert!(Modules { loaded: String::new(), built_in: None }.has("anything"));
    }
}
