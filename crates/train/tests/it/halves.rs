//! A task that a tiny model learns in seconds and nobody can guess: pictures with a left and a right half, each of one of
//! four colours, and the question which colour a half has.

use std::path::Path;

use foveate_train::recipe::Recipe;
use foveate_train::student::Student;

const COLOURS: [(&str, [u8; 3]); 4] =
    [("red", [220, 30, 30]), ("green", [30, 200, 40]), ("blue", [40, 50, 220]), ("yellow", [230, 220, 40])];

/// Bytes of a BMP of 16 × 16 pixels.
fn picture(left: [u8; 3], right: [u8; 3], noise: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(b"BM");
    for number in [54 + 768_u32, 0, 54, 40, 16, 16] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for at in 0..256 {
        let colour = if at % 16 < 8 { left } else { right };
        let shade = (at * 31 + noise * 17) % 29;
        bytes.extend(colour.iter().rev().map(|level| level.saturating_add(shade as u8)));
    }
    bytes
}

/// Writes `count` pictures with both questions.
fn write(folder: &Path, count: usize, first: usize) {
    std::fs::create_dir_all(folder).unwrap();
    let mut lines = String::new();
    for at in first..first + count {
        let ((left, left_colour), (right, right_colour)) = (COLOURS[at % 4], COLOURS[at / 4 % 4]);
        std::fs::write(folder.join(format!("{at}.bmp")), picture(left_colour, right_colour, at)).unwrap();
        let question = |side: &str, answer: &str| {
            format!(
                r#"{{"question": "which colour is {side}?", "answer": "{answer}", "skill": "attribute"}}"#
            )
        };
        let questions = [question("left", left), question("right", right)].join(", ");
        lines += &format!("{{\"image\": \"{at}.bmp\", \"questions\": [{questions}]}}\n");
    }
    std::fs::write(folder.join("metadata.jsonl"), lines).unwrap();
}

const RECIPE: &str = r#"
name = "halves"
seed = 3
questions = 2

[parts]
compressor = { method = "quecc", width = 16, text_width = 24, heads = 2, filters = { elastic = [1, 2] }, query_state = -1, states = [1, -1] }
feature_state = -1
image = { preset = "siglip", side = 16 }
tokenizer = { trained = { vocabulary = 320, samples = 64 } }
template = "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}<|end|>{% else %}<|user|>{{ m.content }}<|assistant|>{% endif %}{% endfor %}"

[parts.tower.fresh]
model_type = "siglip_vision_model"
image_size = 16
patch_size = 8
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2

[parts.language.fresh]
model_type = "llama"
hidden_size = 24
intermediate_size = 48
num_hidden_layers = 2
num_attention_heads = 2
max_position_embeddings = 128
tie_word_embeddings = true

[data.halves]
kind = "folder"
path = "FOLDER/train"

[data.halves-validation]
kind = "folder"
path = "FOLDER/validation"
held_out = true

[[stages]]
name = "only"
steps = 12
batch = 8
accumulation = 2
rates = { tower = 5e-3, compressor = 5e-3, projector = 5e-3, language = 5e-3 }
mix = { halves = 1.0 }
ladder = [[4, 1.0], [1, 1.0]]
warm_up = 0.1
floor = 0.1
weight_decay = 0.01

[checkpoints]
every = 2
keep = 2
"#;

/// The recipe over data in `folder`, which is written there.
pub(crate) fn recipe(folder: &Path, overrides: &[&str]) -> Recipe {
    write(&folder.join("train"), 48, 0);
    write(&folder.join("validation"), 32, 1000);
    let text = RECIPE.replace("FOLDER", &folder.display().to_string());
    Recipe::parse("halves.toml", &text, overrides).unwrap()
}

pub(crate) fn student(recipe: &Recipe) -> Student {
    Student::new(recipe, &|word| Err(format!("{word} is not here"))).unwrap()
}
