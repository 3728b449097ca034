#![allow(clippy::unwrap_used)]
use super::testing::{Writer, text, tiny_llama};
use super::*;
use proptest::prelude::*;

fn open(writer: &Writer) -> Result<GgufFile, WeightsError> {
    GgufFile::from_bytes("tiny.gguf", writer.bytes())
}

fn error(writer: &Writer) -> String {
    open(writer).err().unwrap().to_string()
}

#[test]
fn tensors_have_hugging_face_names_and_row_order() {
    let file = open(&tiny_llama()).unwrap();
    let weights = file.weights().unwrap();
    assert_eq!(
        weights.names(),
        [
            "model.embed_tokens.weight",
            "model.layers.0.self_attn.k_proj.weight",
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.self_attn.v_proj.weight",
            "model.norm.weight",
        ]
    );
    let attention = weights.pp("model.layers.0.self_attn");
    let first_column = |name, rows| -> Vec<f32> {
        let tensor = attention.get((rows, 8), name).unwrap();
        tensor.to_vec2::<f32>().unwrap().iter().map(|row| row[0] / 8.0).collect()
    };
    // Heads of 4: rows 0 2 1 3 of each.
    assert_eq!(first_column("q_proj.weight", 8), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(first_column("k_proj.weight", 4), [0.0, 2.0, 1.0, 3.0]);
    assert_eq!(first_column("v_proj.weight", 4), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn biases_follow_their_rows() {
    let writer = tiny_llama().counting("blk.0.attn_q.bias", &[8]).counting("blk.0.attn_v.bias", &[4]);
    let file = open(&writer).unwrap();
    assert!(file.language_model().unwrap().attention_bias);
    let attention = file.weights().unwrap().pp("model.layers.0.self_attn");
    let bias = |name, length: usize| attention.get(length, name).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(bias("q_proj.bias", 8), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(bias("v_proj.bias", 4), [0.0, 1.0, 2.0, 3.0]);
    // One Q8_0 block of 32 as a bias.
    let quantised = tiny_llama().data(&[0; 512]).entry("blk.0.attn_q.bias", &[32], 8, 1024);
    let error = open(&quantised).unwrap().weights().unwrap_err().to_string();
    assert!(error.contains("tensor `blk.0.attn_q.bias`: type: a bias in Q8_0 is not supported"), "{error}");
}

#[test]
fn the_configuration_is_read_and_checked() {
    let config = open(&tiny_llama()).unwrap().language_model().unwrap();
    assert_eq!((config.vocabulary, config.head_width, config.rotary_width), (10, 4, 4));
    assert_eq!((config.heads, config.key_value_heads, config.rope_base), (2, 1, 10_000.0));
    assert!(config.tied_embeddings && !config.attention_bias);
    assert_eq!(config.rope_scaling, RopeScaling::None);

    let untied = tiny_llama().counting("output.weight", &[8, 10]).counting("rope_freqs.weight", &[2]);
    let config = open(&untied).unwrap().language_model().unwrap();
    assert!(!config.tied_embeddings);
    assert_eq!(config.rope_scaling, RopeScaling::Divisors(vec![0.0, 1.0]));

    let config = |writer: Writer| open(&writer).unwrap().language_model().err().unwrap().to_string();
    assert_eq!(
        config(Writer::default().text("general.architecture", "mamba")),
        "tiny.gguf: metadata `general.architecture`: `mamba` is not supported; supported: `llama`, `qwen2`, `phi3`"
    );
    assert_eq!(
        config(Writer::default().text("general.architecture", "llama").f32("llama.embedding_length", 8.0)),
        "tiny.gguf: metadata `llama.embedding_length`: is the number 8.0, expected a whole number, not negative"
    );
    assert_eq!(
        config(Writer::default().text("general.architecture", "llama").u32("llama.embedding_length", 0)),
        "tiny.gguf: metadata `llama.embedding_length`: is 0, expected 1 to 2147483648"
    );
}

#[test]
fn an_image_encoder_with_exchanged_layers_is_put_right() {
    let base = Writer::default().text("general.architecture", "clip").counting("v.blk.0.ln1.weight", &[4]);
    let usual = base.clone().counting("v.blk.0.ffn_up.weight", &[4, 16]);
    let swapped =
        base.counting("v.blk.0.ffn_down.weight", &[4, 16]).counting("v.blk.0.ffn_up.weight", &[16, 4]);
    for file in [usual, swapped] {
        let weights =
            open(&file).unwrap().weights().unwrap().pp("vision_tower.vision_model.encoder.layers.0");
        weights.get((16, 4), "mlp.fc1.weight").unwrap();
    }
}

#[test]
fn broken_headers_are_named() {
    let whole = tiny_llama().bytes();
    let with = |at: usize, bytes: &[u8]| {
        let mut broken = whole.clone();
        broken[at..at + bytes.len()].copy_from_slice(bytes);
        GgufFile::from_bytes("tiny.gguf", broken).err().unwrap().to_string()
    };
    assert_eq!(with(0, b"GGML"), "tiny.gguf: magic: is `GGML`, expected `GGUF`");
    assert!(with(4, &[1]).starts_with("tiny.gguf: version: 1 is not supported"));
    assert!(
        with(8, &u64::MAX.to_le_bytes()).starts_with("tiny.gguf: tensor count: is 18446744073709551615, but")
    );
    assert!(
        with(16, &(1u64 << 63).to_le_bytes())
            .starts_with("tiny.gguf: metadata count: is 9223372036854775808, but")
    );
    assert!(
        with(24, &u64::MAX.to_le_bytes())
            .starts_with("tiny.gguf: key 0 of 8: needs 18446744073709551615 bytes")
    );
}

#[test]
fn broken_metadata_is_named() {
    assert!(error(&Writer::default().u32("a", 1).u32("a", 2)).ends_with("metadata `a`: is given twice"));
    assert!(
        error(&Writer::default().pair("a", 13, &[]))
            .ends_with("metadata `a`: has value type 13, expected 0 to 12")
    );
    assert!(error(&Writer::default().pair("a", 7, &[2])).ends_with("metadata `a`: is not 0 or 1"));
    let head = [&4u32.to_le_bytes()[..], &(1u64 << 62).to_le_bytes()].concat();
    assert!(
        error(&Writer::default().pair("a", 9, &head))
            .contains("metadata `a`: the array's length: is 4611686018427387904")
    );
    let nested = [&9u32.to_le_bytes()[..], &[0; 8]].concat();
    assert!(error(&Writer::default().pair("a", 9, &nested)).contains("an array of arrays is not supported"));
    assert!(error(&Writer::default().u32("split.count", 3)).contains("`split.count`: `3` is not supported"));
    assert!(error(&Writer::default().u32("general.alignment", 3)).contains("is 3, expected a power of two"));
}

#[test]
fn broken_tensor_tables_are_named() {
    let data = [0; 64];
    let one =
        |shape: &[u64], kind, offset| error(&Writer::default().data(&data).entry("t", shape, kind, offset));
    assert!(one(&[], 0, 0).ends_with("tensor `t`: number of dimensions: is 0, expected 1 to 4"));
    assert!(one(&[1, 0], 0, 0).ends_with("tensor `t`: dimension 1: is 0, expected 1 or more"));
    assert!(one(&[1 << 40, 1 << 40], 0, 0).contains("are too many elements"));
    assert!(one(&[1 << 31, 1 << 31], 0, 0).contains("are too many elements"));
    assert!(one(&[16], 2, 0).ends_with("dimension 0: is 16, but Q4_0 comes in blocks of 32"));
    assert!(one(&[4], 17, 0).contains("tensor `t`: type: number 17 is not supported"));
    assert!(one(&[4], 0, 5).ends_with("tensor `t`: offset: is 5, not a multiple of 32"));
    assert!(one(&[17], 0, 0).contains("tensor `t`: has 68 bytes"));
    assert!(one(&[4], 0, u64::MAX - 31).contains("tensor `t`: has 16 bytes"));
    let pair = |name, offset| {
        error(&Writer::default().data(&data).entry("t", &[9], 0, 0).entry(name, &[4], 0, offset))
    };
    assert!(pair("u", 32).ends_with("tensor `u`: starts at 32, inside tensor `t`, which ends at 36"));
    assert!(pair("t", 48).ends_with("offset: is 48, not a multiple of 32"));
    let twice = Writer::default().data(&data).entry("t", &[8], 0, 0).entry("t", &[8], 0, 32);
    assert!(error(&twice).ends_with("tensor `t`: is given twice"));
}

#[test]
fn two_names_with_one_meaning_are_refused() {
    let writer = Writer::default().text("general.architecture", "clip");
    let writer = writer.counting("model.image_newline", &[4]).counting("v.image_newline", &[4]);
    assert!(open(&writer).unwrap().weights().unwrap_err().to_string().contains("both are `image_newline`"));
}

/// A vocabulary with the characters of "hi!" and byte tokens for the rest.
fn sentence_piece() -> Writer {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["▁", "h", "i", "▁h", "hi", "▁hi"].map(str::to_owned));
    let mut types = vec![2, 3, 3];
    types.extend([6; 256]);
    types.extend([1; 6]);
    let mut scores = vec![0.0; 3 + 256];
    scores.extend([-9.0, -9.0, -9.0, -2.0, -1.0, -3.0]);
    Writer::default()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &tokens.iter().map(String::as_str).collect::<Vec<_>>())
        .i32s("tokenizer.ggml.token_type", &types)
        .f32s("tokenizer.ggml.scores", &scores)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
}

/// A vocabulary of byte-level BPE; `Ġ` stands for a space.
fn byte_level() -> Writer {
    Writer::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "qwen2")
        .texts("tokenizer.ggml.tokens", &["<s>", "h", "i", "Ġ", "1", "2", "hi", "Ġhi", "<tool>"])
        .i32s("tokenizer.ggml.token_type", &[3, 1, 1, 1, 1, 1, 1, 1, 4])
        .texts("tokenizer.ggml.merges", &["h i", "Ġ hi"])
        .u32("tokenizer.ggml.bos_token_id", 0)
        .pair("tokenizer.ggml.add_bos_token", 7, &[1])
}

#[test]
fn user_defined_tokens_are_found_in_text_and_kept_in_it() {
    let tokenizer = open(&byte_level()).unwrap().tokenizer().unwrap().tokenizer;
    let encoding = tokenizer.encode("hi hi<tool>12", true).unwrap();
    assert_eq!(encoding.get_tokens(), ["<s>", "hi", "Ġhi", "<tool>", "1", "2"]);
    assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), "hi hi<tool>12");
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let tokenizer = open(&sentence_piece()).unwrap().tokenizer().unwrap();
    assert!(tokenizer.add_beginning);
    let ids = |text| tokenizer.tokenizer.encode(text, true).unwrap().get_ids().to_vec();
    let tokens = |text| tokenizer.tokenizer.encode(text, true).unwrap().get_tokens().to_vec();
    assert_eq!(tokens("hi"), ["<s>", "▁hi"]);
    // `é` is C3 A9 in UTF-8.
    assert_eq!(tokens("hi é</s>"), ["<s>", "▁hi", "▁", "<0xC3>", "<0xA9>", "</s>"]);
    assert_eq!(tokenizer.tokenizer.decode(&ids("hi é</s>"), true).unwrap(), "hi é");
}

