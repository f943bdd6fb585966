//! Which line of sysctl.d sets a sysctl, as systemd-sysctl(8) decides: the last one that names it; a pattern only where no line
//! names it, and unless it is left out of patterns.

use super::{is_machines, remade};
use crate::diagnose::case::Case;
use crate::model::id::NetnsId;
use crate::model::provenance::{Origin, SysctlLine};

/// What the kernel sets in a new namespace, by the last word of the key.
const DEFAULTS: [(&str, &str); 13] = [
    ("accept_local", "0"),
    ("arp_filter", "0"),
    ("arp_ignore", "0"),
    ("disable_ipv6", "0"),
    ("echo_ignore_all", "0"),
    ("force_forwarding", "0"),
    ("forwarding", "0"),
    ("icmp_echo_ignore_all", "0"),
    ("ip_forward", "0"),
    ("proxy_arp", "0"),
    ("proxy_ndp", "0"),
    ("route_localnet", "0"),
    ("rp_filter", "0"),
];

/// Where a sysctl's value comes from.
pub fn origin(case: &Case<'_>, netns: NetnsId, key: &str, value: &str) -> Origin {
    let setting = format!("{key} = {value}");
    let default =
        is_default(key, value).then(|| "nobody that left a trace: it is what the kernel begins with".to_owned());
    if let Some((by, returns)) = by_docker(case, netns, key, value).filter(|_| !is_machines(case, netns)) {
        return Origin { setting, set_by: Some(by), at: None, returns };
    }
    if !is_machines(case, netns) {
        return Origin { setting, set_by: default, at: None, returns: remade(case, netns) };
    }
    let files = &case.snapshot().provenance;
    let line = deciding(&files.sysctls, key);
    // A device that was made later has what `default` said then.
    let inherited = || {
        let (start, _, end) = split_device(key)?;
        deciding(&files.sysctls, &format!("{start}default{end}")).filter(|line| line.value.as_deref() == Some(value))
    };
    if let Some(line) = line.filter(|line| line.value.as_deref() == Some(value)).or_else(inherited) {
        return Origin {
            setting,
            set_by: Some(format!("the line {} = {value}", line.key)),
            at: Some(line.at.clone()),
            returns: Some("a reboot, or `sysctl --system`".to_owned()),
        };
    }
    let docker = by_docker(case, netns, key, value);
    let by = match line {
        Some(line) => {
            let says = line.value.as_deref().unwrap_or("?");
            Some(format!("something after boot: {} line {} says {says}", line.at.file, line.at.line))
        }
        None => docker.as_ref().map(|(by, _)| by.clone()).or(default),
    };
    Origin { setting, set_by: by, at: None, returns: docker.and_then(|(_, returns)| returns) }
}

/// Who has set ip_forward in a namespace where Docker is at work, and what would set it again.
fn by_docker(case: &Case<'_>, netns: NetnsId, key: &str, value: &str) -> Option<(String, Option<String>)> {
    let forwards = key == "net.ipv4.ip_forward" || key == "net.ipv4.conf.all.forwarding";
    if !forwards || !has_docker(case, netns) {
        return None;
    }
    if value == "1" {
        return Some(("Docker, as it starts".to_owned(), None));
    }
    Some(match docker_keeps_out(case).filter(|_| is_machines(case, netns)) {
        Some(file) => (format!("nobody: Docker is told to leave it alone ({file})"), None),
        None => ("something after Docker's start: Docker sets it to 1 when it starts, and not again".to_owned(), None),
    })
}

/// The line that decides about a key.
pub fn deciding<'a>(lines: &'a [SysctlLine], key: &str) -> Option<&'a SysctlLine> {
    let named = lines.iter().rev().find(|line| line.key == key);
    match named {
        Some(line) if line.value.is_some() => Some(line),
        // Left out of patterns.
        Some(_) => None,
        None => lines.iter().rev().find(|line| line.value.is_some() && glob(&line.key, key)),
    }
}

/// Whether a pattern with `*` and `?` matches; `*` stays within one word of the key.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern_chars, mut text_chars) = (pattern.chars(), text.chars());
    loop {
        match (pattern_chars.next(), text_chars.clone().next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                let rest = pattern_chars.as_str();
                let mut left = text_chars.as_str();
                loop {
                    if glob(rest, left) {
                        return true;
                    }
                    let mut more = left.chars();
                    match more.next() {
                        Some(c) if c != '.' => left = more.as_str(),
                        _ => return false,
                    }
                }
            }
            (Some('?'), Some(_)) => {
                text_chars.next();
            }
            (Some(wanted), Some(found)) if wanted == found => {
                text_chars.next();
            }
            _ => return false,
        }
    }
}

/// `net.ipv4.conf.` `eth0` `.rp_filter`.
fn split_device(key: &str) -> Option<(&str, &str, &str)> {
    let start = key.find(".conf.")? + ".conf.".len();
    let end = key.rfind('.').filter(|end| *end > start)?;
    let device = &key[start..end];
    (device != "all" && device != "default").then_some((&key[..start], device, &key[end..]))
}

fn is_default(key: &str, value: &str) -> bool {
    let word = key.rsplit('.').next().unwrap_or(key);
    DEFAULTS.contains(&(word, value))
}

