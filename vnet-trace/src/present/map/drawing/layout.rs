//! Where everything stands in the picture.
//!
//! Each namespace is a box with a row for each device. Columns are distances: the namespace with the most wires is the hub of its
//! group, what is wired to it stands in the next column, in the order of the rows it is wired to. A hub with many neighbours
//! has them on both sides in turn, or the picture would be a long strip. The hub's rows are moved down to the boxes
//! that they are wired to, so that a host with its containers has straight wires, however many they are. What is not
//! connected stands below.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::present::map::{DefaultRoute, Map, Mark, Node, Space};
use crate::present::style::clean_command;

/// Pixels.
pub const ROW: usize = 18;
pub const PADDING: usize = 10;
pub const BETWEEN_COLUMNS: usize = 90;
pub const MARGIN: usize = 16;
const BETWEEN_BOXES: usize = 14;
/// A namespace with as many wires is a hub.
const HUB: usize = 3;
/// A hub with as many neighbours has them on both sides.
const BOTH_SIDES: usize = 12;
/// Longer text is cut.
const LONGEST: usize = 72;

/// The whole picture.
pub struct Layout {
    /// By position in the map.
    pub frames: BTreeMap<usize, Frame>,
    /// What the colours mean, if something is marked.
    pub caption: Option<String>,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

/// A row of a box.
pub struct Row {
    /// Clean and short enough.
    pub text: String,
    pub class: &'static str,
    pub back: Option<&'static str>,
}

/// A box.
pub struct Frame {
    pub rows: Vec<Row>,
    pub x: usize,
    pub y: usize,
    pub width: usize,
    /// Zero is the hub's of the largest group; to the left of it they are negative.
    pub column: isize,
    /// Row of each shown device, by its position in the space.
    row_of: BTreeMap<usize, usize>,
    /// The rows that are ports of one above.
    ports: BTreeSet<usize>,
    /// Where each row stands, below the top of the box.
    tops: Vec<usize>,
}

/// Where a wire leaves a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Boxes that hang together: their hub first, then the others in the order in which they are reached.
struct Group {
    members: Vec<usize>,
    columns: BTreeMap<usize, isize>,
}

/// Wires of each box: the row where one begins, and the box where it ends.
type Neighbours = BTreeMap<usize, Vec<(usize, usize)>>;

impl Row {
    fn new(text: &str, class: &'static str) -> Self {
        Self { text: cut(text), class, back: None }
    }
}

impl Frame {
    /// Pixels.
    pub fn height(&self) -> usize {
        self.tops.last().map_or(0, |last| last + ROW) + PADDING / 2
    }

    /// Where a row stands.
    pub fn top(&self, row: usize) -> usize {
        self.y + self.tops.get(row).copied().unwrap_or(0)
    }

    /// The middle of a device's row.
    pub fn middle(&self, device: usize) -> usize {
        self.top(self.row(device)) + ROW / 2
    }

    /// Where its wires begin.
    pub fn edge(&self, side: Side) -> usize {
        match side {
            Side::Left => self.x,
            Side::Right => self.x + self.width,
        }
    }

