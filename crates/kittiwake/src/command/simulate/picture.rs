//! A drawing of lines, boxes and words, as SVG and as PNG.

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{Dimensions, DrawTarget, OriginDimensions, Point, Primitive, Size};
use embedded_graphics::primitives::{Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Baseline, Text, TextStyleBuilder};
use embedded_graphics::{Drawable, Pixel};
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Write as _;

/// A colour: red, green, blue.
pub type Colour = [u8; 3];

/// One thing that is drawn. Units are pixels from the upper left corner.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A filled box.
    Box {
        /// Left, top, width, height.
        at: [f64; 4],
        /// Its colour.
        fill: Colour,
    },
    /// A line through points.
    Line {
        /// The points.
        points: Vec<(f64, f64)>,
        /// Its colour.
        colour: Colour,
        /// Its width.
        width: u32,
    },
    /// Words; `y` is the middle of their height.
    Words {
        /// Where they begin or end.
        x: f64,
        /// The middle.
        y: f64,
        /// The words.
        text: String,
        /// Their colour.
        colour: Colour,
        /// How they stand.
        style: Words,
    },
}

/// How words stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// A heading, that begins at its place.
    Heading,
    /// Begin at their place.
    Left,
    /// End at their place.
    Right,
    /// Have their middle at their place.
    Middle,
}

/// A drawing on white.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// What is drawn, in order.
    pub marks: Vec<Mark>,
}

impl Picture {
    /// The whole SVG file.
    #[must_use]
    pub fn svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let mut svg = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"system-ui, 'Liberation Sans', sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        );
        for mark in &self.marks {
            let _ = match mark {
                Mark::Box {
                    at: [x, y, w, h],
                    fill,
                } => writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{}\"/>",
                    hex(*fill)
                ),
                Mark::Line {
                    points,
                    colour,
                    width,
                } => {
                    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                    writeln!(
                        svg,
                        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\"/>",
                        points.join(" "),
                        hex(*colour)
                    )
                }
                Mark::Words {
                    x,
                    y,
                    text,
                    colour,
                    style,
                } => {
                    let (anchor, more) = match style {
                        Words::Heading => ("start", " font-size=\"16\" font-weight=\"600\""),
                        Words::Left => ("start", ""),
                        Words::Right => ("end", ""),
                        Words::Middle => ("middle", ""),
                    };
                    writeln!(
                        svg,
                        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" dominant-baseline=\"middle\" fill=\"{}\"{more}>{}</text>",
                        hex(*colour),
                        escaped(text)
                    )
                }
            };
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The whole PNG file.
    ///
    /// # Errors
    /// When it cannot be encoded, which is not expected.
    pub fn png(&self) -> anyhow::Result<Vec<u8>> {
        let mut canvas = Canvas::new(self.width, self.height);
        for mark in &self.marks {
            let Ok(()) = draw(&mut canvas, mark);
        }
        encode(self.width, self.height, &canvas.pixels)
    }
}

/// A PNG file of pixels with three bytes each (<https://www.w3.org/TR/png-3/>). Written here because the library for it
/// sets features of the compressor that the WebAssembly engine uses too.
fn encode(width: u32, height: u32, pixels: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    // Eight bits a sample, red-green-blue, deflate, the only filters, not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    let mut data = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.chunks(usize::try_from(width)?.saturating_mul(3).max(1)) {
        // The row as it is.
        data.write_all(&[0])?;
        data.write_all(row)?;
    }
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in [
        (b"IHDR", header),
        (b"IDAT", data.finish()?),
        (b"IEND", Vec::new()),
    ] {
        let mut sum = Crc::new();
        sum.update(name);
        sum.update(&content);
        file.extend(u32::try_from(content.len())?.to_be_bytes());
        file.extend(name);
        file.extend(&content);
        file.extend(sum.sum().to_be_bytes());
    }
    Ok(file)
}

