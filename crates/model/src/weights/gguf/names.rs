//! Tensor names of GGUF files and the Hugging Face names of the same tensors.
//!
//! Language models are shown as `LlamaForCausalLM` and its relatives have them (`model.layers.0.…`, `lm_head.weight`);
//! image encoders ("mmproj" files) as `LlavaForConditionalGeneration` has its parts (`vision_tower.vision_model.…`,
//! `multi_modal_projector.…`). A name that is in no table is kept as it is.

/// Names of the parts of a decoder block, and of those outside of blocks.
const DECODER_BLOCK: [(&str, &str); 13] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_gate_up", "mlp.gate_up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
const DECODER: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

const ENCODER_BLOCK: [(&str, &str); 8] = [
    ("ln1", "layer_norm1"),
    ("ln2", "layer_norm2"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_out", "self_attn.out_proj"),
    ("ffn_up", "mlp.fc1"),
    ("ffn_down", "mlp.fc2"),
];
const ENCODER: [(&str, &str); 4] = [
    ("v.patch_embd", "embeddings.patch_embedding"),
    ("v.position_embd", "embeddings.position_embedding"),
    // As transformers spells it.
    ("v.pre_ln", "pre_layrnorm"),
    ("v.post_ln", "post_layernorm"),
];
const PROJECTOR: [(&str, &str); 2] =
    [("mm.0", "multi_modal_projector.linear_1"), ("mm.2", "multi_modal_projector.linear_2")];

/// The Hugging Face name of a language model's tensor. `fused` is for Phi-3, whose `ffn_up` holds gate and up.
pub(super) fn decoder(stored: &str, fused: bool) -> Option<String> {
    let (stem, kind) = weight_or_bias(stored)?;
    if let Some(name) = look_up(&DECODER, stem) {
        return Some(format!("{name}.{kind}"));
    }
    let (layer, part) = block(stem.strip_prefix("blk.")?)?;
    let part = if fused && part == "ffn_up" { "ffn_gate_up" } else { part };
    Some(format!("model.layers.{layer}.{}.{kind}", look_up(&DECODER_BLOCK, part)?))
}

/// The Hugging Face name of an image encoder's or projector's tensor. `swapped` is for files whose `ffn_up` and
/// `ffn_down` are exchanged, as older converters wrote them.
pub(super) fn encoder(stored: &str, swapped: bool) -> Option<String> {
    match stored {
        "v.class_embd" => return Some("vision_tower.vision_model.embeddings.class_embedding".to_owned()),
        "model.image_newline" | "v.image_newline" => return Some("image_newline".to_owned()),
        _ => {}
    }
    let (stem, kind) = weight_or_bias(stored)?;
    if let Some(name) = look_up(&PROJECTOR, stem) {
        return Some(format!("{name}.{kind}"));
    }
    if let Some(name) = look_up(&ENCODER, stem) {
        return Some(format!("vision_tower.vision_model.{name}.{kind}"));
    }
    let (layer, part) = block(stem.strip_prefix("v.blk.")?)?;
    let part = match part {
        "ffn_up" if swapped => "ffn_down",
        "ffn_down" if swapped => "ffn_up",
        part => part,
    };
    let part = look_up(&ENCODER_BLOCK, part)?;
    Some(format!("vision_tower.vision_model.encoder.layers.{layer}.{part}.{kind}"))
}

fn weight_or_bias(stored: &str) -> Option<(&str, &str)> {
    stored.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))
}

/// `3.attn_q` → (`3`, `attn_q`).
fn block(rest: &str) -> Option<(&str, &str)> {
    rest.split_once('.')
        .filter(|(layer, _)| !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit()))
}

fn look_up<'a>(table: &[(&str, &'a str)], stem: &str) -> Option<&'a str> {
    table.iter().find(|(stored, _)| *stored == stem).map(|(_, name)| *name)
}

/// Whether the tensor's rows are channels that the rotary embedding turns.
pub(super) fn is_rotary(stored: &str) -> bool {
    let stem = weight_or_bias(stored).map_or(stored, |(stem, _)| stem);
    stem.ends_with(".attn_q") || stem.ends_with(".attn_k")
}

/// Which row of a `llama` file's q or k projection holds row `row` of the Hugging Face checkpoint.
///
/// The original Llama code rotates neighbouring pairs of a head's channels, transformers rotates channel i of the first
/// half with channel i of the second. llama.cpp keeps the former for the architecture `llama`, and its converter
/// interleaves the two halves of each head; this is the way back.
pub(super) fn rotary_source_row(row: usize, head_rows: usize) -> usize {
    let half = head_rows / 2;
    let (head, within) = (row / head_rows, row % head_rows);
    head * head_rows + within % half * 2 + within / half
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_decoders() {
        let name = |stored| decoder(stored, false).unwrap();
        assert_eq!(name("token_embd.weight"), "model.embed_tokens.weight");
        assert_eq!(name("output.weight"), "lm_head.weight");
        assert_eq!(name("blk.11.attn_q.bias"), "model.layers.11.self_attn.q_proj.bias");
        assert_eq!(name("blk.0.ffn_norm.weight"), "model.layers.0.post_attention_layernorm.weight");
        assert_eq!(name("blk.0.ffn_up.weight"), "model.layers.0.mlp.up_proj.weight");
        assert_eq!(decoder("blk.0.ffn_up.weight", true).unwrap(), "model.layers.0.mlp.gate_up_proj.weight");
        for unknown in
            ["rope_freqs.weight", "blk.x.attn_q.weight", "blk..attn_q.weight", "blk.0.attn_q", "blk.0", ""]
        {
            assert_eq!(decoder(unknown, false), None, "{unknown}");
        }
    }

    #[test]
    fn names_of_encoders() {
        let name = |stored| encoder(stored, false).unwrap();
        assert_eq!(
            name("v.patch_embd.weight"),
            "vision_tower.vision_model.embeddings.patch_embedding.weight"
        );
        assert_eq!(name("v.pre_ln.bias"), "vision_tower.vision_model.pre_layrnorm.bias");
        assert_eq!(name("mm.2.weight"), "multi_modal_projector.linear_2.weight");
        assert_eq!(
            name("v.blk.3.ffn_up.weight"),
            "vision_tower.vision_model.encoder.layers.3.mlp.fc1.weight"
        );
        let swapped = encoder("v.blk.3.ffn_up.weight", true).unwrap();
        assert_eq!(swapped, "vision_tower.vision_model.encoder.layers.3.mlp.fc2.weight");
    }

    #[test]
    fn rotary_rows_undo_the_interleaving() {
        // Two heads of six rows. The converter's output row for channel i of half h is 2i + h.
        let converted: Vec<usize> = vec![0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11];
        let restored: Vec<usize> = (0..12).map(|row| converted[rotary_source_row(row, 6)]).collect();
        assert_eq!(restored, (0..12).collect::<Vec<_>>());
    }
}
