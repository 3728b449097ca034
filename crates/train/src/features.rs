//! Features of a frozen tower on the disk, so that it sees each picture once in a whole run.
//!
//! One file a picture, named by what decides its content: pixels, tower, hidden states. Values are f16. Nothing is thrown
//! out: shuffled epochs read every picture once before any a second time, which is the worst case for any rule of
//! forgetting; what does not fit any more is computed anew each time. A file that is torn or of another shape is computed
//! anew and replaced. Several runs may share a folder, at the same time or one after the other; each counts what it found
//! there and what it wrote.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use foveate_compress::{Features, Grid, StateDepth};
use foveate_model::vlm::Vlm;
use twox_hash::XxHash3_128;

use crate::student::Network;
use crate::{Result, TrainError, atomic, forward};

/// The age from which an unfinished file is nobody's any more: writing one takes milliseconds.
const UNFINISHED: Duration = Duration::from_secs(60);

/// A cache in a folder.
#[derive(Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    /// What identifies tower and states.
    tower: [u8; 32],
    states: Vec<StateDepth>,
    most: u64,
    bytes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl FeatureCache {
    /// The cache for the tower of `network` in `folder`, which may take `most` bytes.
    ///
    /// # Errors
    /// [`TrainError::Io`]; a tower that is trained, whose features do not last.
    pub fn open(folder: &Path, most: u64, network: &Network, vlm: &Vlm) -> Result<Self> {
        if network.trains_tower() {
            return Err(TrainError::field("feature_cache_bytes", most, "0 where the tower is trained"));
        }
        std::fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
        let mut bytes = 0;
        for entry in std::fs::read_dir(folder).map_err(TrainError::io(folder))? {
            let entry = entry.map_err(TrainError::io(folder))?;
            // Another run may have given a file its name since the folder was listed.
            let Ok(about) = entry.metadata() else { continue };
            let partial = entry.file_name().to_string_lossy().ends_with(atomic::PARTIAL);
            let age = about.modified().ok().and_then(|written| written.elapsed().ok());
            match partial {
                // Of a run that was killed; one that is being written is much younger.
                true if age.is_none_or(|age| age > UNFINISHED) => _ = std::fs::remove_file(entry.path()),
                true => {}
                false => bytes += about.len(),
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            tower: network.tower_identity()?,
            states: vlm.compressor().needs().states,
            most,
            bytes: bytes.into(),
            hits: 0.into(),
            misses: 0.into(),
        })
    }

    /// What [`forward::features`] gives for `pixels` `[pictures, 3, side, side]`, rounded to f16: computed for the pictures
    /// that are not here.
    ///
    /// # Errors
    /// Those of the tower; [`TrainError::Io`] for a disk that is full for another reason than the bound.
    pub fn features(&self, vlm: &Vlm, pixels: &Tensor) -> Result<Features> {
        let pictures = pixels.dim(0)?;
        let keys = (0..pictures).map(|at| self.key(&pixels.get(at)?)).collect::<Result<Vec<_>>>()?;
        let grid = vlm.grid();
        let mut found: Vec<Option<Vec<Tensor>>> = keys.iter().map(|key| self.read(key, grid)).collect();
        let missing: Vec<u32> = (0..pictures as u32).filter(|at| found[*at as usize].is_none()).collect();
        self.hits.fetch_add((pictures - missing.len()) as u64, Ordering::Relaxed);
        self.misses.fetch_add(missing.len() as u64, Ordering::Relaxed);
        if !missing.is_empty() {
            let seen = forward::features(
                vlm,
                &pixels.index_select(&Tensor::new(missing.as_slice(), &Device::Cpu)?, 0)?,
            )?;
            for (nth, at) in missing.iter().enumerate() {
                let states = self.states.iter().map(|depth| {
                    let state =
                        seen.patches(*depth).ok_or(candle_core::Error::Msg(format!("{depth} is missing")))?;
                    Ok(state.get(nth)?.to_dtype(DType::F16)?)
                });
                let states = states.collect::<Result<Vec<_>>>()?;
                self.write(&keys[*at as usize], &states)?;
                found[*at as usize] = Some(states);
            }
        }
        let mut features = Features::new(grid);
        for (nth, depth) in self.states.iter().enumerate() {
            let rows: Vec<Tensor> = found.iter().flatten().map(|states| states[nth].clone()).collect();
            features = features.with_state(*depth, Tensor::stack(&rows, 0)?.to_dtype(DType::F32)?)?;
        }
        Ok(features)
    }

    /// Pictures found here and pictures computed.
    pub fn statistics(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    fn key(&self, pixels: &Tensor) -> Result<String> {
        let mut bytes = self.tower.to_vec();
        bytes.extend_from_slice(format!("{:?} {:?}", self.states, pixels.dims()).as_bytes());
        bytes.extend(pixels.flatten_all()?.to_vec1::<f32>()?.iter().flat_map(|value| value.to_le_bytes()));
        Ok(format!("{:032x}", XxHash3_128::oneshot(&bytes)))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.safetensors"))
    }

    /// The states of a picture; `None` for whatever is wrong with the file.
    fn read(&self, key: &str, grid: Grid) -> Option<Vec<Tensor>> {
        let bytes = std::fs::read(self.path(key)).ok()?;
        let (content, sum) = bytes.split_last_chunk()?;
        if checksum(content) != *sum {
            return None;
        }
        let mut tensors = candle_core::safetensors::load_buffer(content, &Device::Cpu).ok()?;
        let state = |nth: usize| {
            let tensor = tensors.remove(&nth.to_string())?;
            (tensor.dtype() == DType::F16 && tensor.dims2().ok()?.0 == grid.patches()).then_some(tensor)
        };
        (0..self.states.len()).map(state).collect()
    }

    fn write(&self, key: &str, states: &[Tensor]) -> Result<()> {
        let named: HashMap<String, Tensor> =
            states.iter().enumerate().map(|(nth, state)| (nth.to_string(), state.clone())).collect();
        let path = self.path(key);
        let mut bytes =
            safetensors::serialize(&named, None).map_err(|error| TrainError::checkpoint(&path, error))?;
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let length = bytes.len() as u64;
        let replaced = std::fs::metadata(&path).map_or(0, |about| about.len());
        if self.bytes.load(Ordering::Relaxed).saturating_sub(replaced) + length > self.most {
            return Ok(());
        }
        // Its checksum shows whether it is whole, and it can be made again: no waiting for the disk.
        atomic::place(&path, |path| std::fs::write(path, &bytes)).map_err(TrainError::io(&path))?;
        self.bytes.fetch_add(length.saturating_sub(replaced), Ordering::Relaxed);
        Ok(())
    }
}

/// Against broken files, not forged ones.
fn checksum(content: &[u8]) -> [u8; 16] {
    XxHash3_128::oneshot(content).to_le_bytes()
}
