//! `preprocessor_config.json`: which processor, and its fields, with that class's defaults for those left out. One is of
//! our own, for models that foveate trained: as SigLIP's, but a picture keeps its aspect inside of `size`.
//!
//! transformers 5 writes the same fields under `image_processor` in `processor_config.json`; both are read.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Size;
use super::error::PreprocessError;
use super::preprocess::{CLIP_MEAN, CLIP_STD, Preprocessor, Target};
use super::resize::Filter;

/// A processor class of transformers, or ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Clip,
    Siglip,
    Bit,
    Llava,
    LlavaNext,
    Foveate,
}

impl Class {
    /// Whether a number as `size` is the shorter edge, and `crop_size` counts.
    fn crops(self) -> bool {
        !matches!(self, Class::Siglip | Class::Foveate)
    }
}

const CLASSES: [(&str, Class); 6] = [
    ("CLIPImageProcessor", Class::Clip),
    ("SiglipImageProcessor", Class::Siglip),
    ("BitImageProcessor", Class::Bit),
    ("LlavaImageProcessor", Class::Llava),
    ("LlavaNextImageProcessor", Class::LlavaNext),
    ("FoveateImageProcessor", Class::Foveate),
];

/// Largest side that a configuration may ask for.
const MAX_SIDE: u32 = 16_384;

/// The fields as they stand in the file; an absent one and `null` mean the default.
#[derive(Deserialize)]
struct Fields {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_pad: Option<bool>,
    do_resize: Option<bool>,
    size: Option<Value>,
    resample: Option<Value>,
    do_center_crop: Option<bool>,
    crop_size: Option<Value>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Value>,
    image_std: Option<Value>,
    image_grid_pinpoints: Option<Value>,
}

/// A file's name beside its fields, for errors.
struct Reader<'a> {
    file: &'a str,
}

impl Preprocessor {
    /// Reads `preprocessor_config.json` or else `processor_config.json` in a model's folder.
    pub fn from_folder(folder: &Path) -> Result<Preprocessor, PreprocessError> {
        let old = folder.join("preprocessor_config.json");
        let path = if old.exists() { old } else { folder.join("processor_config.json") };
        let file = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => Preprocessor::from_json(&file, &text),
            Err(source) => Err(PreprocessError::Read { file, source }),
        }
    }

    /// Reads the text of either file; `file` is what errors call it.
    ///
    /// ```
    /// use foveate_data::image::Preprocessor;
    /// let published = r#"{"image_processor_type": "CLIPImageProcessor", "size": 336, "crop_size": 336, "resample": 3}"#;
    /// assert_eq!(Preprocessor::from_json("preprocessor_config.json", published)?, Preprocessor::clip(336));
    /// # Ok::<(), foveate_data::image::PreprocessError>(())
    /// ```
    pub fn from_json(file: &str, text: &str) -> Result<Preprocessor, PreprocessError> {
        let json = |source| PreprocessError::Json { file: file.to_owned(), source };
        let mut value: Value = serde_json::from_str(text).map_err(json)?;
        if let Some(nested) = value.get_mut("image_processor") {
            value = nested.take();
        }
        let fields: Fields = serde_json::from_value(value).map_err(json)?;
        Reader { file }.preprocessor(fields)
    }
}

