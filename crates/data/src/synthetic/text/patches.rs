//! Which characters each patch of a page shows.

use super::Page;
use super::font::number;
use crate::patches::{PatchField, PatchLabels};

const SLOTS: [PatchField; 3] = [PatchField::First, PatchField::Second, PatchField::Third];

/// 1 for an exclamation mark and so on through ASCII; spaces are not seen.
fn class(character: char) -> Option<u8> {
    number(character).filter(|number| *number > 0).map(|number| number as u8)
}

pub(super) fn labels(page: &Page, side: usize) -> PatchLabels {
    let mut labels = PatchLabels::none(side);
    let (cos, sin) = page.turn;
    for line in &page.lines {
        let mut pen = line.x;
        // Half the height of a small letter above the baseline.
        let middle = line.y - 0.35 * line.font.capital() * line.size - 0.1 * line.size;
        for character in line.text.chars() {
            let advance = line.size * line.font.width(character.encode_utf8(&mut [0; 4]));
            let (x, y) = (pen + 0.5 * advance - 0.5, middle - 0.5);
            pen += advance;
            let (Some(class), Some(patch)) =
                (class(character), labels.patch_at(cos * x - sin * y + 0.5, sin * x + cos * y + 0.5))
            else {
                continue;
            };
            if let Some(free) = SLOTS.into_iter().find(|slot| labels.class(patch, *slot) == 0) {
                labels.set(patch, free, class);
            }
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{TextSettings, Texts};
    use super::*;
    use crate::synthetic::Split;

    #[test]
    fn the_characters_of_a_page_are_found_in_its_patches() {
        let texts = Texts::new(TextSettings::default(), Split::Train, 3, 60);
        for index in 0..60 {
            let (page, _) = texts.page(index);
            let labels = labels(&page, 48);
            let mut seen: Vec<u8> = (0..48 * 48)
                .flat_map(|patch| SLOTS.map(|slot| labels.class(patch, slot)))
                .filter(|class| *class > 0)
                .map(|class| class + b' ')
                .collect();
            let mut written: Vec<u8> =
                page.lines.iter().flat_map(|line| line.text.bytes()).filter(|byte| *byte != b' ').collect();
            if !page.lines.iter().all(|line| line.text.is_ascii()) {
                continue;
            }
            seen.sort_unstable();
            written.sort_unstable();
            assert_eq!(seen, written, "page {index}");
        }
    }

    #[test]
    fn ink_lies_where_characters_are_said_to_be() {
        let texts = Texts::new(TextSettings::default(), Split::Train, 5, 40);
        let (mut inked, mut marked) = (0, 0);
        for index in 0..40 {
            let (page, _) = texts.page(index);
            let (labels, image) = (labels(&page, 12), page.render(168));
            for patch in (0..144).filter(|patch| labels.class(*patch, PatchField::First) > 0) {
                let shade = |x: usize, y: usize| {
                    let at = 3 * (y * 168 + x);
                    image.as_rgb()[at..at + 3].iter().map(|channel| i32::from(*channel)).sum::<i32>()
                };
                let pixels = (0..196).map(|i| shade(patch % 12 * 14 + i % 14, patch / 12 * 14 + i / 14));
                let (least, most) = pixels.fold((i32::MAX, 0), |(a, b), p| (a.min(p), b.max(p)));
                marked += 1;
                inked += usize::from(most - least > 150);
            }
        }
        assert!(marked > 300 && inked as f64 > 0.97 * marked as f64, "{inked} of {marked}");
    }
}
