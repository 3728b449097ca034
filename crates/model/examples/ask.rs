//! Load a LLaVA and ask about an image with a budget of visual tokens; arguments: MODEL IMAGE QUESTION COMPRESSOR TOKENS
#![expect(clippy::print_stdout, reason = "an example shows its result")]
use std::{error::Error, ops::ControlFlow, path::Path, sync::Arc};

use candle_core::{Device, Tensor};
use foveate_data::image::{Limits, Preprocessor, decode_file};
use foveate_model::Dtype;
use foveate_model::generate::{GenerateOptions, Session};
use foveate_model::vlm::{Image, Segment, Viewer, Vlm};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [folder, file, question, method, tokens] = &given[..] else { return Err("five arguments".into()) };
    let folder = Path::new(folder);
    let coder = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json"))?;
    let ids = |text: &str, start| coder.encode(text, start).map(|encoded| encoded.get_ids().to_vec());
    let picture = decode_file(file.as_ref(), &Limits::default())?;
    let pixels = &Preprocessor::from_folder(folder)?.apply(&picture)?.tiles[0];
    let shape = (3, pixels.height, pixels.width);
    let image = Image::Single(Tensor::from_slice(&pixels.data, shape, &Device::Cpu)?);

    let viewer = Viewer::new(
        Vlm::open(folder, None, Dtype::AsStored)?.with_compressor(method.parse()?)?,
        Arc::default(),
    );
    let view = viewer.view(&image, Some(&ids(question, true)?), tokens.parse::<usize>()?.into())?;
    let behind = Segment::Tokens(ids(&format!("\n{question} ASSISTANT:"), false)?);
    let segments = [Segment::Tokens(ids("USER: ", true)?), Segment::Image, behind];
    let prompt = viewer.vlm().prompt(&segments, &[view.rows])?;
    let mut session = Session::new(viewer.vlm().decoder().clone());
    let go_on = |_: &str| ControlFlow::Continue(());
    println!("{}", session.generate(&prompt, &GenerateOptions::default(), &coder, go_on)?.text);
    Ok(())
}
