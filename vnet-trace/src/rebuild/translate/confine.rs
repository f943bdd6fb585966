//! What a program may be told to do in a rebuilt network, argument by argument.
//!
//! Nothing is searched for that might be dangerous; what is known to be confined is let through, and the rest is not.
//! Objects, verbs and options have to be spelled out: iproute2 and getopt_long(3) take any beginning of a word, and
//! `ip netn e X reboot` is one way to say `ip netns exec X reboot`.
//!
//! | program | may | must not, because |
//! | --- | --- | --- |
//! | `ip`, `tc`, `bridge` | change what the kernel keeps for a namespace | name a namespace or device that is not there; read batches, object files and pins; start programs (`exec`) |
//! | `sysctl` | write keys of the network namespace | read files; write other keys, which are the machine's |
//! | `nft` | add, insert, replace and delete | take options; `include` files |
//! | `iptables` and relatives | anything | name the program that loads modules, or files |
//! | `ovs-vsctl`, `ovs-ofctl` | change bridges, ports, interfaces and flows | name another server, files |

use super::Refusal;

/// What a command may name.
pub(super) trait Known {
    /// How a namespace of the original is called here.
    fn netns(&self, name: &str) -> Option<String>;
    /// Whether the namespace has such a device, or an earlier command has made one.
    fn device(&self, name: &str) -> bool;
}

/// What a command will have made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Made {
    pub netns: Option<String>,
    pub devices: Vec<String>,
}

/// Looks at the arguments and says names as they are here.
pub(super) fn confine(program: &str, arguments: &mut [String], known: &dyn Known) -> Result<Made, Refusal> {
    let refuse = |argument: &str| Refusal::Argument { program: program.to_owned(), argument: argument.to_owned() };
    if let Some(path) = arguments.iter().find(|word| {
        word.starts_with(['/', '~']) || word.contains("..") || word.contains(['\n', '\0']) || word.contains("file:")
    }) {
        return Err(refuse(path));
    }
    match program {
        "ip" | "tc" | "bridge" => return iproute2(program, arguments, known),
        "sysctl" => sysctl(arguments),
        "nft" => nft(arguments),
        "ovs-vsctl" => arguments.split(|word| word == "--").find_map(vsctl),
        "ovs-ofctl" => ofctl(arguments),
        _ => arguments.iter().map(String::as_str).find(|word| {
            let letters = word.strip_prefix('-').filter(|rest| rest.chars().all(|c| c.is_ascii_alphabetic()));
            letters.is_some_and(|letters| letters.contains('M')) || word.starts_with("--mo") || word.starts_with("--at")
        }),
    }
    .map_or_else(|| Ok(Made::default()), |word| Err(refuse(word)))
}

fn iproute2(program: &str, arguments: &mut [String], known: &dyn Known) -> Result<Made, Refusal> {
    let refuse = |argument: &str| Refusal::Argument { program: program.to_owned(), argument: argument.to_owned() };
    let mut at = 0;
    while let Some(option) = arguments.get(at).filter(|word| word.starts_with('-')) {
        match option.as_str() {
            "-4" | "-6" => at += 1,
            "-n" | "-netns" => {
                let name = arguments.get_mut(at + 1).ok_or_else(|| refuse("-n"))?;
                *name = known.netns(name).ok_or_else(|| Refusal::Netns { netns: name.clone() })?;
                at += 2;
            }
            other => return Err(refuse(other)),
        }
    }
    let (object, mut rest) = arguments[at..].split_first_mut().ok_or_else(|| refuse(""))?;
    let (objects, verbs): (&[&str], &[&str]) = match program {
        "ip" => (
            &["link", "addr", "address", "route", "rule", "neigh", "neighbour", "tunnel", "nexthop", "xfrm", "netns"],
            &["add", "del", "delete", "set", "replace", "change", "append", "prepend", "flush"],
        ),
        "tc" => (&["qdisc", "class", "filter"], &["add", "del", "delete", "replace", "change"]),
        _ => (&["link", "fdb", "vlan", "mdb"], &["add", "del", "set", "append", "replace"]),
    };
    if !objects.contains(&object.as_str()) {
        return Err(refuse(object));
    }
    if object == "xfrm" {
        let (kind, more) = rest.split_first_mut().ok_or_else(|| refuse("xfrm"))?;
        if !matches!(kind.as_str(), "policy" | "state") {
            return Err(refuse(kind));
        }
        rest = more;
    }
    let (verb, words) = rest.split_first_mut().ok_or_else(|| refuse(object))?;
    if !verbs.contains(&verb.as_str()) || program == "tc" && object == "filter" && !verb.starts_with("del") {
        return Err(refuse(verb));
    }
    if object == "netns" {
        return match (verb.as_str(), &*words) {
            ("add", [name]) if super::super::plain::is_name(name) => {
                Ok(Made { netns: Some(name.clone()), devices: Vec::new() })
            }
            _ => Err(refuse("netns")),
        };
    }
    let mut made = Made::default();
    if object == "link" && verb == "add" {
        made.devices = named(words);
    }
    let device = |word: &str, made: &Made| {
        let is_there = known.device(word) || made.devices.iter().any(|made| made == word);
        if is_there { Ok(()) } else { Err(Refusal::Device { device: word.to_owned() }) }
    };
    if object == "link"
        && matches!(verb.as_str(), "set" | "del" | "delete" | "change")
        && let Some(first) = words.first().filter(|first| !matches!(first.as_str(), "dev" | "group"))
    {
        device(first, &made)?;
    }
    let subject = words.iter().find(|word| *word != "dev").cloned();
    let mut before = String::new();
    for word in words.iter_mut() {
        match before.as_str() {
            "netns" => {
                *word = known.netns(word).ok_or_else(|| Refusal::Netns { netns: word.clone() })?;
                // It is there from now on.
                made.devices.extend(subject.clone());
            }
            "dev" | "master" => device(word, &made)?,
            "xdp" | "xdpgeneric" | "xdpdrv" | "xdpoffload" if word != "off" => return Err(refuse(word)),
            _ => {}
        }
        if matches!(word.as_str(), "encap" | "exec") || word.starts_with("obj") || word.starts_with("pin") {
            return Err(refuse(word));
        }
        before.clone_from(word);
    }
    Ok(made)
}

