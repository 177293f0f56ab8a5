//! A picture as a list of shapes, in pixels from the upper left corner.

/// A colour, as red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Colour(pub(crate) u8, pub(crate) u8, pub(crate) u8);

/// Which point of a text its place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

/// One shape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// A filled rectangle.
    Rectangle {
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        colour: Colour,
    },
    /// A line through points.
    Line {
        points: Vec<(f32, f32)>,
        colour: Colour,
        width: f32,
        is_dashed: bool,
    },
    /// A filled polygon, seen through.
    Area {
        points: Vec<(f32, f32)>,
        colour: Colour,
        opacity: f32,
    },
    /// Text on its base line.
    Text {
        x: f32,
        y: f32,
        text: String,
        size: f32,
        colour: Colour,
        anchor: Anchor,
        is_strong: bool,
    },
}

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drawing {
    /// Width in pixels; a PNG has twice as many.
    pub(crate) width: f32,
    /// Height in pixels; a PNG has twice as many.
    pub(crate) height: f32,
    /// What it shows, for those who do not see it.
    pub(crate) description: String,
    /// Later shapes lie over earlier ones.
    pub(crate) shapes: Vec<Shape>,
}

impl Drawing {
    /// An empty, white picture.
    #[must_use]
    pub(crate) fn new(width: f32, height: f32, description: String) -> Self {
        let paper = Shape::Rectangle {
            x: 0.0,
            y: 0.0,
            width,
            height,
            colour: PAPER,
        };
        Self {
            width,
            height,
            description,
            shapes: vec![paper],
        }
    }

    pub(super) fn line(&mut self, points: Vec<(f32, f32)>, colour: Colour, width: f32) {
        self.shapes.push(Shape::Line {
            points,
            colour,
            width,
            is_dashed: false,
        });
    }

    pub(super) fn dashed(&mut self, points: Vec<(f32, f32)>, colour: Colour, width: f32) {
        self.shapes.push(Shape::Line {
            points,
            colour,
            width,
            is_dashed: true,
        });
    }

    pub(super) fn text(
        &mut self,
        at: (f32, f32),
        text: &str,
        size: f32,
        colour: Colour,
        anchor: Anchor,
    ) {
        let (x, y) = at;
        self.shapes.push(Shape::Text {
            x,
            y,
            text: text.to_owned(),
            size,
            colour,
            anchor,
            is_strong: false,
        });
    }

    pub(super) fn heading(&mut self, at: (f32, f32), text: &str, size: f32) {
        let (x, y) = at;
        let (text, colour, anchor) = (text.to_owned(), INK, Anchor::Start);
        self.shapes.push(Shape::Text {
            x,
            y,
            text,
            size,
            colour,
            anchor,
            is_strong: true,
        });
    }
}

pub(super) const PAPER: Colour = Colour(255, 255, 255);
pub(super) const INK: Colour = Colour(31, 41, 51);
pub(super) const FAINT_INK: Colour = Colour(97, 110, 124);
pub(super) const GRID: Colour = Colour(228, 231, 235);
// Told apart by those who do not see red and green (Okabe and Ito's palette).
pub(super) const BLUE: Colour = Colour(0, 114, 178);
pub(super) const ORANGE: Colour = Colour(213, 94, 0);
pub(super) const GREEN: Colour = Colour(0, 158, 115);
pub(super) const SILVER: Colour = Colour(123, 135, 148);
