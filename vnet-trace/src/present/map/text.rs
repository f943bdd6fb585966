//! The map as a tree: namespaces, their devices, ports below their bridge.

use super::{Map, Mark, Node, Space};
use crate::present::sheet::{Sheet, Span};
use crate::present::style::{Detail, Style, Tone};

/// The whole map.
pub fn map(map: &Map, style: Style, detail: Detail) -> String {
    let mut sheet = Sheet::new(style);
    if let Some(destination) = map.destination {
        let lost = map.nodes().any(|(node, _)| node.way == Some(Mark::Lost));
        let end = if lost { ", ✗ where they would be lost" } else { "" };
        sheet.paragraph(0, &format!("→ on the predicted way of the packets of a ping to {destination}{end}"));
    }
    let mut lone = Vec::new();
    for space in in_order(map) {
        if space.shown().next().is_none() && space.default_routes.is_empty() {
            lone.push(space.spoken().to_owned());
        } else {
            write(&mut sheet, space, detail);
        }
    }
    if !lone.is_empty() {
        sheet.blank().prose(0, 2, &[Span::new(Tone::Faint, "without a network: "), Span::from(lone.join(", "))]);
    }
    if !map.gaps.is_empty() && detail != Detail::Verdict {
        sheet.heading("Not seen");
        for gap in &map.gaps {
            sheet.item(2, &[format!("{}: {}", gap.what, gap.why).into()]);
        }
    }
    sheet.finish()
}

/// The command's own namespace, then those on the way, then the others in the order of their names as people count: `web-2`
/// before `web-10`.
fn in_order(map: &Map) -> Vec<&Space> {
    let mut spaces: Vec<&Space> = map.namespaces.iter().collect();
    if let Some((_, others)) = spaces.split_first_mut() {
        let off_way = |space: &Space| space.devices.iter().all(|node| node.way.is_none());
        others.sort_by_key(|space| if off_way(space) { (1, counted(space.spoken())) } else { (0, Vec::new()) });
    }
    spaces
}

/// A name in parts: text, and the number after it with its leading zeros gone.
fn counted(name: &str) -> Vec<(&str, usize, &str)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(text);
        let (digits, after) = after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len()));
        let digits = digits.trim_start_matches('0');
        // Of numbers without leading zeros, the longer is the larger.
        parts.push((text, digits.len(), digits));
        rest = after;
    }
    parts
}

fn write(sheet: &mut Sheet, space: &Space, detail: Detail) {
    let about = space.about().map(|about| format!(" ({about})")).unwrap_or_default();
    sheet.blank().prose(0, 2, &[Span::new(Tone::Strong, space.spoken()), Span::new(Tone::Faint, about)]);
    for (_, node) in space.shown().filter(|(_, node)| node.master.is_none()) {
        below(sheet, space, node, 1, detail);
    }
    for port in &space.published {
        sheet.prose(4, 8, &[Span::new(Tone::Faint, port.words())]);
    }
    for route in &space.default_routes {
        sheet.prose(4, 8, &[Span::new(Tone::Faint, route.words())]);
    }
}

/// A device and its ports. A port of a port (a bond in a bridge, a bridge in a VRF) is two steps in; the kernel lets
/// nobody be its own master, and the depth is bounded all the same.
fn below(sheet: &mut Sheet, space: &Space, node: &Node, depth: usize, detail: Detail) {
    const DEEPEST: usize = 8;
    line(sheet, space, node, depth, detail);
    if depth < DEEPEST && !node.ports.is_empty() {
        for (_, port) in space.shown().filter(|(_, port)| port.master.as_ref() == Some(&node.dev)) {
            below(sheet, space, port, depth + 1, detail);
        }
    }
}

fn line(sheet: &mut Sheet, space: &Space, node: &Node, depth: usize, detail: Detail) {
    let (mark, tone) = match node.way {
        Some(Mark::Passed) => ("→ ", Tone::Good),
        Some(Mark::Lost) => ("✗ ", Tone::Bad),
        None => ("", Tone::Code),
    };
    // The mark stands where the indentation would: names stay in line.
    let indent = 4 * depth - if mark.is_empty() { 0 } else { 2 };
    let mut spans = vec![Span::new(tone, mark), Span::new(tone, node.dev.clone())];
    let wired = node.wired(&space.netns);
    if !wired.is_empty() {
        spans.push(Span::from(format!(" {wired}")));
    }
    let words = node.words();
    if !words.is_empty() {
        let tone = if node.up && !node.no_carrier { Tone::Plain } else { Tone::Warn };
        spans.push(Span::new(tone, format!(" ({words})")));
    }
    let shown = node.addresses.iter().filter(|address| detail == Detail::Full || !address.starts_with("fe80:"));
    let mut rest: Vec<String> = shown.cloned().collect();
    if detail == Detail::Full {
        rest.push(format!("mtu {}", node.mtu));
        rest.extend(node.lladdr.clone());
    }
    if !rest.is_empty() {
        spans.push(Span::from(format!("  {}", rest.join(", "))));
    }
    sheet.prose(indent, 4 * depth + 4, &spans);
}
