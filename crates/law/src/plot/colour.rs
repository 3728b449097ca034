//! Colours that tell things apart for readers with and without colour vision, and in grey print.

use plotters::style::RGBColor;

pub(super) const WHITE: RGBColor = RGBColor(255, 255, 255);
/// Titles, frontier and highlights.
pub(super) const INK: RGBColor = RGBColor(26, 28, 33);
/// Labels of axes and legends.
pub(super) const TEXT: RGBColor = RGBColor(55, 60, 70);
/// Axis lines and their ticks.
pub(super) const AXIS: RGBColor = RGBColor(110, 116, 128);
pub(super) const GRID: RGBColor = RGBColor(225, 228, 233);
pub(super) const FAINT_GRID: RGBColor = RGBColor(242, 243, 246);
/// Limits such as a budget or a confidence threshold.
pub(super) const LIMIT: RGBColor = RGBColor(176, 42, 48);

/// Anchors of the ordered ramp: lightness climbs steadily while the hue goes from violet to amber, so that the order
/// survives any colour-vision deficiency and a grey print. It stops short of yellows that fade on white.
const RAMP: [[f64; 3]; 5] = [
    [58.0, 20.0, 104.0],
    [47.0, 80.0, 158.0],
    [26.0, 134.0, 148.0],
    [86.0, 174.0, 92.0],
    [228.0, 178.0, 24.0],
];

/// Okabe and Ito's palette without black: eight kinds that every form of colour vision can tell apart. Their order keeps
/// those apart that come closest without red-green vision (green and pink), since parts of a bar touch.
const KINDS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(240, 228, 66),
    RGBColor(204, 121, 167),
    RGBColor(150, 150, 150),
];

/// Colour `index` of `count` ordered things, dark to light.
pub(super) fn ordered(index: usize, count: usize) -> RGBColor {
    if count < 2 {
        return KINDS[0];
    }
    let position = index as f64 / (count - 1) as f64 * (RAMP.len() - 1) as f64;
    let left = (position.floor() as usize).min(RAMP.len() - 2);
    let share = position - left as f64;
    let channel = |which: usize| {
        let (low, high) = (RAMP[left][which], RAMP[left + 1][which]);
        (low + share * (high - low)).round() as u8
    };
    RGBColor(channel(0), channel(1), channel(2))
}

/// Colour `index` of `count` unordered kinds; beyond eight kinds the ordered ramp has to do.
pub(super) fn kind(index: usize, count: usize) -> RGBColor {
    if count <= KINDS.len() { KINDS[index % KINDS.len()] } else { ordered(index, count) }
}

/// Black or white, whichever is easier to read on `background`.
pub(super) fn readable_on(background: RGBColor) -> RGBColor {
    if luminance(background) > 0.2 { INK } else { WHITE }
}

/// Relative luminance as WCAG defines it, 0 for black to 1 for white.
fn luminance(colour: RGBColor) -> f64 {
    let linear = |channel: u8| {
        let value = f64::from(channel) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(colour.0) + 0.7152 * linear(colour.1) + 0.0722 * linear(colour.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ordered_ramp_gets_lighter_at_every_step() {
        for count in 2..40 {
            let lightness: Vec<f64> = (0..count).map(|index| luminance(ordered(index, count))).collect();
            assert!(lightness.windows(2).all(|pair| pair[1] > pair[0]), "{count}: {lightness:?}");
        }
    }

    #[test]
    fn text_on_every_colour_has_a_contrast_of_four_or_more() {
        let colours = (0..8).map(|index| kind(index, 8)).chain((0..20).map(|index| ordered(index, 20)));
        for background in colours {
            let (ink, ground) = (luminance(readable_on(background)), luminance(background));
            let contrast = (ink.max(ground) + 0.05) / (ink.min(ground) + 0.05);
            assert!(contrast >= 4.0, "{background:?}: {contrast}");
        }
    }
}