/// Whether a Docker engine is at work in this namespace.
fn has_docker(case: &Case<'_>, netns: NetnsId) -> bool {
    let started = case.snapshot().provenance.services.iter().any(|service| service == "docker");
    let mut chains = case.netns(netns).netfilter.tables.iter().flat_map(|table| &table.chains);
    started && is_machines(case, netns) || chains.any(|chain| chain.name.starts_with("DOCKER"))
}

/// The file that tells Docker not to touch ip_forward.
fn docker_keeps_out<'a>(case: &Case<'a>) -> Option<&'a str> {
    let mut options = case.snapshot().provenance.docker.iter();
    options.find(|option| option.key == "ip-forward" && option.value == "false").map(|option| option.at.file.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::bench::World;
    use crate::diagnose::route::forwarding_disabled::check;
    use crate::model::provenance::{DaemonOption, FileLine, Provenance};

    fn line(key: &str, value: Option<&str>, number: u32) -> SysctlLine {
        let at = FileLine { file: "/etc/sysctl.d/x.conf".to_owned(), line: number };
        SysctlLine { key: key.to_owned(), value: value.map(str::to_owned), at }
    }

    /// Why r does not forward, on a machine with these files.
    fn forwarding(files: Provenance) -> Origin {
        let world = World::router().forwarding("r", 0).files("r", files);
        world.origins(check).into_iter().next().expect("an origin")
    }

    #[test]
    fn the_line_with_the_value_is_the_origin_and_comes_back() {
        let found = forwarding(Provenance {
            sysctls: vec![line("net.ipv4.ip_forward", Some("0"), 4), line("net.ipv4.conf.*.forwarding", Some("0"), 5)],
            ..Provenance::default()
        });
        assert!(found.setting.starts_with("net.ipv4.") && found.setting.ends_with(" = 0"), "{}", found.setting);
        assert!(found.at.is_some_and(|at| at.line >= 4));
        assert_eq!(found.returns.as_deref(), Some("a reboot, or `sysctl --system`"));
    }

    #[test]
    fn a_line_with_another_value_is_not_the_origin() {
        let sysctls = vec![line("net.ipv4.ip_forward", Some("1"), 4), line("net.ipv4.conf.*.forwarding", Some("1"), 5)];
        let found = forwarding(Provenance { sysctls, ..Provenance::default() });
        assert_eq!((found.at, found.returns), (None, None));
        assert!(found.set_by.is_some_and(|by| by.contains("says 1")));
    }

    #[test]
    fn without_a_line_it_is_the_kernels_own_value() {
        assert!(forwarding(Provenance::default()).set_by.is_some_and(|by| by.starts_with("nobody")));
    }

    #[test]
    fn a_daemon_that_is_told_to_keep_out_is_named_with_its_file() {
        let world = World::router()
            .forwarding("r", 0)
            .space("r", |space| {
                space.sysctls.insert("net.ipv4.ip_forward".to_owned(), "0".to_owned());
            })
            .files(
                "r",
                Provenance {
                    services: vec!["docker".to_owned()],
                    docker: vec![DaemonOption {
                        key: "ip-forward".to_owned(),
                        value: "false".to_owned(),
                        at: FileLine { file: "/etc/docker/daemon.json".to_owned(), line: 2 },
                    }],
                    ..Provenance::default()
                },
            );
        let id = world.id_of("r");
        let by = |case: &Case<'_>| origin(case, id, "net.ipv4.ip_forward", "0").set_by;
        assert!(world.look(by).is_some_and(|by| by.contains("/etc/docker/daemon.json")));
    }

    #[test]
    fn the_last_line_that_names_a_key_decides() {
        let lines = [line("net.ipv4.ip_forward", Some("1"), 1), line("net.ipv4.ip_forward", Some("0"), 2)];
        assert_eq!(deciding(&lines, "net.ipv4.ip_forward").map(|line| line.at.line), Some(2));
        assert_eq!(deciding(&lines, "net.ipv4.conf.all.rp_filter"), None);
    }

    #[test]
    fn a_name_goes_before_a_pattern_and_an_exclusion_before_both() {
        let key = "net.ipv4.conf.eth0.rp_filter";
        let pattern = line("net.ipv4.conf.*.rp_filter", Some("2"), 9);
        let found = |lines: &[SysctlLine]| deciding(lines, key).map(|line| line.at.line);
        assert_eq!(found(&[line(key, Some("1"), 1), pattern.clone()]), Some(1));
        assert_eq!(found(std::slice::from_ref(&pattern)), Some(9));
        assert_eq!(found(&[pattern, line(key, None, 2)]), None);
    }

    #[test]
    fn a_pattern_stays_within_its_word() {
        assert!(glob("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.eth0.rp_filter"));
        assert!(glob("net.ipv4.conf.eth?.rp_filter", "net.ipv4.conf.eth0.rp_filter"));
        assert!(!glob("net.*.rp_filter", "net.ipv4.conf.eth0.rp_filter"));
        assert!(!glob("net.ipv4.conf.*", "net.ipv4.ip_forward"));
    }

    #[test]
    fn the_device_of_a_key_is_found() {
        assert_eq!(split_device("net.ipv4.conf.eth0.rp_filter"), Some(("net.ipv4.conf.", "eth0", ".rp_filter")));
        assert_eq!(split_device("net.ipv4.conf.all.rp_filter"), None);
        assert_eq!(split_device("net.ipv4.ip_forward"), None);
    }
}
