//! The one font of all figures: Noto Sans in two weights, cut to Latin, Greek and the signs figures need.
//!
//! It is compiled in, so that a figure looks the same on every machine and its layout knows the width of each
//! word. Licence: SIL OFL 1.1, in `assets/fonts/OFL.txt`. Characters outside the subset are left to the viewer in an
//! SVG and stay empty in a PNG.

use std::sync::{Arc, LazyLock};

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};
use resvg::usvg::fontdb;

use super::error::PlotError;

/// What SVG viewers try in turn.
pub(super) const FAMILY: &str = "Noto Sans, Helvetica, Arial, sans-serif";

const REGULAR: &[u8] = include_bytes!("../../assets/fonts/NotoSans-Regular-subset.ttf");
const SEMIBOLD: &[u8] = include_bytes!("../../assets/fonts/NotoSans-SemiBold-subset.ttf");

/// Ascent plus descent over the em of Noto Sans: plotters scales a font by that height, SVG by the em.
const LINE_OVER_EM: f64 = 1.362;

/// Widths are measured at this em so that plotters' whole numbers are precise enough.
const MEASURING_EM: f64 = 1000.0;

/// Registration with plotters is global and happens once.
static REGISTERED: LazyLock<bool> = LazyLock::new(|| {
    register_font(FAMILY, FontStyle::Normal, REGULAR).is_ok()
        && register_font(FAMILY, FontStyle::Bold, SEMIBOLD).is_ok()
});

static DATABASE: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut database = fontdb::Database::new();
    database.load_font_data(REGULAR.to_vec());
    database.load_font_data(SEMIBOLD.to_vec());
    Arc::new(database)
});

/// The weight of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    SemiBold,
}

impl Weight {
    pub(super) fn style(self) -> FontStyle {
        match self {
            Self::Regular => FontStyle::Normal,
            Self::SemiBold => FontStyle::Bold,
        }
    }
}

/// The fonts for making pixels: these two and none of the system's.
pub(super) fn database() -> Arc<fontdb::Database> {
    Arc::clone(&DATABASE)
}

/// The width of `text` at a font size of `em`, both in pixels; kerning is left out, which errs by a pixel or two.
pub(super) fn width(text: &str, em: f64, weight: Weight) -> Result<f64, PlotError> {
    if !*REGISTERED {
        return Err(PlotError::Drawing("the bundled font is not a font".to_owned()));
    }
    let font = FontDesc::new(FontFamily::Name(FAMILY), MEASURING_EM * LINE_OVER_EM, weight.style());
    let (size, _) = font.box_size(text).map_err(|error| PlotError::Drawing(error.to_string()))?;
    Ok(f64::from(size) * em / MEASURING_EM)
}

/// `text` cut to `limit` pixels, the cut shown by an ellipsis.
pub(super) fn fit(text: &str, em: f64, weight: Weight, limit: f64) -> Result<String, PlotError> {
    if width(text, em, weight)? <= limit {
        return Ok(text.to_owned());
    }
    let characters: Vec<char> = text.chars().collect();
    let cut = |length: usize| format!("{}…", characters[..length].iter().collect::<String>().trim_end());
    // The longest cut that fits, by bisection: labels may be of any length.
    let (mut fits, mut too_long) = (0, characters.len());
    while too_long - fits > 1 {
        let middle = usize::midpoint(fits, too_long);
        if width(&cut(middle), em, weight)? <= limit {
            fits = middle;
        } else {
            too_long = middle;
        }
    }
    Ok(cut(fits))
}

/// `text` broken between words into at most `rows` lines of `limit` pixels; what does not fit ends in an ellipsis.
pub(super) fn wrap(
    text: &str,
    em: f64,
    weight: Weight,
    limit: f64,
    rows: usize,
) -> Result<Vec<String>, PlotError> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let joined = lines.last().map(|line| format!("{line} {word}"));
        match joined {
            Some(joined) if lines.len() >= rows || width(&joined, em, weight)? <= limit => {
                lines.pop();
                lines.push(joined);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| fit(line, em, weight, limit)).collect()
}
