//! A drawing as SVG.

use std::fmt::{self, Write as _};

use super::drawing::{Anchor, Colour, Drawing, Shape};

/// The drawing as a document of its own. Text stays text: it can be searched and copied.
#[must_use]
pub(crate) fn svg(drawing: &Drawing) -> String {
    let mut out = String::new();
    document(&mut out, drawing).expect("a String takes everything");
    out
}

fn document(out: &mut String, drawing: &Drawing) -> fmt::Result {
    let (width, height) = (drawing.width, drawing.height);
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="Roboto, 'Helvetica Neue', Arial, sans-serif">"#
    )?;
    writeln!(out, "<title>{}</title>", escape(&drawing.description))?;
    for shape in &drawing.shapes {
        write_shape(out, shape)?;
    }
    writeln!(out, "</svg>")
}

fn write_shape(out: &mut String, shape: &Shape) -> fmt::Result {
    match shape {
        Shape::Rectangle {
            x,
            y,
            width,
            height,
            colour,
        } => {
            let colour = hex(*colour);
            writeln!(
                out,
                r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
            )
        }
        Shape::Line {
            points,
            colour,
            width,
            is_dashed,
        } => {
            let dash = if *is_dashed {
                r#" stroke-dasharray="5 4""#
            } else {
                ""
            };
            writeln!(
                out,
                r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="{width}" stroke-linejoin="round" stroke-linecap="round"{dash}/>"#,
                places(points),
                hex(*colour)
            )
        }
        Shape::Area {
            points,
            colour,
            opacity,
        } => {
            let (points, colour) = (places(points), hex(*colour));
            writeln!(
                out,
                r#"<polygon points="{points}" fill="{colour}" fill-opacity="{opacity}"/>"#
            )
        }
        Shape::Text {
            x,
            y,
            text,
            size,
            colour,
            anchor,
            is_strong,
        } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let weight = if *is_strong {
                r#" font-weight="500""#
            } else {
                ""
            };
            let (colour, text) = (hex(*colour), escape(text));
            writeln!(
                out,
                r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>{text}</text>"#
            )
        }
    }
}

fn places(points: &[(f32, f32)]) -> String {
    let place = |(x, y): &(f32, f32)| format!("{x:.1},{y:.1}");
    points.iter().map(place).collect::<Vec<_>>().join(" ")
}

fn hex(Colour(red, green, blue): Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
