//! Rule sets that the kernel and the evaluator are both asked about. Each is a shell script for the router `r`.
//!
//! `a` is 10.0.1.2 and fd00:1::2 behind the router's device `ra`; `b` is 10.0.2.2 and fd00:2::2 behind `rb`.

/// A rule set.
pub struct Case {
    /// What it is about.
    pub name: &'static str,
    /// Run by `sh -e` in the router's namespace.
    pub script: &'static str,
    /// Whether some probe cannot be decided: it depends on chance or on something that the evaluator does not know.
    pub undecided: bool,
}

const fn case(name: &'static str, script: &'static str) -> Case {
    Case { name, script, undecided: false }
}

const fn open(name: &'static str, script: &'static str) -> Case {
    Case { name, script, undecided: true }
}

/// All of them.
pub const CASES: &[Case] = &[
    case("nothing", ""),
    case("iptables forward policy", "iptables -P FORWARD DROP"),
    case(
        "iptables stateful forward",
        "iptables -P FORWARD DROP; iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A FORWARD -i ra -p icmp -j ACCEPT",
    ),
    case(
        "iptables input echo only",
        "iptables -P INPUT DROP; iptables -A INPUT -p icmp --icmp-type echo-request -j ACCEPT; iptables -A INPUT -p icmp --icmp-type 0/0 -j ACCEPT",
    ),
    case("iptables input without replies", "iptables -P INPUT DROP; iptables -A INPUT -p icmp --icmp-type 8 -j ACCEPT"),
    case("iptables output drop", "iptables -A OUTPUT -p icmp ! -d 10.0.1.0/24 -j DROP"),
    case(
        "iptables reject",
        "iptables -A FORWARD -p tcp --dport 8080 -j REJECT --reject-with tcp-reset; iptables -A FORWARD -p icmp -j REJECT",
    ),
    case("iptables interfaces", "iptables -A FORWARD -i ra -o rb -p icmp -j DROP"),
    case(
        "iptables interface wildcard",
        "iptables -A FORWARD -i r+ -o xx+ -j DROP; iptables -A FORWARD ! -i ra+ -p icmp -j DROP",
    ),
    case("iptables negated output at input", "iptables -A INPUT ! -i rb -p icmp -j DROP"),
    case("iptables multiport", "iptables -A FORWARD -p tcp -m multiport --dports 22,8000:9000 -j DROP"),
    case(
        "iptables multiport negated",
        "iptables -A FORWARD -p tcp -m multiport ! --dports 22,80 -j DROP; iptables -A FORWARD -p udp -m multiport --sports 1:100 -j DROP",
    ),
    case("iptables iprange", "iptables -A FORWARD -m iprange --src-range 10.0.1.1-10.0.1.9 -p icmp -j DROP"),
    case("iptables iprange negated", "iptables -A FORWARD -m iprange ! --dst-range 10.0.2.1-10.0.2.9 -j DROP"),
    case("iptables odd mask", "iptables -A FORWARD -s 10.0.1.0/255.0.255.0 -p icmp -j DROP"),
    case(
        "iptables mark across tables",
        "iptables -t mangle -A PREROUTING -p icmp -j MARK --set-mark 0x10/0xf0; iptables -A FORWARD -m mark --mark 0x10/0x10 -j DROP",
    ),
    case(
        "iptables mark not",
        "iptables -t mangle -A PREROUTING -p tcp -j MARK --set-mark 7; iptables -A FORWARD -m mark ! --mark 7 -j DROP",
    ),
    case(
        "iptables or and xor mark",
        "iptables -t mangle -A PREROUTING -j MARK --or-mark 0x4000; iptables -t mangle -A PREROUTING -p icmp -j MARK --xor-mark 0x4001; iptables -A FORWARD -m mark --mark 0x1/0x1 -j DROP",
    ),
    case(
        "iptables connmark",
        "iptables -t mangle -A PREROUTING -p icmp --icmp-type 8 -j CONNMARK --set-mark 9; iptables -t mangle -A PREROUTING -j CONNMARK --restore-mark; iptables -A FORWARD -i ra -m mark --mark 9 -j DROP",
    ),
    case(
        "iptables save mark",
        "iptables -t mangle -A PREROUTING -i ra -p tcp -j MARK --set-mark 3; iptables -t mangle -A PREROUTING -i ra -j CONNMARK --save-mark; iptables -A FORWARD -m connmark --mark 3 -j DROP",
    ),
    case(
        "iptables chain jump and return",
        "iptables -N A; iptables -N B; iptables -A FORWARD -j A; iptables -A FORWARD -p icmp -j DROP; iptables -A A -p icmp -s 10.0.2.2 -j B; iptables -A A -p tcp -j RETURN; iptables -A A -p tcp -j DROP; iptables -A B -j ACCEPT",
    ),
    case(
        "iptables goto",
        "iptables -N A; iptables -N B; iptables -A FORWARD -j A; iptables -A FORWARD -p tcp -j DROP; iptables -A A -g B; iptables -A A -j DROP; iptables -A B -p icmp -j ACCEPT",
    ),
    case(
        "iptables return in base chain",
        "iptables -P FORWARD DROP; iptables -A FORWARD -p icmp -j RETURN; iptables -A FORWARD -j ACCEPT",
    ),
    case(
        "iptables addrtype",
        "iptables -A INPUT -m addrtype --dst-type LOCAL -p icmp -j DROP; iptables -A FORWARD -m addrtype --dst-type LOCAL -j DROP",
    ),
    case("iptables addrtype negated", "iptables -t raw -A PREROUTING -m addrtype ! --dst-type LOCAL -p icmp -j DROP"),
    case("iptables raw drop", "iptables -t raw -A PREROUTING -i ra -p icmp -j DROP"),
    case(
        "iptables notrack",
        "iptables -t raw -A PREROUTING -p icmp -j CT --notrack; iptables -A FORWARD -m conntrack --ctstate UNTRACKED -j DROP",
    ),
    case(
        "iptables notrack loses replies",
        "iptables -t raw -A PREROUTING -i rb -p icmp -j CT --notrack; iptables -P FORWARD DROP; iptables -A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
    ),
    case("iptables invalid in raw", "iptables -t raw -A PREROUTING -m conntrack --ctstate INVALID -p icmp -j DROP"),
    case("iptables state new only", "iptables -P FORWARD DROP; iptables -A FORWARD -m state --state NEW -j ACCEPT"),
    case("iptables state not", "iptables -A FORWARD -m conntrack ! --ctstate ESTABLISHED,RELATED -p icmp -j DROP"),
    case("iptables direction", "iptables -A FORWARD -m conntrack --ctdir REPLY -p icmp -j DROP"),
    case("iptables original destination", "iptables -A FORWARD -m conntrack --ctorigdst 10.0.2.2 -p icmp -j DROP"),
    case(
        "iptables dnat state",
        "iptables -t nat -A PREROUTING -d 10.0.1.1 -p icmp -j DNAT --to-destination 10.0.2.2; iptables -P FORWARD DROP; iptables -A FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
    ),
    case(
        "iptables masquerade",
        "iptables -t nat -A POSTROUTING -o rb -j MASQUERADE; iptables -A FORWARD -d 10.0.1.0/24 -s 10.0.2.2 -m conntrack --ctstate ESTABLISHED -j ACCEPT; iptables -A FORWARD -i rb -j DROP",
    ),
    case(
        "iptables snat and filter",
        "iptables -t nat -A POSTROUTING -s 10.0.1.2 -j SNAT --to-source 10.0.2.1; iptables -t mangle -A POSTROUTING -s 10.0.1.2 -p tcp -j DROP",
    ),
    case(
        "iptables dnat port",
        "iptables -t nat -A PREROUTING -d 10.0.2.2 -p tcp --dport 8080 -j DNAT --to-destination :22; iptables -A FORWARD -p tcp --dport 8080 -j DROP",
    ),
    case(
        "iptables redirect",
        "iptables -t nat -A PREROUTING -i ra -d 10.0.2.2 -p icmp -j REDIRECT; iptables -A INPUT -d 10.0.1.1 -p icmp -j DROP",
    ),
    case("iptables netmap", "iptables -t nat -A PREROUTING -i ra -d 10.0.1.0/24 -j NETMAP --to 10.0.2.0/24"),
    case(
        "iptables output dnat",
        "iptables -t nat -A OUTPUT -d 10.0.2.2 -p icmp -j DNAT --to-destination 10.0.1.2; iptables -A INPUT -s 10.0.1.2 -p icmp -j DROP",
    ),
    case(
        "iptables nat sees the first packet only",
        "iptables -t nat -A POSTROUTING -m conntrack --ctstate ESTABLISHED -j MASQUERADE",
    ),
    case(
        "iptables log and comment",
        "iptables -A FORWARD -p icmp -m comment --comment 'a \"quoted\" -j ACCEPT' -j LOG --log-prefix 'x y '; iptables -A FORWARD -p icmp -m comment --comment 'drop it' -j DROP",
    ),
    case("iptables tcp flags", "iptables -A FORWARD -p tcp ! --syn -j DROP"),
    case("iptables syn drop", "iptables -A FORWARD -p tcp --tcp-flags SYN,ACK SYN -j DROP"),
    case(
        "iptables length",
        "iptables -A FORWARD -p icmp -m length --length 0:83 -j DROP; iptables -A FORWARD -p icmp -m length --length 84 -i ra -j DROP",
    ),
    case("iptables ttl", "iptables -A FORWARD -p icmp -m ttl --ttl-lt 64 -j DROP"),
    case(
        "iptables pkttype",
        "iptables -A INPUT -m pkttype --pkt-type broadcast -j DROP; iptables -A INPUT -m pkttype --pkt-type unicast -p icmp -j DROP",
    ),
    case("iptables mac", "iptables -A FORWARD -m mac --mac-source 02:00:00:00:01:02 -p icmp -j DROP"),
    case("iptables owner", "iptables -A OUTPUT -m owner --uid-owner 0 -p icmp -j DROP"),
    case("iptables owner, not", "iptables -A OUTPUT -m owner ! --uid-owner 1 -p icmp -j DROP"),
    case(
        "iptables limit",
        "iptables -P FORWARD DROP; iptables -A FORWARD -m limit --limit 100/s --limit-burst 1000 -j ACCEPT",
    ),
    case(
        "iptables hashlimit",
        "iptables -A FORWARD -p icmp -m hashlimit --hashlimit-above 1000/s --hashlimit-name x -j DROP",
    ),
    case(
        "iptables statistic certain",
        "iptables -A FORWARD -p icmp -m statistic --mode nth --every 2 --packet 0 -j DROP; iptables -A FORWARD -p icmp -j DROP",
    ),
    open("iptables statistic", "iptables -A FORWARD -p icmp -m statistic --mode nth --every 2 --packet 0 -j DROP"),
    open("iptables u32", "iptables -A FORWARD -p icmp -m u32 --u32 '0>>22&0x3C@0>>24=8' -j DROP"),
    open("iptables string", "iptables -A FORWARD -p icmp -m string --algo bm --hex-string '|1011|' -j DROP"),
    open(
        "iptables recent",
        "iptables -A FORWARD -p icmp -m recent --name x --set -j ACCEPT; iptables -A FORWARD -p icmp -j DROP",
    ),
    case(
        "iptables unknown match that does not matter",
        "iptables -A FORWARD -p udp -m u32 --u32 '0=1' -j DROP; iptables -A FORWARD -p icmp -j DROP; iptables -D FORWARD -p udp -m u32 --u32 '0=1' -j DROP",
    ),
    case("ip6tables forward", "ip6tables -A FORWARD -p icmpv6 --icmpv6-type echo-request -j DROP"),
    case("ip6tables policy", "ip6tables -P FORWARD DROP; ip6tables -A FORWARD -s fd00:1::/64 -j ACCEPT"),
    case(
        "ip6tables stateful",
        "ip6tables -P FORWARD DROP; ip6tables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT; ip6tables -A FORWARD -i ra -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT",
    ),
    case(
        "ip6tables masquerade",
        "ip6tables -t nat -A POSTROUTING -o rb -j MASQUERADE; ip6tables -A FORWARD -i rb ! -d fd00:1::2 -j DROP",
    ),
    case("legacy forward", "iptables-legacy -A FORWARD -p icmp -j DROP"),
    case("legacy raw", "iptables-legacy -t raw -A PREROUTING -i ra -p icmp -j DROP"),
    case(
        "legacy mangle mark, nft reads it",
        "iptables-legacy -t mangle -A PREROUTING -p icmp -j MARK --set-mark 5; nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c meta mark 5 counter drop'",
    ),
    case(
        "legacy policy and nft accept",
        "iptables-legacy -P FORWARD DROP; nft 'add table inet t; add chain inet t c { type filter hook forward priority -10; }; add rule inet t c counter accept'",
    ),
    case(
        "both back ends",
        "iptables -A FORWARD -p tcp --dport 22 -j DROP; iptables-legacy -A FORWARD -p tcp --dport 8080 -j DROP",
    ),
    case(
        "legacy nat",
        "iptables-legacy -t nat -A PREROUTING -d 10.0.1.1 -p icmp -j DNAT --to-destination 10.0.2.2; iptables-legacy -A FORWARD -d 10.0.2.2 -i ra -p icmp -j DROP",
    ),
    case(
        "docker's chains",
        "iptables -P FORWARD DROP; iptables -N DOCKER; iptables -N DOCKER-USER; iptables -N DOCKER-ISOLATION-STAGE-1; iptables -N DOCKER-ISOLATION-STAGE-2; iptables -A FORWARD -j DOCKER-USER; iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1; iptables -A FORWARD -o ra -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A FORWARD -o ra -j DOCKER; iptables -A FORWARD -i ra ! -o ra -j ACCEPT; iptables -A DOCKER -d 10.0.1.2/32 ! -i ra -o ra -p tcp --dport 8080 -j ACCEPT; iptables -A DOCKER-ISOLATION-STAGE-1 -i ra ! -o ra -j DOCKER-ISOLATION-STAGE-2; iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN; iptables -A DOCKER-ISOLATION-STAGE-2 -o rb -p tcp --dport 22 -j DROP; iptables -A DOCKER-ISOLATION-STAGE-2 -j RETURN; iptables -A DOCKER-USER -j RETURN",
    ),
    case(
        "kube-proxy's chains",
        "iptables -t nat -N KUBE-SERVICES; iptables -t nat -N KUBE-SVC-X; iptables -t nat -N KUBE-SEP-X; iptables -t nat -N KUBE-MARK-MASQ; iptables -t nat -N KUBE-POSTROUTING; iptables -t nat -A PREROUTING -j KUBE-SERVICES; iptables -t nat -A OUTPUT -j KUBE-SERVICES; iptables -t nat -A POSTROUTING -j KUBE-POSTROUTING; iptables -t nat -A KUBE-SERVICES -d 10.0.1.1/32 -p icmp -j KUBE-SVC-X; iptables -t nat -A KUBE-SVC-X ! -s 10.9.0.0/16 -j KUBE-MARK-MASQ; iptables -t nat -A KUBE-SVC-X -j KUBE-SEP-X; iptables -t nat -A KUBE-SEP-X -s 10.0.2.2/32 -j KUBE-MARK-MASQ; iptables -t nat -A KUBE-SEP-X -p icmp -j DNAT --to-destination 10.0.2.2; iptables -t nat -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000; iptables -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN; iptables -t nat -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0; iptables -t nat -A KUBE-POSTROUTING -j MASQUERADE; iptables -A FORWARD -s 10.0.1.2 -d 10.0.1.0/24 -j DROP",
    ),
    case(
        "nft forward drop",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip protocol icmp counter drop'",
    ),
    case(
        "nft policy with states",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; policy drop; }; add rule inet t c ct state established,related accept; add rule inet t c iifname \"ra\" meta l4proto { icmp, ipv6-icmp } accept; add rule inet t c tcp dport { 22, 8000-8079 } accept'",
    ),
    case(
        "nft state vmap",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; policy drop; }; add rule inet t c ct state vmap { established : accept, new : accept, invalid : drop }'",
    ),
    case(
        "nft state not equal",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ct state != established counter drop'",
    ),
    case(
        "nft state negated bits",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ct state ! new,related counter drop'",
    ),
    case(
        "nft state set",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ct state { established } ip protocol icmp counter drop'",
    ),
    case(
        "nft before conntrack",
        "nft 'add table inet t; add chain inet t c { type filter hook prerouting priority -300; }; add rule inet t c ct state invalid ip protocol icmp counter drop; add rule inet t c ct state new drop'",
    ),
    case(
        "nft before conntrack, status",
        "nft 'add table inet t; add chain inet t c { type filter hook prerouting priority -250; }; add rule inet t c ct status != dnat ip protocol icmp counter drop; add rule inet t c ct direction original counter drop'",
    ),
    case(
        "nft named sets",
        "nft 'add table inet t; add set inet t s { type ipv4_addr; flags interval; elements = { 10.0.1.0/28, 10.9.0.1-10.9.0.9 } }; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip saddr @s ip protocol icmp counter drop'",
    ),
    case(
        "nft named set negated",
        "nft 'add table inet t; add set inet t s { type ipv4_addr; elements = { 10.0.1.2 } }; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip saddr != @s counter drop'",
    ),
    case(
        "nft concatenation",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; policy drop; }; add rule inet t c ct state established accept; add rule inet t c ip saddr . tcp dport { 10.0.1.2 . 8080, 10.0.1.3 . 22 } accept'",
    ),
    case(
        "nft concatenation of intervals",
        "nft 'add table inet t; add set inet t s { type ipv4_addr . inet_service; flags interval; elements = { 10.0.1.0/24 . 8000-9000 } }; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip saddr . tcp dport @s counter drop'",
    ),
    case(
        "nft l4proto concatenation",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip daddr . meta l4proto . th dport { 10.0.2.2 . tcp . 22, 10.0.2.2 . udp . 5353 } counter drop'",
    ),
    case(
        "nft verdict map by device",
        "nft 'add table inet t; add chain inet t in; add chain inet t out; add chain inet t c { type filter hook forward priority 0; }; add rule inet t in ip protocol icmp counter drop; add rule inet t out return; add rule inet t c iifname vmap { \"ra\" : jump in, \"rb\" : goto out }; add rule inet t c tcp dport 22 counter drop'",
    ),
    case(
        "nft verdict map with wildcard",
        "nft 'add table inet t; add map inet t m { type ifname : verdict; flags interval; elements = { \"r*\" : drop } }; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c iifname vmap @m'",
    ),
    case(
        "nft jump, goto, return",
        "nft 'add table ip t; add chain ip t x; add chain ip t y; add chain ip t c { type filter hook forward priority 0; policy drop; }; add rule ip t x ip protocol tcp goto y; add rule ip t x ip protocol icmp return; add rule ip t x accept; add rule ip t y tcp dport 8080 accept; add rule ip t y tcp sport 8080 accept; add rule ip t c jump x; add rule ip t c ip saddr 10.0.2.2 accept'",
    ),
    case(
        "nft later chain drops",
        "nft 'add table inet t; add chain inet t a { type filter hook forward priority -5; }; add chain inet t b { type filter hook forward priority 5; policy drop; }; add rule inet t a accept; add rule inet t b ip protocol != icmp accept'",
    ),
    case(
        "nft equal priorities",
        "nft 'add table inet t; add chain inet t a { type filter hook forward priority 0; }; add chain inet t b { type filter hook forward priority 0; }; add rule inet t a ip protocol icmp counter drop; add rule inet t b ip protocol icmp counter drop'",
    ),
    case(
        "nft equal priorities, two tables",
        "nft 'add table ip u; add chain ip u a { type filter hook forward priority 0; }; add table ip t; add chain ip t a { type filter hook forward priority 0; }; add rule ip u a ip protocol icmp counter drop; add rule ip t a ip protocol icmp counter drop'",
    ),
    case(
        "nft device names",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c iifname \"ra\" oifname != \"rb\" drop; add rule inet t c iifname { \"x\", \"rb*\" } icmp type echo-reply counter drop'",
    ),
    case(
        "nft device index",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c iif \"ra\" oif \"rb\" ip protocol icmp counter drop; add rule inet t c iif != \"ra\" tcp sport 22 counter drop'",
    ),
    case(
        "nft output device at input",
        "nft 'add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c oifname != \"x\" ip protocol icmp ip saddr 10.0.1.2 counter drop'",
    ),
    case(
        "nft device kind",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c meta iifkind \"veth\" ip protocol icmp counter drop; add rule inet t c meta iifkind \"bridge\" drop'",
    ),
    case(
        "nft mark and connection mark",
        "nft 'add table inet t; add chain inet t p { type filter hook prerouting priority mangle; }; add chain inet t c { type filter hook forward priority 0; }; add rule inet t p icmp type echo-request meta mark set 0x21; add rule inet t p meta mark & 0xf0 == 0x20 ct mark set meta mark or 0x100; add rule inet t c ct mark & 0x100 == 0x100 ct direction reply counter drop'",
    ),
    case(
        "nft mark from map",
        "nft 'add table inet t; add chain inet t p { type filter hook prerouting priority mangle; }; add chain inet t c { type filter hook forward priority 0; }; add rule inet t p meta mark set ip saddr map { 10.0.1.2 : 5, 10.0.2.2 : 6 }; add rule inet t c meta mark 6 ip protocol icmp counter drop'",
    ),
    case(
        "nft icmp fields",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c icmp type { echo-reply, echo-request } icmp code 0 counter drop'",
    ),
    case(
        "nft icmp type and code",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c icmp type . icmp code { echo-request . 0 } counter drop; add rule inet t c icmpv6 type echo-reply counter drop'",
    ),
    case(
        "nft hidden dependency",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c tcp dport != 22 counter drop; add rule inet t c ip6 saddr != fd00:1::2 counter drop'",
    ),
    case(
        "nft family ip6",
        "nft 'add table ip6 t; add chain ip6 t c { type filter hook forward priority 0; policy drop; }; add rule ip6 t c ip6 saddr fd00:1::/64 accept'",
    ),
    case(
        "nft nfproto",
        "nft 'add table inet t; add chain inet t v4; add chain inet t c { type filter hook forward priority 0; }; add rule inet t v4 ip protocol icmp counter drop; add rule inet t c meta nfproto vmap { ipv4 : jump v4, ipv6 : accept }; add rule inet t c meta nfproto ipv6 drop'",
    ),
    case(
        "nft masked address",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip saddr & 255.255.0.255 == 10.0.0.2 ip protocol icmp counter drop'",
    ),
    case(
        "nft raw payload",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c meta nfproto ipv4 @nh,72,8 1 @th,0,8 0 counter drop'",
    ),
    case(
        "nft ttl",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip ttl < 64 icmp type echo-request counter drop'",
    ),
    case(
        "nft length",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip length 84 icmp type echo-reply counter drop; add rule inet t c meta length > 5000 drop'",
    ),
    case(
        "nft tcp flags",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c tcp flags & (syn | ack) == syn tcp dport 22 counter drop; add rule inet t c tcp flags != syn tcp sport 8080 counter drop'",
    ),
    case(
        "nft tcp flags any",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c tcp flags rst,syn counter drop'",
    ),
    case(
        "nft th ports",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c meta l4proto { tcp, udp } th dport { 22, 5353 } counter drop'",
    ),
    case(
        "nft th on icmp",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c meta nfproto ipv4 th sport 2048 counter drop'",
    ),
    case(
        "nft esp does not concern icmp",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c esp spi != 5 drop; add rule inet t c sctp dport 5 drop'",
    ),
    open(
        "nft tcp option",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c tcp option maxseg size 1-10 drop'",
    ),
    case(
        "nft fib type",
        "nft 'add table inet t; add chain inet t c { type filter hook prerouting priority 0; }; add rule inet t c fib daddr type local ip protocol icmp counter drop'",
    ),
    case(
        "nft ether",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ether saddr 02:00:00:00:01:02 ip protocol icmp counter drop'",
    ),
    case(
        "nft pkttype",
        "nft 'add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c meta pkttype { broadcast, multicast } drop; add rule inet t c meta pkttype host ip saddr 10.0.1.2 counter drop'",
    ),
    case(
        "nft skuid",
        "nft 'add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c meta skuid 0 ip daddr 10.0.2.2 ip protocol icmp counter drop'",
    ),
    case(
        "nft limit",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; policy drop; }; add rule inet t c limit rate 1000/second accept'",
    ),
    case(
        "nft limit over",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c limit rate over 1000/second drop'",
    ),
    case(
        "nft quota",
        "nft 'add table inet t; add quota inet t q { over 100 mbytes }; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c quota name q drop; add rule inet t c quota over 50 mbytes drop'",
    ),
    case(
        "nft dynamic set with limit",
        "nft 'add table inet t; add set inet t d { type ipv4_addr; size 100; flags dynamic; }; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c add @d { ip saddr limit rate over 500/second } drop; add rule inet t c update @d { ip saddr } counter accept'",
    ),
    open(
        "nft numgen",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip protocol icmp numgen inc mod 2 vmap { 0 : drop, 1 : accept }'",
    ),
    case(
        "nft reject",
        "nft 'add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ip protocol icmp counter reject with icmp type admin-prohibited; add rule inet t c meta l4proto tcp counter reject with tcp reset'",
    ),
    case(
        "nft notrack",
        "nft 'add table inet t; add chain inet t p { type filter hook prerouting priority raw; }; add chain inet t c { type filter hook forward priority 0; }; add rule inet t p ip protocol icmp notrack; add rule inet t c ct state untracked icmp type echo-reply counter drop'",
    ),
    case(
        "nft masquerade",
        "nft 'add table ip n; add chain ip n p { type nat hook postrouting priority srcnat; }; add rule ip n p oifname \"rb\" masquerade; add chain ip n c { type filter hook forward priority 0; }; add rule ip n c ip saddr 10.0.2.2 ip daddr != 10.0.1.2 counter drop'",
    ),
    case(
        "nft masquerade elsewhere",
        "nft 'add table ip n; add chain ip n p { type nat hook postrouting priority srcnat; }; add rule ip n p oifname \"eth9\" masquerade'",
    ),
    case(
        "nft dnat map",
        "nft 'add table ip n; add chain ip n p { type nat hook prerouting priority dstnat; }; add rule ip n p dnat to ip daddr map { 10.0.1.1 : 10.0.2.2 }; add chain ip n c { type filter hook forward priority 0; }; add rule ip n c ct original ip daddr 10.0.1.1 ip protocol icmp counter drop'",
    ),
    case(
        "nft dnat with port map",
        "nft 'add table ip n; add map ip n m { type ipv4_addr . inet_service : ipv4_addr . inet_service; elements = { 10.0.2.2 . 8080 : 10.0.2.2 . 22 } }; add chain ip n p { type nat hook prerouting priority dstnat; }; add rule ip n p meta l4proto tcp dnat ip to ip daddr . tcp dport map @m; add chain ip n c { type filter hook forward priority 0; }; add rule ip n c tcp dport 22 counter drop'",
    ),
    case(
        "nft redirect",
        "nft 'add table ip n; add chain ip n p { type nat hook prerouting priority dstnat; }; add rule ip n p iifname \"ra\" ip protocol icmp redirect; add chain ip n c { type filter hook input priority 0; }; add rule ip n c ip daddr 10.0.1.1 counter drop'",
    ),
    case(
        "nft nat priority does not matter",
        "nft 'add table ip n; add chain ip n p { type nat hook prerouting priority -150; }; add rule ip n p ip daddr 10.0.1.1 ip protocol icmp dnat to 10.0.2.2; add chain ip n c { type filter hook prerouting priority -120; }; add rule ip n c ip daddr 10.0.1.1 ip protocol icmp counter drop'",
    ),
    case(
        "nft drop in a nat chain, tracked",
        "nft 'add table ip n; add chain ip n p { type nat hook prerouting priority dstnat; }; add rule ip n p ct state new ip protocol icmp counter drop'",
    ),
    case(
        "nft drop in a nat chain, not tracked",
        "nft 'add table ip n; add chain ip n p { type nat hook prerouting priority dstnat; }; add rule ip n p ip protocol icmp counter drop'",
    ),
    case(
        "nft change of destination",
        "nft 'add table ip n; add chain ip n c { type filter hook forward priority 0; }; add rule ip n c ip ttl set 5; add rule ip n c ip ttl 5 icmp type echo-reply counter drop'",
    ),
    case(
        "nft dormant table",
        "nft 'add table inet t { flags dormant; }; add chain inet t c { type filter hook forward priority 0; policy drop; }'",
    ),
    case(
        "nft ingress",
        "nft 'add table netdev t; add chain netdev t c { type filter hook ingress device \"ra\" priority 0; }; add rule netdev t c ip protocol icmp counter drop'",
    ),
    case(
        "nft ingress of another device",
        "nft 'add table netdev t; add chain netdev t c { type filter hook ingress device \"lo\" priority 0; policy drop; }'",
    ),
    case(
        "nft inet ingress",
        "nft 'add table inet t; add chain inet t c { type filter hook ingress device \"rb\" priority 0; }; add rule inet t c icmp type echo-reply counter drop'",
    ),
    case(
        "nft egress",
        "nft 'add table netdev t; add chain netdev t c { type filter hook egress device \"rb\" priority 0; }; add rule netdev t c ip daddr 10.0.2.2 icmp type echo-request counter drop'",
    ),
    case(
        "nft firewalld-like",
        "nft 'add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority filter + 10; policy accept; }; add chain inet firewalld zones; add chain inet firewalld public; add chain inet firewalld trusted; add rule inet firewalld filter_FORWARD ct state { established, related } accept; add rule inet firewalld filter_FORWARD ct status dnat accept; add rule inet firewalld filter_FORWARD iifname \"lo\" accept; add rule inet firewalld filter_FORWARD ct state invalid drop; add rule inet firewalld filter_FORWARD jump zones; add rule inet firewalld filter_FORWARD counter reject with icmpx admin-prohibited; add rule inet firewalld zones iifname \"ra\" goto trusted; add rule inet firewalld zones goto public; add rule inet firewalld trusted accept; add rule inet firewalld public meta l4proto { icmp, ipv6-icmp } accept'",
    ),
    case(
        "ufw-like",
        "iptables -P INPUT DROP; iptables -P FORWARD DROP; iptables -N ufw-before-input; iptables -N ufw-user-input; iptables -N ufw-before-forward; iptables -N ufw-not-local; iptables -A INPUT -j ufw-before-input; iptables -A FORWARD -j ufw-before-forward; iptables -A ufw-before-input -i lo -j ACCEPT; iptables -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A ufw-before-input -m conntrack --ctstate INVALID -j DROP; iptables -A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT; iptables -A ufw-before-input -j ufw-not-local; iptables -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN; iptables -A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j LOG; iptables -A ufw-not-local -j DROP; iptables -A ufw-before-input -j ufw-user-input; iptables -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT",
    ),
];
