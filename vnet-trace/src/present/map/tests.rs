//! A host with a bridge, containers on it, and what hostile names do to the map.

use super::*;
use crate::model::id::NetnsId;
use crate::model::snapshot::{Address, BridgeInfo, Nexthop, PublishedPort, Route};
use crate::present::style::{Detail, Glyphs, Style};

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link {
        index: IfIndex(index),
        name: name.into(),
        kind,
        flags: 1,
        carrier: true,
        operstate: OperState::Up,
        mtu: 1500,
        ..Link::default()
    }
}

fn address(ifindex: u32, address: &str, prefix_len: u8) -> Address {
    Address {
        ifindex: IfIndex(ifindex),
        address: address.parse().unwrap(),
        prefix_len,
        peer: None,
        scope: 0,
        flags: 0x80,
    }
}

fn veth(index: u32, name: &str, peer: u32, netns: u32) -> Link {
    Link {
        link: Some(IfIndex(peer)),
        link_netns: Some(NetnsId(netns)),
        link_nsid: Some(netns as i32),
        ..link(index, name, LinkKind::Veth)
    }
}

/// A host with docker0 and as many containers as there are names.
fn host(names: &[String]) -> Snapshot {
    let lo = || Link { carrier: true, ..link(1, "lo", LinkKind::Loopback) };
    let mut own = Netns {
        name: ".".into(),
        links: vec![lo(), link(2, "docker0", LinkKind::Bridge(BridgeInfo::default()))],
        addresses: vec![address(1, "127.0.0.1", 8), address(2, "172.17.0.1", 16)],
        ..Netns::default()
    };
    let mut namespaces = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let (number, index) = (number as u32 + 1, number as u32 + 10);
        own.links.push(Link { master: Some(IfIndex(2)), ..veth(index, &format!("veth{number:07}"), 7, number) });
        namespaces.push(Netns {
            id: NetnsId(number),
            inode: u64::from(number),
            name: name.clone(),
            container: Some(Container {
                ports: vec![PublishedPort { protocol: "tcp".into(), host: None, host_port: 8080, port: 80 }],
                engine: "docker".into(),
                id: "0123".into(),
                name: name.clone(),
                networks: vec![("bridge".into(), "bridge".into())],
                pod: None,
            }),
            links: vec![lo(), veth(7, "eth0", index, 0)],
            addresses: vec![address(7, &format!("172.17.{}.{}", number / 200, number % 200 + 2), 16)],
            routes: vec![Route {
                table: 254,
                kind: RouteKind::Unicast,
                dst: "0.0.0.0/0".parse().unwrap(),
                src: None,
                tos: 0,
                scope: 0,
                protocol: 3,
                metric: 0,
                prefsrc: None,
                nexthops: vec![Nexthop {
                    oif: Some(IfIndex(7)),
                    gateway: Some("172.17.0.1".parse().unwrap()),
                    weight: 1,
                    ..Nexthop::default()
                }],
                mtu: None,
                nexthop_id: None,
                pref: 0,
                cached: false,
            }],
            ..Netns::default()
        });
    }
    namespaces.insert(0, own);
    Snapshot { namespaces, ..Snapshot::default() }
}

fn two() -> Snapshot {
    host(&["web".into(), "db".into()])
}

#[test]
fn a_tree_says_who_is_wired_to_whom() {
    let text = text::map(&Map::of(&two(), None), Style::default(), Detail::Normal);
    insta::assert_snapshot!("map-two-containers", text);
}

#[test]
fn a_way_is_marked() {
    let exchange = Exchange::request_received(&[(1, 7), (0, 10), (0, 2)]);
    let destination = "172.17.0.3".parse().unwrap();
    let map = Map::of(&two(), Some((destination, &exchange)));
    let text = text::map(&map, Style::default(), Detail::Normal);
    for line in ["  → docker0 ", "      → veth0000001 ", "  → eth0 ↔ here:veth0000001", "    eth0 ↔ here:veth0000002"]
    {
        assert!(text.contains(&format!("\n{line}")), "{line}\n{text}");
    }
    assert!(drawing::svg(&map).contains("class=\"wire way\""));
    assert_eq!(map.json()["namespaces"][1]["devices"][1]["way"], "passed");
}

#[test]
fn every_line_fits_into_80_columns_and_ascii_is_ascii() {
    let text = text::map(&Map::of(&two(), None), Style { glyphs: Glyphs::Ascii, ..Style::default() }, Detail::Full);
    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80), "{text}");
}

