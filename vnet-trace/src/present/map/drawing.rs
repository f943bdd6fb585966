//! The map as a picture: SVG, and one HTML page around it that needs nothing else.
//!
//! Where everything stands is decided in [`layout`]; here it is drawn. The picture follows the reader's wish for light or dark. The
//! page can be scrolled and enlarged without a script.

use std::fmt::Write;

use super::{Map, Mark, Space};

mod layout;

use layout::{BETWEEN_COLUMNS, Frame, MARGIN, PADDING, ROW, Side, clean};

const LOOK: &str = "text{font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1c2430}\
.paper{fill:#fff}.box{fill:#f7f9fb;stroke:#8a99a8}.name{font-weight:bold}.faint{fill:#66727e}.bad{fill:#b3261e}\
.wire{fill:none;stroke:#8a99a8;stroke-width:1.3}.way{stroke:#1a7f37;stroke-width:3}.lostwire{stroke:#b3261e;stroke-width:3}\
.passed{fill:#dff3e4}.lost{fill:#fbdeda}.port{fill:#eaeff4}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#0d1117}.box{fill:#161b22;stroke:#6e7681}\
.faint{fill:#9198a1}.bad{fill:#ff7b72}.wire{stroke:#6e7681}.way{stroke:#3fb950}.lostwire{stroke:#f85149}\
.passed{fill:#12361f}.lost{fill:#4b1817}.port{fill:#212830}}";

/// An SVG document.
pub fn svg(map: &Map) -> String {
    drawn(map, &layout::place(map))
}

fn drawn(map: &Map, layout: &layout::Layout) -> String {
    let layout::Layout { frames, caption, width, height } = layout;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"network map\">\n<style>{LOOK}</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n"
    );
    if let Some(caption) = caption {
        let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"{}\">{}</text>", MARGIN + ROW - 5, escaped(caption));
    }
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
    for (index, frame) in frames {
        if let Some(space) = map.namespaces.get(*index) {
            draw_box(&mut svg, space, frame);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// How large the picture of the page can be made; the first is the beginning.
const ZOOMS: [(&str, usize); 4] = [("100 %", 100), ("50 %", 50), ("150 %", 150), ("200 %", 200)];

/// A page with the picture, which a browser opens without a network.
pub fn html(map: &Map) -> String {
    let title = match map.destination {
        Some(destination) => format!("network map, with the way to {destination}"),
        None => "network map".to_owned(),
    };
    let lone: Vec<String> =
        map.namespaces.iter().filter(|space| !layout::is_drawn(space)).map(|space| escaped(space.spoken())).collect();
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
    let layout = layout::place(map);
    let (mut zooms, mut buttons) = (String::new(), String::new());
    for (number, (words, percent)) in ZOOMS.iter().enumerate() {
        let checked = if number == 0 { " checked" } else { "" };
        let _ = writeln!(
            buttons,
            "<input type=\"radio\" name=\"zoom\" id=\"zoom{number}\"{checked}><label for=\"zoom{number}\">{words}</label>"
        );
        let _ = write!(zooms, "#zoom{number}:checked~.map svg{{width:{}px;height:auto}}", layout.width * percent / 100);
    }
    buttons.push_str("<input type=\"radio\" name=\"zoom\" id=\"fit\"><label for=\"fit\">the page's width</label>\n");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>body{{font-family:system-ui,sans-serif;margin:1.5em;color:#1c2430;background:#fff}}\
         label{{margin-right:1em}}.map{{overflow:auto;margin-top:1em}}.map svg{{display:block}}\
         #fit:checked~.map svg{{width:100%;height:auto}}{zooms}\
         @media (prefers-color-scheme:dark){{body{{color:#e6edf3;background:#0d1117}}}}</style>\n</head>\n\
         <body>\n<h1>{title}</h1>\n{buttons}<div class=\"map\">\n{}</div>\n{below}</body>\n</html>\n",
        drawn(map, &layout)
    )
}

fn draw_wire(svg: &mut String, one: (&Frame, usize), other: (&Frame, usize), class: &str) {
    let (left, right) = if one.0.column <= other.0.column { (one, other) } else { (other, one) };
    // Within a column the wire bulges to the right and comes back.
    let same = left.0.column == right.0.column;
    let (x1, y1) = (left.0.edge(Side::Right), left.0.middle(left.1));
    let (x2, y2) = (right.0.edge(if same { Side::Right } else { Side::Left }), right.0.middle(right.1));
    let c1 = x1 + BETWEEN_COLUMNS / 2;
    let c2 = if same { x2 + BETWEEN_COLUMNS / 2 } else { x2.saturating_sub(BETWEEN_COLUMNS / 2) };
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
        let _ = writeln!(
            svg,
            "<text class=\"{}\" x=\"{}\" y=\"{}\" xml:space=\"preserve\">{}</text>",
            row.class,
            x + PADDING,
            top + ROW - 5,
            escaped(&row.text)
        );
    }
    svg.push_str("</g>\n");
}

/// Text for XML and HTML, with nothing in it that could act.
fn escaped(text: &str) -> String {
    clean(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