fn draw(canvas: &mut Canvas, mark: &Mark) -> Result<(), Infallible> {
    match mark {
        Mark::Box {
            at: [x, y, w, h],
            fill,
        } => {
            let size = Size::new(w.round().max(1.0) as u32, h.round().max(1.0) as u32);
            Rectangle::new(point(*x, *y), size)
                .into_styled(PrimitiveStyle::with_fill(rgb(*fill)))
                .draw(canvas)
        }
        Mark::Line {
            points,
            colour,
            width,
        } => {
            let style = PrimitiveStyle::with_stroke(rgb(*colour), *width);
            for ((x, y), (to_x, to_y)) in points.iter().zip(points.iter().skip(1)) {
                Line::new(point(*x, *y), point(*to_x, *to_y))
                    .into_styled(style)
                    .draw(canvas)?;
            }
            Ok(())
        }
        Mark::Words {
            x,
            y,
            text,
            colour,
            style,
        } => {
            let font = if *style == Words::Heading {
                &FONT_9X15_BOLD
            } else {
                &FONT_6X10
            };
            let alignment = match style {
                Words::Heading | Words::Left => Alignment::Left,
                Words::Right => Alignment::Right,
                Words::Middle => Alignment::Center,
            };
            let layout = TextStyleBuilder::new()
                .alignment(alignment)
                .baseline(Baseline::Middle)
                .build();
            Text::with_text_style(
                text,
                point(*x, *y),
                MonoTextStyle::new(font, rgb(*colour)),
                layout,
            )
            .draw(canvas)
            .map(|_| ())
        }
    }
}

fn point(x: f64, y: f64) -> Point {
    Point::new(x.round() as i32, y.round() as i32)
}

fn rgb([red, green, blue]: Colour) -> Rgb888 {
    Rgb888::new(red, green, blue)
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Pixels, three bytes each, row by row.
struct Canvas {
    size: Size,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        let bytes = u64::from(width) * u64::from(height) * 3;
        Self {
            size: Size::new(width, height),
            pixels: vec![255; usize::try_from(bytes).unwrap_or_default()],
        }
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let area = self.bounding_box();
        for Pixel(at, colour) in pixels {
            if !area.contains(at) {
                continue;
            }
            let index = i64::from(at.y) * i64::from(self.size.width) + i64::from(at.x);
            let start = usize::try_from(index * 3).unwrap_or(usize::MAX);
            if let Some(bytes) = self.pixels.get_mut(start..start.saturating_add(3)) {
                bytes.copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::ZlibDecoder;
    use std::io::Read;

    #[test]
    fn one_drawing_in_two_forms() {
        let red = [255, 0, 0];
        let words = Mark::Words {
            x: 1.0,
            y: 5.0,
            text: "<a & b>".to_owned(),
            colour: [0, 0, 0],
            style: Words::Left,
        };
        let picture = Picture {
            width: 60,
            height: 10,
            marks: vec![
                Mark::Box {
                    at: [50.0, 0.0, 10.0, 10.0],
                    fill: red,
                },
                Mark::Line {
                    points: vec![(-5.0, -5.0), (900.0, 900.0)],
                    colour: red,
                    width: 1,
                },
                words,
            ],
        };
        let svg = picture.svg();
        assert!(
            svg.contains("fill=\"#ff0000\"") && svg.contains("&lt;a &amp; b&gt;"),
            "{svg}"
        );
        let bytes = picture.png().unwrap();
        assert_eq!(
            (&bytes[..8], &bytes[12..16]),
            (&b"\x89PNG\r\n\x1a\n"[..], &b"IHDR"[..])
        );
        assert_eq!(bytes[16..24], [0, 0, 0, 60, 0, 0, 0, 10]);
        // After the header of 13 bytes: the length, the name, and the compressed rows.
        let length = u32::from_be_bytes(bytes[33..37].try_into().unwrap()) as usize;
        assert_eq!(bytes[37..41], *b"IDAT");
        let mut rows = Vec::new();
        ZlibDecoder::new(&bytes[41..41 + length])
            .read_to_end(&mut rows)
            .unwrap();
        let mut sum = Crc::new();
        sum.update(&bytes[37..41 + length]);
        assert_eq!(bytes[41 + length..45 + length], sum.sum().to_be_bytes());
        let pixels: Vec<u8> = rows.chunks(181).flat_map(|row| row[1..].to_vec()).collect();
        let at = |x: usize, y: usize| pixels[(y * 60 + x) * 3..][..3].to_vec();
        assert_eq!((at(55, 5), at(45, 1)), (red.to_vec(), vec![255; 3]));
        assert!(
            pixels.chunks(3).any(|pixel| pixel == [0, 0, 0]),
            "words are drawn"
        );
    }
}
