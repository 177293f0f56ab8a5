//! A drawing as PNG, at two pixels for each of its own.

use std::io;

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, StrokeDash,
    Transform,
};
use ttf_parser::OutlineBuilder;

use super::{
    drawing::{Anchor, Colour, Drawing, Shape},
    font::Font,
};

/// The drawing as the bytes of a PNG file.
///
/// # Errors
/// The drawing is too large for memory, or has no size.
pub(crate) fn png(drawing: &Drawing) -> io::Result<Vec<u8>> {
    let (width, height) = (
        (drawing.width * SCALE) as u32,
        (drawing.height * SCALE) as u32,
    );
    let no_size = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("no picture has {width}x{height} pixels"),
        )
    };
    let mut canvas = Canvas {
        pixels: Pixmap::new(width, height).ok_or_else(no_size)?,
        fonts: [Font::of_weight(false), Font::of_weight(true)],
    };
    for shape in &drawing.shapes {
        canvas.shape(shape);
    }
    canvas.pixels.encode_png().map_err(io::Error::other)
}

struct Canvas {
    pixels: Pixmap,
    fonts: [Font; 2],
}

impl Canvas {
    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Rectangle {
                x,
                y,
                width,
                height,
                colour,
            } => {
                if let Some(rectangle) = Rect::from_xywh(*x, *y, *width, *height) {
                    self.pixels
                        .fill_rect(rectangle, &paint(*colour, 1.0), to_pixels(), None);
                }
            }
            Shape::Line {
                points,
                colour,
                width,
                is_dashed,
            } => {
                let dash = if *is_dashed {
                    StrokeDash::new(vec![5.0, 4.0], 0.0)
                } else {
                    None
                };
                let (line_cap, line_join) = (LineCap::Round, LineJoin::Round);
                let stroke = Stroke {
                    width: *width,
                    line_cap,
                    line_join,
                    dash,
                    ..Stroke::default()
                };
                if let Some(path) = path(points, false) {
                    self.pixels.stroke_path(
                        &path,
                        &paint(*colour, 1.0),
                        &stroke,
                        to_pixels(),
                        None,
                    );
                }
            }
            Shape::Area {
                points,
                colour,
                opacity,
            } => {
                if let Some(path) = path(points, true) {
                    self.fill(&path, &paint(*colour, *opacity), to_pixels());
                }
            }
            Shape::Text { .. } => self.text(shape),
        }
    }

    fn text(&mut self, shape: &Shape) {
        let Shape::Text {
            x,
            y,
            text,
            size,
            colour,
            anchor,
            is_strong,
        } = shape
        else {
            return;
        };
        let font = &self.fonts[usize::from(*is_strong)];
        let left = match anchor {
            Anchor::Start => *x,
            Anchor::Middle => x - font.width(text, *size) / 2.0,
            Anchor::End => x - font.width(text, *size),
        };
        let mut letters = Vec::new();
        font.outline(text, *size, |outline: Outline, place, scale| {
            if let Some(path) = outline.0.finish() {
                // A font's units count upwards.
                letters.push((
                    path,
                    Transform::from_row(scale, 0.0, 0.0, -scale, left + place, *y),
                ));
            }
        });
        for (path, transform) in letters {
            self.fill(
                &path,
                &paint(*colour, 1.0),
                transform.post_concat(to_pixels()),
            );
        }
    }

    fn fill(&mut self, path: &Path, paint: &Paint<'_>, transform: Transform) {
        self.pixels
            .fill_path(path, paint, FillRule::Winding, transform, None);
    }
}

fn to_pixels() -> Transform {
    Transform::from_scale(SCALE, SCALE)
}

fn paint(Colour(red, green, blue): Colour, opacity: f32) -> Paint<'static> {
    let mut paint = Paint::default();
    let part = |value: u8| f32::from(value) / 255.0;
    let colour = Color::from_rgba(part(red), part(green), part(blue), opacity.clamp(0.0, 1.0));
    paint.set_color(colour.expect("all parts lie between 0 and 1"));
    paint.anti_alias = true;
    paint
}

fn path(points: &[(f32, f32)], is_closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    let (first, rest) = points.split_first()?;
    builder.move_to(first.0, first.1);
    for (x, y) in rest {
        builder.line_to(*x, *y);
    }
    if is_closed {
        builder.close();
    }
    builder.finish()
}

/// The outline of a letter, from one library's words to the other's.
#[derive(Default)]
struct Outline(PathBuilder);

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.0.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.0.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.0.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.0.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.0.close();
    }
}

const SCALE: f32 = 2.0;
