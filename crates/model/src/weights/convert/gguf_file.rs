//! A GGUF file: its metadata copied to the byte but for the file type, its matrices rounded.

use std::path::Path;
use std::sync::Arc;

use half::f16;

use super::output::Output;
use super::place::Place;
use super::round::{Scale, to_bf16, to_bytes};
use super::{ConvertError, Converted, Options, Progress, Target, is_quantised};
use crate::weights::bytes::Bytes;
use crate::weights::gguf::{Quantisation, RawFile, RawTensor};

/// Numbers in a block of Q8_0.
const BLOCK: usize = 32;

/// A tensor, and what it is written as.
struct Job<'a> {
    tensor: RawTensor<'a>,
    format: Quantisation,
    bytes: u64,
}

pub(super) fn convert(
    input: &Path,
    output: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Converted, ConvertError> {
    let target = options.target;
    let (format, file_type) = match target {
        Target::Bf16 => (Quantisation::BF16, 32),
        Target::Q8_0 => (Quantisation::Q8_0, 7),
        Target::Int8 => return Err(ConvertError::Target { path: input.to_owned(), target }),
    };
    let place = Place::check(input, output, options.replace)?;
    let bytes = Arc::new(Bytes::map(input)?);
    let file = RawFile::read(Arc::clone(&bytes))?;
    let mut jobs = Vec::new();
    for tensor in file.tensors() {
        let becomes = if is_matrix(&tensor, format) { format } else { tensor.format };
        let refused = becomes != tensor.format && is_quantised(tensor.format) && !options.requantise;
        if refused {
            let (file, tensor, format) = (bytes.file.clone(), tensor.name.to_owned(), tensor.format);
            return Err(ConvertError::Quantised { file, tensor, format, target });
        }
        let (length, size) = becomes.block();
        let numbers: usize = tensor.shape.iter().product();
        jobs.push(Job { tensor, format: becomes, bytes: (numbers / length * size) as u64 });
    }

    let mut report = Converted::empty();
    report.bytes_before = jobs.iter().map(|job| job.tensor.at.len() as u64).sum();
    let staged = place.stage_file()?;
    let open = staged.as_file().try_clone().map_err(ConvertError::write(&place.shown))?;
    let mut out = Output::over(open, staged.path(), &place.shown);
    header(&file, &bytes, &jobs, (format, file_type), &mut out)?;
    let mut done = 0;
    for job in &jobs {
        out.pad(file.alignment())?;
        let written = tensor(&file, job, &bytes, target)?;
        out.write(written.as_ref().map_or(&bytes[job.tensor.at.clone()], |(rounded, _)| rounded))?;
        report.bytes_after += job.bytes;
        report.count(job.tensor.name, written.map(|(_, loss)| loss));
        bytes.release(job.tensor.at.clone());
        done += job.tensor.at.len() as u64;
        progress(Progress { done, total: report.bytes_before });
    }
    // llama.cpp's reader expects the last tensor to be padded as well.
    out.pad(file.alignment())?;
    report.files.push(out.finish()?);
    RawFile::read(Arc::new(Bytes::map(staged.path())?))?;
    place.commit_file(staged)?;
    Ok(report)
}

/// Whether a tensor is a matrix that is multiplied, or a table of tokens, with rows of whole blocks. Tables of positions
/// are added, and kernels of convolutions have more dimensions; engines read both as f32 or f16 only.
fn is_matrix(tensor: &RawTensor<'_>, format: Quantisation) -> bool {
    tensor.shape.len() == 2
        && tensor.name.ends_with(".weight")
        && !tensor.name.contains("position_embd")
        && tensor.shape[1].is_multiple_of(format.block().0)
}

/// Magic, counts, metadata and the table of tensors.
fn header(
    file: &RawFile,
    bytes: &Bytes,
    jobs: &[Job<'_>],
    (format, file_type): (Quantisation, u64),
    out: &mut Output,
) -> Result<(), ConvertError> {
    out.write(b"GGUF")?;
    out.write(&file.version().to_le_bytes())?;
    out.write(&(jobs.len() as u64).to_le_bytes())?;
    out.write(&(file.pairs() as u64).to_le_bytes())?;
    let metadata = file.metadata_range();
    // What most of the file is, as a number of whatever width it has; rows without whole blocks may leave none of it.
    let changed = jobs.iter().any(|job| job.format == format);
    let at = file.place("general.file_type").filter(|at| changed && (1..=8).contains(&at.len()));
    match at {
        Some(at) => {
            out.write(&bytes[metadata.start..at.start])?;
            out.write(&file_type.to_le_bytes()[..at.len()])?;
            out.write(&bytes[at.end..metadata.end])?;
        }
        None => out.write(&bytes[metadata])?,
    }
    let mut offset = 0_u64;
    for job in jobs {
        let RawTensor { name, shape, .. } = &job.tensor;
        offset = offset.next_multiple_of(file.alignment());
        out.write(&(name.len() as u64).to_le_bytes())?;
        out.write(name.as_bytes())?;
        out.write(&(shape.len() as u32).to_le_bytes())?;
        for length in shape.iter().rev() {
            out.write(&(*length as u64).to_le_bytes())?;
        }
        out.write(&job.format.number().unwrap_or_default().to_le_bytes())?;
        out.write(&offset.to_le_bytes())?;
        offset += job.bytes;
    }
    Ok(())
}

/// The bytes of a tensor in its new format and what it lost; `None` if it stays as it is.
fn tensor(
    file: &RawFile,
    job: &Job<'_>,
    bytes: &Bytes,
    target: Target,
) -> Result<Option<(Vec<u8>, f64)>, ConvertError> {
    if job.format == job.tensor.format {
        return Ok(None);
    }
    let values = file.values(&job.tensor);
    if job.format == Quantisation::BF16 {
        let (rounded, deviation) = to_bf16(&values);
        return Ok(Some((rounded, deviation.relative())));
    }
    let scaled = to_bytes(&values, BLOCK, Scale::F16).ok_or_else(|| ConvertError::Unfit {
        file: bytes.file.clone(),
        tensor: job.tensor.name.to_owned(),
        target,
    })?;
    let mut blocks = Vec::with_capacity(job.bytes as usize);
    for (levels, scale) in scaled.levels.chunks(BLOCK).zip(&scaled.scales) {
        blocks.extend(f16::from_f32(*scale).to_le_bytes());
        blocks.extend(levels);
    }
    Ok(Some((blocks, scaled.deviation.relative())))
}