#[test]
fn a_turn_ends_where_the_file_says_or_else_where_a_token_reads_so() {
    // As published Phi-3 files: the end of text is named, the end of a turn is not, and text may read like it.
    let tokens = ["<|endoftext|>", "<|end|>", "<|user|>", "<|im_end|>", "a"];
    let phi3 = |types: &[i32]| {
        let writer = Writer::default().text("tokenizer.ggml.model", "gpt2");
        let writer = writer.texts("tokenizer.ggml.tokens", &tokens).i32s("tokenizer.ggml.token_type", types);
        writer.texts("tokenizer.ggml.merges", &[]).u32("tokenizer.ggml.eos_token_id", 0)
    };
    let found = |writer: &Writer| {
        let file = open(writer).unwrap();
        (file.ends_of_turn().unwrap(), file.tokenizer().unwrap().end_of_turn)
    };
    assert_eq!(found(&phi3(&[3, 3, 3, 1, 1])), (vec![1], Some(1)));
    assert_eq!(found(&phi3(&[3, 4, 3, 3, 1])), (vec![1, 3], Some(1)));
    assert_eq!(found(&phi3(&[3, 1, 3, 1, 1])), (vec![], None));
    let named = phi3(&[3, 3, 3, 3, 1]).u32("tokenizer.ggml.eot_token_id", 2);
    assert_eq!(found(&named), (vec![2], Some(2)));
    assert!(open(&Writer::default()).unwrap().ends_of_turn().unwrap().is_empty());
}