    fn row(&self, device: usize) -> usize {
        self.row_of.get(&device).copied().unwrap_or(0)
    }
}

/// Whether there is anything to draw of it.
pub fn is_drawn(space: &Space) -> bool {
    space.shown().next().is_some() || !space.default_routes.is_empty()
}

/// In one line, with nothing in it that could act.
pub fn clean(text: &str) -> String {
    clean_command(&text.replace('\n', " "))
}

fn cut(text: &str) -> String {
    let text = clean(text);
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// Pixels of so many characters: the widest of the usual fonts has 7.23 for each.
fn wide(characters: usize) -> usize {
    (characters * 73).div_ceil(10)
}

/// Gives every box its place.
pub fn place(map: &Map) -> Layout {
    let drawn = map.namespaces.iter().enumerate().filter(|(_, space)| is_drawn(space));
    let mut frames: BTreeMap<usize, Frame> = drawn.map(|(index, space)| (index, frame(space))).collect();
    let neighbours = neighbours(map, &frames);
    let groups = groups(&frames, &neighbours);
    // What has nothing to the left of it begins with the leftmost column.
    let leftmost = groups.iter().flat_map(|group| group.columns.values().copied()).min().unwrap_or(0);
    for group in &groups {
        let first = group.columns.values().copied().min().unwrap_or(0);
        for (index, column) in &group.columns {
            if let Some(frame) = frames.get_mut(index) {
                frame.column = column - first + leftmost;
            }
        }
    }
    let mut widths: BTreeMap<isize, usize> = BTreeMap::new();
    for frame in frames.values() {
        let width = widths.entry(frame.column).or_default();
        *width = (*width).max(frame.width);
    }
    for frame in frames.values_mut() {
        frame.x = MARGIN + widths.range(..frame.column).map(|(_, width)| width + BETWEEN_COLUMNS).sum::<usize>();
        frame.width = widths.get(&frame.column).copied().unwrap_or(frame.width);
    }
    let caption = map.destination.map(|destination| {
        let lost = map.nodes().any(|(node, _)| node.way == Some(Mark::Lost));
        let end = if lost { "; red: where they would be lost" } else { "" };
        format!("green: the predicted way of the packets of a ping to {destination}{end}")
    });
    let mut top = MARGIN + if caption.is_some() { ROW + BETWEEN_BOXES } else { 0 };
    for group in &groups {
        top = stack(map, &mut frames, group, top);
    }
    let right = frames.values().map(|frame| frame.edge(Side::Right)).max().unwrap_or(0);
    let caption_right = caption.as_ref().map_or(0, |caption| MARGIN + wide(caption.chars().count()));
    Layout { frames, caption, width: right.max(caption_right) + MARGIN, height: top + MARGIN }
}

fn neighbours(map: &Map, frames: &BTreeMap<usize, Frame>) -> Neighbours {
    let mut neighbours = Neighbours::new();
    for wire in map.wires() {
        for (from, to) in [(wire.from, wire.to), (wire.to, wire.from)] {
            if let (Some(frame), true) = (frames.get(&from.0), frames.contains_key(&to.0)) {
                neighbours.entry(from.0).or_default().push((frame.row(from.1), to.0));
            }
        }
    }
    for list in neighbours.values_mut() {
        list.sort_unstable();
    }
    neighbours
}

fn groups(frames: &BTreeMap<usize, Frame>, neighbours: &Neighbours) -> Vec<Group> {
    // The beginnings: hubs first, else the order of the map.
    let degree = |index: usize| neighbours.get(&index).map_or(0, Vec::len);
    let mut starts: Vec<usize> = frames.keys().copied().collect();
    starts.sort_by_key(|index| {
        let wires = degree(*index);
        (std::cmp::Reverse(if wires >= HUB { wires } else { usize::from(wires > 0) }), *index)
    });
    let mut seen = BTreeSet::new();
    let mut groups = Vec::new();
    for start in starts {
        if !seen.insert(start) {
            continue;
        }
        let mut group = Group { members: vec![start], columns: BTreeMap::from([(start, 0)]) };
        let mut queue = VecDeque::from([start]);
        let both_sides = degree(start) >= BOTH_SIDES;
        let mut side = 1;
        while let Some(index) = queue.pop_front() {
            let column = group.columns.get(&index).copied().unwrap_or(0);
            for (_, next) in neighbours.get(&index).into_iter().flatten() {
                if !seen.insert(*next) {
                    continue;
                }
                if index == start && both_sides {
                    side = -side;
                }
                group.columns.insert(*next, if index == start { side } else { column + column.signum() });
                group.members.push(*next);
                queue.push_back(*next);
            }
        }
        groups.push(group);
    }
    groups
}

/// Puts the boxes of a group below each other, from `top`. Gives where the next group can begin.
fn stack(map: &Map, frames: &mut BTreeMap<usize, Frame>, group: &Group, top: usize) -> usize {
    let mut bottoms: BTreeMap<isize, usize> = BTreeMap::new();
    let Some(hub) = group.members.first().copied() else { return top };
    // The last row of the hub that has its place, and where its middle is.
    let mut last = (0, top + PADDING / 2 + ROW / 2);
    for index in &group.members {
        let wired = wired(map, frames, hub, *index);
        let Some(frame) = frames.get_mut(index) else { continue };
        let mut y = bottoms.get(&frame.column).copied().unwrap_or(top);
        if let Some((row, device)) = wired {
            // Rows of the hub stand in their order, so a box stands no higher than leaves room for the rows between.
            let below = frame.tops.get(frame.row(device)).copied().unwrap_or(0) + ROW / 2;
            let least = last.1 + ROW * row.saturating_sub(last.0);
            y = y.max(least.saturating_sub(below));
            last = (row, y + below);
        }
        frame.y = y;
        bottoms.insert(frame.column, y + frame.height() + BETWEEN_BOXES);
    }
    straighten(map, frames, hub);
    // The hub is alone in its column.
    bottoms.extend(frames.get(&hub).map(|frame| (frame.column, frame.y + frame.height() + BETWEEN_BOXES)));
    bottoms.values().copied().max().unwrap_or(top)
}

/// The first of a hub's rows from which a wire leads to this other box, and the device there.
fn wired(map: &Map, frames: &BTreeMap<usize, Frame>, hub: usize, other: usize) -> Option<(usize, usize)> {
    let frame = frames.get(&hub)?;
    let devices = map.namespaces.get(other)?.devices.iter().enumerate();
    let ends = devices.filter_map(|(device, node)| {
        let end = node.peer.as_ref().or(node.lower.as_ref()).filter(|end| end.at.0 == hub)?;
        Some((frame.row(end.at.1), device))
    });
    ends.min()
}

/// Moves the rows of a box down to the rows beside it that they are wired to, as far as their order allows, and masters
/// without a wire down to their first port.
fn straighten(map: &Map, frames: &mut BTreeMap<usize, Frame>, index: usize) {
    let Some(frame) = frames.get(&index) else { return };
    let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
    for wire in map.wires() {
        for (own, other) in [(wire.from, wire.to), (wire.to, wire.from)] {
            if own.0 == index
                && let (Some(row), Some(there)) = (frame.row_of.get(&own.1), frames.get(&other.0))
                && there.column.abs_diff(frame.column) == 1
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
    let mut port = None;
    for (row, top) in tops.iter_mut().enumerate().rev() {
        if let (Some(port), false) = (port, wanted.contains_key(&row)) {
            *top = port - ROW;
        }
        port = frame.ports.contains(&row).then_some(*top);
    }
    if let Some(frame) = frames.get_mut(&index) {
        frame.tops = tops;
    }
}

fn frame(space: &Space) -> Frame {
    let mut rows = vec![Row::new(space.spoken(), "name")];
    rows.extend(space.about().map(|text| Row::new(&text, "faint")));
    let (mut row_of, mut ports) = (BTreeMap::new(), BTreeSet::new());
    let marked: BTreeSet<&str> =
        space.devices.iter().filter(|node| node.way.is_some()).map(|node| node.dev.as_str()).collect();
    // Ports stand below their master, and what lies on the way before what does not: nobody should have to look for it.
    let mut order: Vec<(usize, bool)> = Vec::new();
    let mut shown: Vec<_> = space.shown().collect();
    let on_way = |node: &Node| node.way.is_some() || node.ports.iter().any(|port| marked.contains(port.as_str()));
    shown.sort_by_key(|(_, node)| !on_way(node));
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
        ports.extend(is_port.then_some(rows.len()));
        let mut row = Row::new(text.trim_end(), if node.up && !node.no_carrier { "" } else { "bad" });
        row.back = match node.way {
            Some(Mark::Passed) => Some("passed"),
            Some(Mark::Lost) => Some("lost"),
            None if is_port => Some("port"),
            None => None,
        };
        rows.push(row);
    }
    match (space.default_routes.as_slice(), row_of.len(), rows.last_mut()) {
        // Most containers: one device, and the way out by it.
        ([DefaultRoute { via: Some(via), .. }], 1, Some(row)) => row.text = cut(&format!("{}  via {via}", row.text)),
        (routes, ..) => {
            rows.extend(routes.iter().map(|route| Row::new(&route.words(), "faint")));
        }
    }
    rows.extend(space.published.iter().map(|port| Row::new(&port.words(), "faint")));
    let longest = rows.iter().map(|row| row.text.chars().count()).max().unwrap_or(0);
    let tops = (0..rows.len()).map(|row| PADDING / 2 + row * ROW).collect();
    Frame { rows, row_of, ports, tops, column: 0, x: 0, y: 0, width: wide(longest) + 2 * PADDING }
}
