//! Pictures of where visual tokens look: the image, and beside it one dark grey copy for each token, on which the patches
//! that it reads show through in colour and amber. Lightness carries the weight, so that no colour vision is needed.

use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};

const PAPER: Rgb<u8> = Rgb([250, 250, 250]);
const GLOW: [f32; 3] = [255.0, 190.0, 40.0];
const OUTLINE: Rgb<u8> = Rgb([255, 255, 255]);
/// How dark the copies are where nothing looks.
const DIMMED: f32 = 0.3;
/// How much of the image shows through where the token looks, beside amber.
const SHOWN: f32 = 0.6;
const GAP: u32 = 8;
/// Longer side of the image itself.
const IMAGE: u32 = 336;
/// Longer sides of the copies: as large as the number of them allows.
const PANELS_ACROSS: u32 = 1344;
const SMALLEST: u32 = 56;

/// Where the tokens of one picture look.
pub(crate) struct Looks<'a> {
    /// What the tower saw.
    pub(crate) picture: &'a RgbImage,
    /// Patches down and across.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// For each token a weight for each patch, row by row.
    pub(crate) weights: &'a [Vec<f32>],
    /// For methods that select, the patch behind each token.
    pub(crate) kept: Option<&'a [Option<usize>]>,
}

/// All pictures below each other.
pub(crate) fn draw(pictures: &[Looks<'_>]) -> RgbImage {
    let parts: Vec<RgbImage> = pictures.iter().map(one).collect();
    let width = parts.iter().map(RgbImage::width).max().unwrap_or(1);
    let height = parts.iter().map(RgbImage::height).sum::<u32>().max(1);
    let mut page = RgbImage::from_pixel(width, height, PAPER);
    let mut top = 0;
    for part in &parts {
        image::imageops::replace(&mut page, part, 0, i64::from(top));
        top += part.height();
    }
    page
}

fn one(looks: &Looks<'_>) -> RgbImage {
    let count = u32::try_from(looks.weights.len()).unwrap_or(u32::MAX).max(1);
    let across = (1..=count).find(|across| across * across >= count).unwrap_or(count);
    let down = count.div_ceil(across);
    let whole = scaled(looks.picture, IMAGE);
    let small = scaled(looks.picture, (PANELS_ACROSS / across).clamp(SMALLEST, IMAGE));
    let width = GAP + whole.width() + 2 * GAP + across * (small.width() + GAP);
    let height = 2 * GAP + whole.height().max(down * (small.height() + GAP) - GAP);
    let mut page = RgbImage::from_pixel(width, height, PAPER);
    image::imageops::replace(&mut page, &whole, i64::from(GAP), i64::from(GAP));
    for (token, weights) in looks.weights.iter().enumerate() {
        let token = u32::try_from(token).unwrap_or(0);
        let mut panel = lit(&small, weights, looks);
        if let Some(Some(patch)) = looks.kept.and_then(|kept| kept.get(token as usize)) {
            outline(&mut panel, *patch, looks);
        }
        let left = GAP + whole.width() + 2 * GAP + token % across * (small.width() + GAP);
        let top = GAP + token / across * (small.height() + GAP);
        image::imageops::replace(&mut page, &panel, i64::from(left), i64::from(top));
    }
    page
}

/// The picture with a longer side of so many pixels.
fn scaled(picture: &RgbImage, longer: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let most = width.max(height).max(1);
    let along = |side: u32| (longer * side / most).max(1);
    resize(picture, along(width), along(height), FilterType::CatmullRom)
}

/// The patch that a pixel of a panel of this size belongs to.
fn patch_at(x: u32, y: u32, (width, height): (u32, u32), looks: &Looks<'_>) -> usize {
    let along = |at: u32, patches: usize, side: u32| at as usize * patches / side.max(1) as usize;
    along(y, looks.rows, height) * looks.columns + along(x, looks.columns, width)
}

/// The picture, dark but for what a token looks at.
fn lit(picture: &RgbImage, weights: &[f32], looks: &Looks<'_>) -> RgbImage {
    let most = weights.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let mut panel = picture.clone();
    let size = panel.dimensions();
    for (x, y, pixel) in panel.enumerate_pixels_mut() {
        let weight = weights.get(patch_at(x, y, size, looks)).copied().unwrap_or(0.0);
        // The root lifts what is small beside one large weight.
        let share = (weight.max(0.0) / most).sqrt();
        let [r, g, b] = pixel.0.map(f32::from);
        let dark = DIMMED * (0.299 * r + 0.587 * g + 0.114 * b);
        for (channel, glow) in pixel.0.iter_mut().zip(GLOW) {
            let seen = SHOWN * f32::from(*channel) + (1.0 - SHOWN) * glow;
            *channel = (dark + share * (seen - dark)) as u8;
        }
    }
    panel
}

fn outline(panel: &mut RgbImage, patch: usize, looks: &Looks<'_>) {
    let size = panel.dimensions();
    let inside = |x: i64, y: i64| {
        let within = |at: i64, side: u32| u32::try_from(at).ok().filter(|at| *at < side);
        matches!((within(x, size.0), within(y, size.1)), (Some(x), Some(y)) if patch_at(x, y, size, looks) == patch)
    };
    let edge = |x: i64, y: i64| {
        let near = [(-1, 0), (1, 0), (0, -1), (0, 1)];
        inside(x, y) && near.iter().any(|(dx, dy)| !inside(x + dx, y + dy))
    };
    for (x, y, pixel) in panel.enumerate_pixels_mut() {
        if edge(i64::from(x), i64::from(y)) {
            *pixel = OUTLINE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lights_its_patches_and_nothing_else() {
        let picture = RgbImage::from_pixel(64, 64, Rgb([100, 100, 100]));
        // Four tokens on 2 x 2 patches: each looks at one.
        let weights: Vec<Vec<f32>> =
            (0..4).map(|token| (0..4).map(|patch| f32::from(u8::from(patch == token))).collect()).collect();
        let looks = Looks { picture: &picture, rows: 2, columns: 2, weights: &weights, kept: None };
        let page = draw(&[looks]);
        let (left, side) = (GAP + IMAGE + 2 * GAP, IMAGE);
        for token in 0..4_u32 {
            let (x0, y0) = (left + token % 2 * (side + GAP), GAP + token / 2 * (side + GAP));
            for patch in 0..4_u32 {
                let (x, y) = (x0 + side / 4 + patch % 2 * side / 2, y0 + side / 4 + patch / 2 * side / 2);
                let [r, _, b] = page.get_pixel(x, y).0;
                assert_eq!(r > 120 && r > b, patch == token, "token {token}, patch {patch}: {r} {b}");
                assert_eq!(r == b, patch != token);
            }
        }
        assert_eq!(page.get_pixel(GAP + 5, GAP + 5).0, [100; 3], "the image itself is left as it is");
    }

    #[test]
    fn a_wide_picture_stays_wide() {
        let picture = RgbImage::from_pixel(96, 24, Rgb([100; 3]));
        // One token that looks at the last of 1 x 4 patches.
        let weights = vec![vec![0.0, 0.0, 0.0, 1.0]];
        let looks =
            Looks { picture: &picture, rows: 1, columns: 4, weights: &weights, kept: Some(&[Some(3)]) };
        let page = draw(&[looks]);
        assert_eq!(page.dimensions(), (GAP + IMAGE + 2 * GAP + IMAGE + GAP, 2 * GAP + IMAGE / 4));
        let at = |patch: u32| {
            let left = GAP + IMAGE + 2 * GAP + patch * IMAGE / 4 + IMAGE / 8;
            page.get_pixel(left, GAP + IMAGE / 8).0
        };
        assert!((0..3).all(|patch| at(patch)[0] == at(patch)[2]) && at(3)[0] > 120, "{:?}", at(3));
        assert_eq!(page.get_pixel(GAP + IMAGE + 2 * GAP + IMAGE - 1, GAP).0, OUTLINE.0);
    }

    #[test]
    fn kept_patches_are_outlined_and_pages_stack() {
        let picture = RgbImage::from_pixel(30, 30, Rgb([0, 0, 0]));
        let weights = vec![vec![0.0; 9]];
        let kept = [Some(4)];
        let looks = || Looks { picture: &picture, rows: 3, columns: 3, weights: &weights, kept: Some(&kept) };
        let page = draw(&[looks()]);
        let white = page.pixels().filter(|pixel| **pixel == OUTLINE).count() as u32;
        assert_eq!(white, 4 * (IMAGE / 3) - 4);
        let two = draw(&[looks(), looks()]);
        assert_eq!((two.width(), two.height()), (page.width(), 2 * page.height()));
    }
}