impl Reader<'_> {
    fn field(&self, field: &'static str, found: impl std::fmt::Display, allowed: &str) -> PreprocessError {
        let (found, allowed) = (found.to_string(), allowed.to_owned());
        PreprocessError::Field { file: self.file.to_owned(), field, found, allowed }
    }

    fn preprocessor(&self, fields: Fields) -> Result<Preprocessor, PreprocessError> {
        let class = self.class(&fields)?;
        let default = match class {
            Class::Siglip => Preprocessor::siglip(224),
            Class::Foveate => {
                Preprocessor { resize: Some(Target::Inside(Size::square(224))), ..Preprocessor::siglip(224) }
            }
            Class::Bit => Preprocessor { mean: CLIP_MEAN, std: CLIP_STD, ..Preprocessor::clip(224) },
            Class::Clip | Class::Llava => Preprocessor::clip(224),
            Class::LlavaNext => {
                Preprocessor { tiling: Preprocessor::llava_next().tiling, ..Preprocessor::clip(224) }
            }
        };

        let mut resize = default.resize;
        if let Some(size) = &fields.size {
            resize = Some(self.target(class, size)?);
        }
        let mut crop = default.crop;
        if let (Some(size), true) = (&fields.crop_size, class.crops()) {
            crop = Some(self.exact("crop_size", size)?);
        }
        let tiling = match (&fields.image_grid_pinpoints, class) {
            (Some(pinpoints), Class::LlavaNext) => Some(self.pinpoints(pinpoints)?),
            _ => default.tiling,
        };
        let std = self.colour("image_std", fields.image_std.as_ref(), default.std)?;
        if std.contains(&0.0) {
            return Err(self.field("image_std", format!("{std:?}"), "numbers other than 0"));
        }
        Ok(Preprocessor {
            // In LLaVA-NeXT `do_pad` only fills up a batch.
            pad_to_square: class == Class::Llava && fields.do_pad.unwrap_or(false),
            resize: resize.filter(|_| fields.do_resize.unwrap_or(true)),
            filter: self.filter(fields.resample.as_ref())?,
            order: default.order,
            crop: crop.filter(|_| fields.do_center_crop.unwrap_or(true)),
            rescale: fields.do_rescale.unwrap_or(true).then(|| fields.rescale_factor.unwrap_or(1.0 / 255.0)),
            normalise: fields.do_normalize.unwrap_or(true),
            mean: self.colour("image_mean", fields.image_mean.as_ref(), default.mean)?,
            std,
            tiling,
        })
    }

    fn class(&self, fields: &Fields) -> Result<Class, PreprocessError> {
        let (field, name) = match (&fields.image_processor_type, &fields.feature_extractor_type) {
            (Some(name), _) => ("image_processor_type", name.strip_suffix("Fast").unwrap_or(name).to_owned()),
            // Published before 2023, CLIP's own among them.
            (None, Some(name)) => {
                ("feature_extractor_type", name.replace("FeatureExtractor", "ImageProcessor"))
            }
            (None, None) => ("image_processor_type", String::new()),
        };
        let found = CLASSES.iter().find(|(known, _)| *known == name);
        found.map(|(_, class)| *class).ok_or_else(|| {
            let names = CLASSES.map(|(known, _)| known).join(", ");
            let name = if name.is_empty() { "missing".to_owned() } else { format!("`{name}`") };
            self.field(field, name, &format!("{names}, each also with Fast at its end"))
        })
    }

    fn filter(&self, resample: Option<&Value>) -> Result<Filter, PreprocessError> {
        let Some(value) = resample else { return Ok(Filter::Bicubic) };
        let allowed = "1 (Lanczos), 2 (bilinear), 3 (bicubic) and 4 (box)";
        value.as_i64().and_then(Filter::from_pillow).ok_or_else(|| self.field("resample", value, allowed))
    }

    /// `size`: a number means the shorter edge, except for those that know only height and width.
    fn target(&self, class: Class, size: &Value) -> Result<Target, PreprocessError> {
        if class.crops() {
            let edge =
                size.get("shortest_edge").filter(|_| size.as_object().is_some_and(|map| map.len() == 1));
            if let Some(edge) = edge.or(Some(size).filter(|size| size.is_number())) {
                return self.side("size", edge).map(Target::ShortestEdge);
            }
        }
        let size = self.exact("size", size)?;
        Ok(if class == Class::Foveate { Target::Inside(size) } else { Target::Exact(size) })
    }

    /// `{"height", "width"}`, `[height, width]`, or the side of a square.
    fn exact(&self, field: &'static str, size: &Value) -> Result<Size, PreprocessError> {
        let pair = match size {
            Value::Number(_) => Some((size, size)),
            Value::Array(sides) if sides.len() == 2 => Some((&sides[0], &sides[1])),
            Value::Object(map) if map.len() == 2 => map.get("height").zip(map.get("width")),
            _ => None,
        };
        let allowed = "a number, [height, width], {\"height\", \"width\"} or, where an aspect is kept, {\"shortest_edge\"}";
        let (height, width) = pair.ok_or_else(|| self.field(field, size, allowed))?;
        Ok(Size { height: self.side(field, height)?, width: self.side(field, width)? })
    }

    fn side(&self, field: &'static str, value: &Value) -> Result<u32, PreprocessError> {
        let side = value.as_u64().and_then(|side| u32::try_from(side).ok());
        side.filter(|side| (1..=MAX_SIDE).contains(side))
            .ok_or_else(|| self.field(field, value, &format!("whole numbers from 1 to {MAX_SIDE}")))
    }

    fn pinpoints(&self, value: &Value) -> Result<Vec<Size>, PreprocessError> {
        let pairs = value.as_array().filter(|pairs| !pairs.is_empty() && pairs.iter().all(Value::is_array));
        let allowed = "a list of one or more [height, width]";
        let pairs = pairs.ok_or_else(|| self.field("image_grid_pinpoints", value, allowed))?;
        pairs.iter().map(|pair| self.exact("image_grid_pinpoints", pair)).collect()
    }

    fn colour(
        &self,
        field: &'static str,
        value: Option<&Value>,
        default: [f64; 3],
    ) -> Result<[f64; 3], PreprocessError> {
        let Some(value) = value else { return Ok(default) };
        let numbers: Option<[f64; 3]> = match value {
            Value::Number(number) => number.as_f64().map(|number| [number; 3]),
            Value::Array(numbers) => {
                let numbers: Option<Vec<f64>> = numbers.iter().map(Value::as_f64).collect();
                numbers.and_then(|numbers| numbers.try_into().ok())
            }
            _ => None,
        };
        numbers.ok_or_else(|| {
            self.field(field, value, "a number or a list of three, one for each of red, green, blue")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Preprocessor, PreprocessError> {
        Preprocessor::from_json("p.json", text)
    }

    #[test]
    fn configurations_as_published() {
        let dinov2 = r#"{"image_processor_type": "BitImageProcessor", "crop_size": {"height": 224, "width": 224},
            "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3,
            "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256}}"#;
        assert_eq!(read(dinov2).unwrap(), Preprocessor::dinov2());
        let siglip = r#"{"image_processor_type": "SiglipImageProcessor", "image_mean": [0.5, 0.5, 0.5],
            "image_std": 0.5, "size": {"height": 384, "width": 384}, "processor_class": "SiglipProcessor"}"#;
        assert_eq!(read(siglip).unwrap(), Preprocessor::siglip(384));
        let llava = r#"{"image_processor": {"image_processor_type": "LlavaImageProcessorFast", "do_pad": true,
            "size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}}"#;
        assert_eq!(read(llava).unwrap(), Preprocessor::llava_1_5());
        let next = r#"{"image_processor_type": "LlavaNextImageProcessor", "do_pad": true, "size": 336, "crop_size": 336,
            "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]}"#;
        assert_eq!(read(next).unwrap(), Preprocessor::llava_next());
        let old = r#"{"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "do_normalize": false,
            "do_rescale": false, "do_resize": false, "do_center_crop": null}"#;
        let expected =
            Preprocessor { normalise: false, rescale: None, resize: None, ..Preprocessor::clip(224) };
        assert_eq!(read(old).unwrap(), expected);
    }

    #[test]
    fn errors_name_file_field_and_value() {
        let clip = |rest: &str| {
            read(&format!(r#"{{"image_processor_type": "CLIPImageProcessor", {rest}}}"#))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            clip(r#""resample": 5"#),
            "p.json: `resample` is 5, allowed are 1 (Lanczos), 2 (bilinear), 3 (bicubic) and 4 (box)"
        );
        assert_eq!(clip(r#""size": 0"#), "p.json: `size` is 0, allowed are whole numbers from 1 to 16384");
        assert!(
            clip(r#""size": {"shortest_edge": 3, "longest_edge": 9}"#).starts_with("p.json: `size` is {")
        );
        assert!(clip(r#""image_mean": [0.5]"#).starts_with("p.json: `image_mean` is [0.5], allowed"));
        assert!(clip(r#""image_std": 0"#).contains("`image_std`"));
        assert!(read("{}").unwrap_err().to_string().contains("`image_processor_type` is missing"));
        let unknown = read(r#"{"image_processor_type": "FuyuImageProcessor"}"#).unwrap_err().to_string();
        assert!(
            unknown.contains("`FuyuImageProcessor`") && unknown.contains("SiglipImageProcessor"),
            "{unknown}"
        );
        assert!(read("[1]").is_err() && read("").is_err());
        let nowhere = Preprocessor::from_folder(Path::new("nowhere")).unwrap_err().to_string();
        assert!(nowhere.starts_with("nowhere"), "{nowhere}");
    }

    proptest! {
        #[test]
        fn any_json_value_reads_or_is_refused(
            field in prop::sample::select(vec!["size", "crop_size", "resample", "image_mean", "image_grid_pinpoints"]),
            value in prop::sample::select(vec![
                "null", "-1", "1e99", "18446744073709551615", "\"a\"", "[]", "[[]]", "[1, 2]", "[[1, 2], 3]", "{}",
                "{\"height\": 1}", "{\"shortest_edge\": []}", "true", "[0.1, 0.2, 0.3]",
            ]),
            class in prop::sample::select(CLASSES.map(|(name, _)| name).to_vec()),
        ) {
            let text = format!("{{\"image_processor_type\": \"{class}\", \"{field}\": {value}}}");
            match read(&text) {
                Ok(preprocessor) => prop_assert!(preprocessor.resize.is_some()),
                Err(error) => prop_assert!(error.to_string().contains(field), "{}", error),
            }
        }
    }
}