#[test]
fn broken_vocabularies_are_named() {
    let error = |writer: Writer| open(&writer).unwrap().tokenizer().err().unwrap().to_string();
    let base = || Writer::default().text("tokenizer.ggml.model", "gpt2");
    let letters = || base().texts("tokenizer.ggml.tokens", &["a", "b", "ab"]);
    assert!(error(base()).contains("`tokenizer.ggml.tokens`: is missing, expected an array of texts"));
    assert!(
        error(base().texts("tokenizer.ggml.tokens", &["a", "a"]))
            .contains("has `a` as token 0 and again as 1")
    );
    assert!(
        error(letters().texts("tokenizer.ggml.merges", &["ab"]))
            .contains("line 0 is `ab`: expected two tokens")
    );
    // The library's builder would panic on this one.
    assert!(error(letters().texts("tokenizer.ggml.merges", &["ab ab"])).contains("`abab` is not a token"));
    assert!(
        error(letters().i32s("tokenizer.ggml.token_type", &[1, 1])).contains("has 2 entries for 3 tokens")
    );
    assert!(
        error(letters().i32s("tokenizer.ggml.token_type", &[1, 1, 9]))
            .contains("has type 9, expected 0 to 6")
    );
    let merged = || letters().texts("tokenizer.ggml.merges", &["a b"]);
    assert!(error(merged().u32("tokenizer.ggml.eot_token_id", 4)).contains("is 4, but there are 3 tokens"));
    assert!(error(merged().u32("tokenizer.ggml.eos_token_id", 3)).contains("is 3, but there are 3 tokens"));
    assert!(
        error(merged().text("tokenizer.ggml.pre", "tekken"))
            .contains("`tekken` is not supported; supported: `gpt-2`")
    );
    let array = [text("a"), vec![2, 0, 0, 0, 0, 0, 0, 0, 0xC3, 0x28]];
    let writer = base().array("tokenizer.ggml.tokens", 8, &array);
    assert!(
        error(writer).contains("is an array of 2 values of type Text, expected an array of texts in UTF-8")
    );
}

/// Opens whatever it is given and reads all there is to read.
fn exercise(bytes: Vec<u8>) {
    let Ok(file) = GgufFile::from_bytes("fuzzed", bytes) else { return };
    _ = file.language_model();
    _ = file.image_encoder();
    _ = file.tokenizer().map(|tokenizer| tokenizer.tokenizer.encode("hi é 12", true));
    if let Ok(weights) = file.weights() {
        for name in weights.names() {
            _ = weights.get(weights.shape(&name).unwrap(), &name).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..512)) {
        exercise([&b"GGUF\x03\0\0\0"[..], &tail].concat());
    }

    #[test]
    fn mutated_files_never_panic(
        kind in 0..3usize,
        cut in any::<prop::sample::Index>(),
        keep in prop::bool::weighted(0.7),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = [tiny_llama(), sentence_piece(), byte_level()][kind].bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !keep {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(bytes);
    }
}
