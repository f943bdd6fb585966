//! Names of devices in commands, as words that a shell takes as they are.
//!
//! A device may be called `a;b` or `$x`: of a name the kernel forbids only white space, `/` and `:` (`dev_valid_name`), and
//! whoever owns a container names the devices in it. A fix is pasted into a shell as root. So that no rule can forget to
//! quote, it is done here, for the commands of all of them: a word outside of quotes in which such a name stands as a whole
//! is quoted. Names of namespaces, chains and rules are quoted where they are written.

use crate::model::diagnosis::Fix;
use crate::model::snapshot::Snapshot;

use super::case::quote;

/// What may stand beside a name inside a word: `net.ipv4.conf.NAME.rp_filter=0`, `NAME,actions=drop`.
const BESIDE: &[char] = &['.', ',', '=', ':', '/'];

/// Names of devices that a shell does not take as they are.
pub fn odd_names(snapshot: &Snapshot) -> Vec<&str> {
    let links = snapshot.namespaces.iter().flat_map(|netns| &netns.links);
    let mut odd: Vec<&str> = links.map(|link| link.name.as_str()).filter(|name| quote(name) != *name).collect();
    odd.sort_unstable();
    odd.dedup();
    odd
}

/// Quotes these names in the fix's commands.
pub fn quote_names(fix: &mut Fix, odd: &[&str]) {
    if odd.is_empty() {
        return;
    }
    for command in fix.commands.iter_mut().chain(&mut fix.undo) {
        *command = quoted(command, odd);
    }
}

fn quoted(command: &str, odd: &[&str]) -> String {
    let mut done = String::with_capacity(command.len() + 8);
    let mut open: Option<char> = None;
    for (at, word) in command.split(' ').enumerate() {
        if at > 0 {
            done.push(' ');
        }
        let is_bare = open.is_none() && !word.contains(['\'', '"']);
        let names = |name: &&&str| holds(word, name);
        // A name that has a quote in it opens none.
        let named = open.is_none().then(|| odd.iter().find(names)).flatten();
        if named.is_some_and(|name| is_bare || name.contains(['\'', '"'])) {
            done.push_str(&quote(word));
            continue;
        }
        done.push_str(word);
        for letter in word.chars() {
            match (open, letter) {
                (None, '\'' | '"') => open = Some(letter),
                (Some(quote), letter) if quote == letter => open = None,
                _ => {}
            }
        }
    }
    done
}

/// Whether a name stands in a word as a whole.
fn holds(word: &str, name: &str) -> bool {
    word.match_indices(name).any(|(at, _)| {
        let (before, after) = (word[..at].chars().next_back(), word[at + name.len()..].chars().next());
        before.is_none_or(|letter| BESIDE.contains(&letter)) && after.is_none_or(|letter| BESIDE.contains(&letter))
    })
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_name_that_a_shell_would_run_is_a_word() {
        for (command, name, safe) in [
            ("ip -n mid link set m&1 up", "m&1", "ip -n mid link set 'm&1' up"),
            ("sysctl -w net.ipv4.conf.a;b.rp_filter=0", "a;b", "sysctl -w 'net.ipv4.conf.a;b.rp_filter=0'"),
            ("ovs-ofctl add-flow $x priority=0", "$x", "ovs-ofctl add-flow '$x' priority=0"),
            ("ip link set it's up", "it's", r"ip link set 'it'\''s' up"),
            ("ip link set \"q up", "\"q", "ip link set '\"q' up"),
        ] {
            assert_eq!(quoted(command, &[name]), safe);
        }
    }

    #[test]
    fn what_is_no_name_stays() {
        for command in [
            "nft delete rule ip nat post handle $(nft -a list chain ip nat post | sed -n 's/.*comment \"x\" # handle //p')",
            "sh -c 'ip link set ; up'",
            "ip link set eth0 up",
        ] {
            assert_eq!(quoted(command, &["$", ";", "(", "a;b"]), command);
        }
    }
}
