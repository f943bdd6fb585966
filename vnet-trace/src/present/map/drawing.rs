//! The map as a picture: SVG, and one HTML page around it that needs nothing else.
//!
//! Each namespace is a box with a row for each device. Columns are distances: the namespace with the most wires stands
//! left, what is wired to it in the next column, in the order of the rows it is wired to. Its rows are then moved down to
//! the boxes that they are wired to, so that a host with its containers has straight wires, however many they are. What is
//! not connected stands below.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use super::{DefaultRoute, Map, Mark, Space};
use crate::present::style::clean_command;

/// Pixels.
const ROW: usize = 18;
const CHARACTER: usize = 7;
const PADDING: usize = 10;
const BETWEEN_BOXES: usize = 14;
const BETWEEN_COLUMNS: usize = 90;
const MARGIN: usize = 16;
/// A namespace with as many wires is a hub.
const HUB: usize = 3;
/// Longer text is cut.
const LONGEST: usize = 72;

const LOOK: &str = "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1c2430}\
.box{fill:#f7f9fb;stroke:#8a99a8}.name{font-weight:bold}.faint{fill:#66727e}.bad{fill:#b3261e}\
.wire{fill:none;stroke:#8a99a8;stroke-width:1.3}.way{stroke:#1a7f37;stroke-width:3}.lostwire{stroke:#b3261e;stroke-width:3}\
.passed{fill:#dff3e4}.lost{fill:#fbdeda}.port{fill:#eaeff4}";

/// A row of a box.
struct Row {
    text: String,
    class: &'static str,
    back: Option<&'static str>,
}

/// A box.
struct Frame {
    rows: Vec<Row>,
    /// Row of each shown device, by its position in the space.
    row_of: BTreeMap<usize, usize>,
    /// Where each row stands, below the top of the box.
    tops: Vec<usize>,
    column: usize,
    x: usize,
    y: usize,
    width: usize,
}

