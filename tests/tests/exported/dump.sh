# Everything that a command could change in the network namespaces under /run/netns and in the own one, as text. Each line
# begins with its namespace. What moves by itself is left out: counters, timers, ages, what a state machine of the kernel
# goes through (neighbours, spanning tree, duplicate address detection), entries that a bridge has learned, and link-local
# neighbours, of whom hosts and routers hear by themselves.
one() {
  {
    ip -d -o link show | sed -E 's/[a-z_]*timer +[0-9.]+//g; s/gc_timer.*ageing/ageing/; s/topology_change[a-z_]* [0-9]//g; s/ state [A-Z]+ / /g; s/NO-CARRIER,//; s/,LOWER_UP//; s/,M-DOWN//; s/ (state|port) (listening|learning|forwarding|blocking|disabled) / /g; s/root_(port|path_cost|id) [^ ]+//g; s/designated_(root|cost|bridge|port) [^ ]+//g; s/[^ ]*mcast_flood_always//; s/config_pending [0-9]//g'
    ip -o addr show | sed -E 's/ (tentative|dynamic|optimistic|dadfailed)//g; s/valid_lft.*//' | grep -vE ' inet6 fe80:.* scope link '
    ip -4 rule show; ip -6 rule show
    ip -4 -d route show table all | grep -v ' cache ' | sed -E 's/ (linkdown|dead)//g'
    ip -6 -d route show table all | grep -vE ' cache |^multicast |fe80|^anycast ' | sed -E 's/ expires [0-9]+sec//; s/ (linkdown|dead)//g'
    bridge fdb show 2>/dev/null | grep -E 'permanent|static' | grep -vE '(33:33|01:00:5e):'
    bridge vlan show 2>/dev/null
    bridge -d link show 2>/dev/null | sed -E 's/ state [a-z]+//g'
    tc qdisc show
    for dev in $(tc qdisc show | sed -nE 's/^qdisc (clsact|ingress) .* dev ([^ ]+) .*/\2/p'); do
      tc filter show dev "$dev" ingress; tc filter show dev "$dev" egress
    done
    nft -s list ruleset 2>/dev/null
    [ ! -s /proc/net/ip_tables_names ] || iptables-legacy-save 2>/dev/null | grep -v '^#' | sed -E 's/\[[0-9:]+\]//g'
    [ ! -s /proc/net/ip6_tables_names ] || ip6tables-legacy-save 2>/dev/null | grep -v '^#' | sed -E 's/\[[0-9:]+\]//g'
    ip xfrm policy show 2>/dev/null
    sysctl -a 2>/dev/null | grep -E '^net\.' | grep -vE 'nf_conntrack_count|nf_conntrack_buckets|ip_local_port_range'
    # A neighbour without its state, which changes by itself.
    ip neigh show nud all | grep -vE 'NOARP|PERMANENT|^fe80:' | sed -E 's/^([^ ]+) dev ([^ ]+).*/neighbour \1 \2/'
    ip neigh show nud permanent | sed -E 's/ *(REACHABLE|STALE)//'
  } | sed "s/^/$1: /"
}
one .
for name in $(ls /run/netns 2>/dev/null); do
  [ "${name#.}" = "$name" ] || continue
  export -f one; ip netns exec "$name" bash -c "one $name"
done
ls -i /run/netns 2>/dev/null | sed 's/^/namespaces: /'
sed -E 's/^[0-9]+ [0-9]+ [^ ]+ //; s/^/mounts: /' /proc/self/mountinfo