#[test]
fn a_picture_is_well_formed_whatever_the_names_are() {
    let names = ["<script>alert(1)</script>", "a&b\"c", "e\u{1b}[2J"].map(str::to_owned);
    let map = Map::of(&host(&names), None);
    let page = drawing::html(&map);
    assert!(!page.contains("<script") && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;script&gt;") && page.contains("a&amp;b&quot;c"));
    assert!(
        !page.contains("http://")
            || page.matches("http://").count() == page.matches("http://www.w3.org/2000/svg").count()
    );
}

#[test]
fn fifty_containers_have_a_row_each_and_no_two_boxes_overlap() {
    let names: Vec<String> = (0..50).map(|number| format!("container-{number}")).collect();
    let map = Map::of(&host(&names), None);
    let svg = drawing::svg(&map);
    assert_eq!(map.wires().len(), 50);
    assert_eq!(svg.matches("class=\"wire\"").count(), 50);
    let mut boxes = boxes(&svg);
    assert_eq!(boxes.len(), 51);
    boxes.sort_unstable();
    assert!(boxes.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 + pair[0].2 <= pair[1].1));
    // On both sides of the host.
    let columns: BTreeSet<usize> = boxes.iter().map(|(x, ..)| *x).collect();
    assert_eq!(columns.len(), 3);
}

/// Left edge, upper edge and height of each box, in the map's order.
fn boxes(svg: &str) -> Vec<(usize, usize, usize)> {
    svg.lines()
        .filter(|line| line.contains("class=\"box\""))
        .map(|line| {
            let number = |key: &str| -> usize {
                line.split(&format!(" {key}=\"")).nth(1).and_then(|rest| rest.split('"').next()?.parse().ok()).unwrap()
            };
            (number("x"), number("y"), number("height"))
        })
        .collect()
}

#[test]
fn few_containers_stand_on_one_side() {
    let columns: BTreeSet<usize> = boxes(&drawing::svg(&Map::of(&two(), None))).iter().map(|(x, ..)| *x).collect();
    assert_eq!(columns.len(), 2);
}

#[test]
fn what_lies_on_the_way_stands_on_top() {
    let names: Vec<String> = (0..50).map(|number| format!("container-{number}")).collect();
    let exchange = Exchange::request_received(&[(40, 7), (0, 49)]);
    let map = Map::of(&host(&names), Some(("172.17.0.3".parse().unwrap(), &exchange)));
    let svg = drawing::svg(&map);
    let tops = boxes(&svg);
    assert_eq!(tops[1..].iter().map(|(_, y, _)| *y).min(), Some(tops[40].1));
    assert!(svg.contains(">green: the predicted way of the packets of a ping to 172.17.0.3</text>"));
    let tree = text::map(&map, Style::default(), Detail::Normal);
    let order: Vec<&str> =
        tree.lines().filter_map(|line| line.split(' ').next()).filter(|word| word.contains('-')).collect();
    assert_eq!(order[..4], ["container-39", "container-0", "container-1", "container-2"]);
}

#[test]
fn no_text_leaves_its_box() {
    let map = Map::of(&host(&["x".repeat(300), "\u{1b}".repeat(30), "short".into()]), None);
    let svg = drawing::svg(&map);
    let longest = svg.lines().filter_map(|line| {
        Some(line.split("xml:space=\"preserve\">").nth(1)?.strip_suffix("</text>")?.chars().count())
    });
    assert_eq!(longest.max(), Some(72));
}

#[test]
fn the_json_is_what_its_schema_says() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA_TEXT).expect("the schema is JSON");
    let schema = jsonschema::draft202012::options().build(&schema).expect("the schema is a schema");
    let map = Map::of(&two(), Some(("172.17.0.3".parse().unwrap(), &Exchange::default())));
    let mut value = map.json();
    let errors: Vec<String> =
        schema.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    value["namespaces"][0]["devices"][0]["way"] = "elsewhere".into();
    assert!(!schema.is_valid(&value));
}

#[test]
fn wires_of_a_host_with_many_containers_are_straight() {
    let names: Vec<String> = (0..50).map(|number| format!("container-{number}")).collect();
    let svg = drawing::svg(&Map::of(&host(&names), None));
    let straight = svg.lines().filter(|line| line.contains("class=\"wire\"")).filter(|line| {
        let path = line.split(" d=\"M").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let numbers: Vec<&str> = path.split(['C', ' ']).collect();
        numbers.get(1).is_some() && numbers.get(1) == numbers.last()
    });
    assert_eq!(straight.count(), 50);
}