/// Devices that `ip link add` makes: the first word unless it is a keyword, and what stands behind `name`.
fn named(words: &[String]) -> Vec<String> {
    let first = words.first().filter(|first| !matches!(first.as_str(), "link" | "name" | "dev" | "type" | "index"));
    let behind = words.windows(2).filter(|pair| matches!(pair[0].as_str(), "name" | "dev"));
    // `dev` behind `type` is the lower device of a tunnel.
    let kind = words.iter().position(|word| word == "type").unwrap_or(words.len());
    let behind =
        behind.enumerate().filter(|(at, pair)| pair[0] == "name" || *at < kind).map(|(_, pair)| pair[1].clone());
    first.cloned().into_iter().chain(behind).collect()
}

fn sysctl(arguments: &[String]) -> Option<&str> {
    let allowed = |word: &str| match word.split_once('=') {
        None => matches!(word, "-w" | "-q" | "-qw"),
        Some((key, value)) => {
            ["net.ipv4.", "net.ipv6.", "net.bridge.", "net.netfilter."].iter().any(|start| key.starts_with(start))
                && value.chars().all(|c| c.is_ascii_alphanumeric() || " .,:-".contains(c))
        }
    };
    arguments.iter().map(String::as_str).find(|word| !allowed(word))
}

fn nft(arguments: &[String]) -> Option<&str> {
    let verb = arguments.first().map_or("", String::as_str);
    if !matches!(verb, "add" | "insert" | "replace" | "delete" | "create") {
        return Some(verb);
    }
    let mut words = arguments.iter().map(String::as_str);
    words.find(|word| word.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|token| token == "include"))
}

fn vsctl(segment: &[String]) -> Option<&str> {
    let mut words = segment.iter().map(String::as_str);
    let verb = words.find(|word| !matches!(*word, "--if-exists" | "--may-exist"))?;
    let good = match verb {
        "add-port" | "del-port" | "add-br" | "del-br" => true,
        "set" | "clear" | "remove" | "add" => {
            let table = words.clone().next().unwrap_or_default().to_ascii_lowercase();
            matches!(table.as_str(), "port" | "interface" | "bridge")
        }
        _ => false,
    };
    if good { words.find(|word| word.starts_with('-')) } else { Some(verb) }
}

fn ofctl(arguments: &[String]) -> Option<&str> {
    let mut words = arguments.iter().map(String::as_str).filter(|word| *word != "--strict");
    let verb = words.next().unwrap_or_default();
    if !matches!(verb, "add-flow" | "del-flows" | "mod-flows") {
        return Some(verb);
    }
    // `tcp:…`, `unix:…` or a socket's path would be another switch.
    let bridge = words.next().unwrap_or_default();
    if bridge.contains([':', '/']) { Some(bridge) } else { words.find(|word| word.starts_with('-')) }
}
