//! The letters: Roboto (Apache-2.0, see `fonts/README.md`), cut down to what plots use.

use ttf_parser::{Face, GlyphId, OutlineBuilder};

/// One weight of the font.
pub(super) struct Font(Face<'static>);

impl Font {
    pub(super) fn of_weight(is_strong: bool) -> Self {
        let bytes: &'static [u8] = if is_strong { STRONG } else { REGULAR };
        Self(Face::parse(bytes, 0).expect("the font in the binary is whole: a test reads it"))
    }

    /// Width of a text at a size, in pixels.
    pub(super) fn width(&self, text: &str, size: f32) -> f32 {
        let advance = |letter| f32::from(self.0.glyph_hor_advance(self.glyph(letter)).unwrap_or(0));
        text.chars().map(advance).sum::<f32>() * self.scale(size)
    }

    /// Gives the outline of each letter to `draw`, with its place from the text's left end and the
    /// scale from the font's units to pixels.
    pub(super) fn outline<B: OutlineBuilder + Default>(
        &self,
        text: &str,
        size: f32,
        mut draw: impl FnMut(B, f32, f32),
    ) {
        let scale = self.scale(size);
        let mut place = 0.0;
        for letter in text.chars() {
            let glyph = self.glyph(letter);
            let mut outline = B::default();
            // A space has no outline.
            if self.0.outline_glyph(glyph, &mut outline).is_some() {
                draw(outline, place, scale);
            }
            place += f32::from(self.0.glyph_hor_advance(glyph).unwrap_or(0)) * scale;
        }
    }

    /// Letters that the font lacks are shown as its question mark.
    fn glyph(&self, letter: char) -> GlyphId {
        let known = self
            .0
            .glyph_index(letter)
            .or_else(|| self.0.glyph_index('?'));
        known.unwrap_or(GlyphId(0))
    }

    fn scale(&self, size: f32) -> f32 {
        size / f32::from(self.0.units_per_em())
    }
}

static REGULAR: &[u8] = include_bytes!("../../../fonts/Roboto-Regular-subset.ttf");
static STRONG: &[u8] = include_bytes!("../../../fonts/Roboto-Medium-subset.ttf");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_of_a_plot_is_in_the_font() {
        for is_strong in [false, true] {
            let font = Font::of_weight(is_strong);
            for letter in (' '..='~').chain("µ·×±…–≤≥".chars()) {
                assert!(font.0.glyph_index(letter).is_some(), "{letter}");
            }
            assert!(font.width("MM", 10.0) > font.width("ii", 10.0));
        }
    }
}
