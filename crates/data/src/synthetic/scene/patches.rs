//! Which object each patch of a scene shows.

use super::{Scene, outline};
use crate::patches::{PatchField, PatchLabels};

/// Points that are looked at along each side of a patch.
const POINTS: usize = 4;
/// So many of a patch's points an object must cover to be what the patch shows.
const LEAST: usize = 4;

pub(super) fn labels(scene: &Scene, side: usize) -> PatchLabels {
    let mut labels = PatchLabels::none(side);
    for patch in 0..side * side {
        let mut covered = vec![0; scene.objects.len()];
        for point in 0..POINTS * POINTS {
            let at = |patch: usize, point: usize| {
                (patch as f32 + (point as f32 + 0.5) / POINTS as f32) / side as f32
            };
            let (x, y) = (at(patch % side, point % POINTS), at(patch / side, point / POINTS));
            if let Some(top) = scene.objects.iter().rposition(|object| outline::covers(object, x, y)) {
                covered[top] += 1;
            }
        }
        let most = (0..covered.len()).rev().max_by_key(|object| covered[*object]);
        if let Some(object) = most.filter(|object| covered[*object] >= LEAST) {
            let object = &scene.objects[object];
            labels.set(patch, PatchField::Shape, object.shape as u8 + 1);
            labels.set(patch, PatchField::Colour, object.colour as u8 + 1);
            labels.set(patch, PatchField::Scale, object.scale as u8 + 1);
        }
    }
    for (index, object) in scene.objects.iter().enumerate() {
        if let Some(patch) = labels.patch_at(object.x, object.y).filter(|_| scene.visible(index) > 0.0) {
            labels.set(patch, PatchField::Centre, 1);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{SceneSettings, Scenes};
    use super::*;
    use crate::synthetic::Split;

    /// Every label is a claim about the scene's geometry, checked against the objects by other means than the code's.
    #[test]
    fn a_labelled_patch_lies_at_an_object_that_looks_so() {
        let scenes = Scenes::new(SceneSettings::default(), Split::Train, 3, 50);
        let mut labelled = 0;
        for index in 0..50 {
            let (scene, _) = scenes.scene(index);
            let labels = labels(&scene, 12);
            for patch in 0..144 {
                let class = |field| labels.class(patch, field);
                let (x, y) =
                    ((patch % 12) as f32 / 12.0 + 1.0 / 24.0, (patch / 12) as f32 / 12.0 + 1.0 / 24.0);
                // A patch's middle is at most half its diagonal from any of its points.
                let near = |reach: f32| {
                    scene.objects.iter().filter(move |object| {
                        (object.x - x).hypot(object.y - y) <= 1.05 * object.radius + reach
                    })
                };
                if class(PatchField::Shape) == 0 {
                    assert_eq!((class(PatchField::Colour), class(PatchField::Scale)), (0, 0));
                    continue;
                }
                labelled += 1;
                assert!(near(0.06).any(|object| {
                    (object.shape as u8 + 1, object.colour as u8 + 1, object.scale as u8 + 1)
                        == (class(PatchField::Shape), class(PatchField::Colour), class(PatchField::Scale))
                }));
            }
            let centres = (0..144).filter(|patch| labels.class(*patch, PatchField::Centre) == 1).count();
            assert!(centres >= 1 && centres <= scene.objects.len(), "{centres} of {}", scene.objects.len());
        }
        // Three to eight objects cover about a fifth of a scene.
        assert!((500..3000).contains(&labelled), "{labelled}");
    }
}