/// An SVG document.
pub fn svg(map: &Map) -> String {
    let mut frames: BTreeMap<usize, Frame> = map
        .namespaces
        .iter()
        .enumerate()
        .filter(|(_, space)| space.shown().next().is_some() || !space.default_routes.is_empty())
        .map(|(index, space)| (index, frame(space)))
        .collect();
    let (width, height) = place(map, &mut frames);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"network map\">\n<style>{LOOK}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for wire in map.wires() {
        let (Some(one), Some(other)) = (frames.get(&wire.from.0), frames.get(&wire.to.0)) else { continue };
        let marks = [wire.from, wire.to].map(|at| map.node(at).and_then(|node| node.way));
        let class = match marks {
            [Some(_), Some(_)] => " way",
            [Some(Mark::Lost), None] | [None, Some(Mark::Lost)] => " lostwire",
            _ => "",
        };
        draw_wire(&mut svg, (one, wire.from.1), (other, wire.to.1), class);
    }
    for (index, frame) in &frames {
        if let Some(space) = map.namespaces.get(*index) {
            draw_box(&mut svg, space, frame);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// A page with the picture, which a browser opens without a network.
pub fn html(map: &Map) -> String {
    let title = match map.destination {
        Some(destination) => format!("network map, with the way to {destination}"),
        None => "network map".to_owned(),
    };
    let lone: Vec<String> = map
        .namespaces
        .iter()
        .filter(|space| space.shown().next().is_none() && space.default_routes.is_empty())
        .map(|space| escaped(space.spoken()))
        .collect();
    let mut below = String::new();
    if !lone.is_empty() {
        let _ = writeln!(below, "<p>Without a network: {}</p>", lone.join(", "));
    }
    if !map.gaps.is_empty() {
        below.push_str("<h2>Not seen</h2>\n<ul>\n");
        for gap in &map.gaps {
            let _ = writeln!(below, "<li>{}: {}</li>", escaped(&gap.what), escaped(&gap.why));
        }
        below.push_str("</ul>\n");
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>body{{font-family:system-ui,sans-serif;margin:1.5em;color:#1c2430}}.map{{overflow:auto}}</style>\n</head>\n\
         <body>\n<h1>{title}</h1>\n<div class=\"map\">\n{}</div>\n{below}</body>\n</html>\n",
        svg(map)
    )
}

fn frame(space: &Space) -> Frame {
    let mut rows = vec![Row { text: space.spoken().to_owned(), class: "name", back: None }];
    rows.extend(space.about().map(|text| Row { text, class: "faint", back: None }));
    let mut row_of = BTreeMap::new();
    // Ports stand below their master.
    let mut order: Vec<(usize, bool)> = Vec::new();
    let shown: Vec<_> = space.shown().collect();
    let is_port =
        |master: &Option<String>| master.as_ref().is_some_and(|name| shown.iter().any(|(_, node)| node.dev == *name));
    for (index, node) in shown.iter().filter(|(_, node)| !is_port(&node.master)) {
        order.push((*index, false));
        let ports = shown.iter().filter(|(_, port)| port.master.as_ref() == Some(&node.dev));
        order.extend(ports.map(|(index, _)| (*index, true)));
    }
    // A port of a port has been left out so far.
    for (index, _) in &shown {
        if !order.iter().any(|(known, _)| known == index) {
            order.push((*index, true));
        }
    }
    for (index, is_port) in order {
        let Some(node) = space.devices.get(index) else { continue };
        let words = node.words();
        let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
        let addresses: Vec<&str> =
            node.addresses.iter().map(String::as_str).filter(|address| !address.starts_with("fe80:")).collect();
        let text = format!("{}{}{words}  {}", if is_port { "  " } else { "" }, node.dev, addresses.join(", "));
        row_of.insert(index, rows.len());
        rows.push(Row {
            text: text.trim_end().to_owned(),
            class: if node.up && !node.no_carrier { "" } else { "bad" },
            back: match node.way {
                Some(Mark::Passed) => Some("passed"),
                Some(Mark::Lost) => Some("lost"),
                None if is_port => Some("port"),
                None => None,
            },
        });
    }
    match (space.default_routes.as_slice(), row_of.len(), rows.last_mut()) {
        // Most containers: one device, and the way out by it.
        ([DefaultRoute { via: Some(via), .. }], 1, Some(row)) => row.text.push_str(&format!("  via {via}")),
        (routes, ..) => {
            rows.extend(routes.iter().map(|route| Row { text: route.words(), class: "faint", back: None }));
        }
    }
    let ports = space.published.iter().map(|port| Row { text: port.words(), class: "faint", back: None });
    rows.extend(ports);
    let longest = rows.iter().map(|row| row.text.chars().count().min(LONGEST)).max().unwrap_or(0);
    let tops = (0..rows.len()).map(|row| PADDING / 2 + row * ROW).collect();
    Frame { rows, row_of, tops, column: 0, x: 0, y: 0, width: longest * CHARACTER + 2 * PADDING }
}

/// Gives every box its place. Returns the size of the picture.
fn place(map: &Map, frames: &mut BTreeMap<usize, Frame>) -> (usize, usize) {
    let mut neighbours: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    for wire in map.wires() {
        for (from, to) in [(wire.from, wire.to), (wire.to, wire.from)] {
            if let (Some(frame), true) = (frames.get(&from.0), frames.contains_key(&to.0)) {
                let row = frame.row_of.get(&from.1).copied().unwrap_or(0);
                neighbours.entry(from.0).or_default().push((row, to.0));
            }
        }
    }
    for list in neighbours.values_mut() {
        list.sort_unstable();
    }
    // The left ends: hubs first, else the order of the map.
    let degree = |index: usize| neighbours.get(&index).map_or(0, Vec::len);
    let mut starts: Vec<usize> = frames.keys().copied().collect();
    starts.sort_by_key(|index| {
        let wires = degree(*index);
        (std::cmp::Reverse(if wires >= HUB { wires } else { usize::from(wires > 0) }), *index)
    });
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut columns: BTreeMap<usize, usize> = BTreeMap::new();
    for start in starts {
        if columns.contains_key(&start) {
            continue;
        }
        columns.insert(start, 0);
        let mut group = vec![start];
        let mut queue = VecDeque::from([start]);
        while let Some(index) = queue.pop_front() {
            let column = columns.get(&index).copied().unwrap_or(0);
            for (_, next) in neighbours.get(&index).into_iter().flatten() {
                if !columns.contains_key(next) {
                    columns.insert(*next, column + 1);
                    group.push(*next);
                    queue.push_back(*next);
                }
            }
        }
        groups.push(group);
    }
    let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, frame) in frames.iter_mut() {
        frame.column = columns.get(index).copied().unwrap_or(0);
        let width = widths.entry(frame.column).or_default();
        *width = (*width).max(frame.width);
    }
    let mut top = MARGIN;
    for group in groups {
        let mut bottoms: BTreeMap<usize, usize> = BTreeMap::new();
        let first = group.first().copied();
        for index in group {
            let Some(frame) = frames.get_mut(&index) else { continue };
            let y = bottoms.get(&frame.column).copied().unwrap_or(top);
            frame.x = MARGIN + widths.range(..frame.column).map(|(_, width)| width + BETWEEN_COLUMNS).sum::<usize>();
            frame.y = y;
            frame.width = widths.get(&frame.column).copied().unwrap_or(frame.width);
            bottoms.insert(frame.column, y + frame.height() + BETWEEN_BOXES);
        }
        // The first box is alone in its column.
        if let Some(first) = first {
            straighten(map, frames, first);
            bottoms.extend(frames.get(&first).map(|frame| (frame.column, frame.y + frame.height() + BETWEEN_BOXES)));
        }
        top = bottoms.values().copied().max().unwrap_or(top);
    }
    let right = frames.values().map(|frame| frame.x + frame.width).max().unwrap_or(0);
    (right + MARGIN, top + MARGIN)
}

/// Moves the rows of a box down to the rows of the next column that they are wired to, as far as their order allows.
fn straighten(map: &Map, frames: &mut BTreeMap<usize, Frame>, index: usize) {
    let Some(frame) = frames.get(&index) else { return };
    let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
    for wire in map.wires() {
        for (own, other) in [(wire.from, wire.to), (wire.to, wire.from)] {
            if own.0 == index
                && let (Some(row), Some(there)) = (frame.row_of.get(&own.1), frames.get(&other.0))
                && there.column == frame.column + 1
            {
                let middle = there.middle(other.1).saturating_sub(frame.y + ROW / 2);
                let least = wanted.entry(*row).or_insert(middle);
                *least = (*least).min(middle);
            }
        }
    }
    let mut next = PADDING / 2;
    let mut tops = Vec::with_capacity(frame.rows.len());
    for row in 0..frame.rows.len() {
        let top = wanted.get(&row).copied().unwrap_or(next).max(next);
        tops.push(top);
        next = top + ROW;
    }
    if let Some(frame) = frames.get_mut(&index) {
        frame.tops = tops;
    }
}

impl Frame {
    fn height(&self) -> usize {
        self.tops.last().map_or(0, |last| last + ROW) + PADDING / 2
    }

    /// Where a row stands.
    fn top(&self, row: usize) -> usize {
        self.y + self.tops.get(row).copied().unwrap_or(0)
    }

    /// The middle of a device's row.
    fn middle(&self, device: usize) -> usize {
        self.top(self.row_of.get(&device).copied().unwrap_or(0)) + ROW / 2
    }
}

fn draw_wire(svg: &mut String, one: (&Frame, usize), other: (&Frame, usize), class: &str) {
    let (left, right) = if one.0.column <= other.0.column { (one, other) } else { (other, one) };
    let (x1, y1) = (left.0.x + left.0.width, left.0.middle(left.1));
    // Within a column the wire bulges to the right and comes back.
    let same = left.0.column == right.0.column;
    let x2 = if same { right.0.x + right.0.width } else { right.0.x };
    let y2 = right.0.middle(right.1);
    let (c1, c2) = if same {
        (x1 + BETWEEN_COLUMNS / 2, x2 + BETWEEN_COLUMNS / 2)
    } else {
        (x1 + BETWEEN_COLUMNS / 2, x2.saturating_sub(BETWEEN_COLUMNS / 2))
    };
    let _ = writeln!(svg, "<path class=\"wire{class}\" d=\"M{x1} {y1}C{c1} {y1} {c2} {y2} {x2} {y2}\"/>");
}

fn draw_box(svg: &mut String, space: &Space, frame: &Frame) {
    let Frame { x, y, width, .. } = *frame;
    let _ = writeln!(svg, "<g><title>{}</title>", escaped(space.spoken()));
    let _ = writeln!(
        svg,
        "<rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\" rx=\"4\"/>",
        frame.height()
    );
    for (index, row) in frame.rows.iter().enumerate() {
        let top = frame.top(index);
        if let Some(class) = row.back {
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{ROW}\"/>",
                x + 1,
                width.saturating_sub(2)
            );
        }
        let mut text: String = row.text.chars().take(LONGEST).collect();
        if row.text.chars().count() > LONGEST {
            text.pop();
            text.push('…');
        }
        let _ = writeln!(
            svg,
            "<text class=\"{}\" x=\"{}\" y=\"{}\" xml:space=\"preserve\">{}</text>",
            row.class,
            x + PADDING,
            top + ROW - 5,
            escaped(&text)
        );
    }
    svg.push_str("</g>\n");
}

/// Text for XML and HTML, with nothing in it that could act.
fn escaped(text: &str) -> String {
    clean_command(&text.replace('\n', " "))
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
